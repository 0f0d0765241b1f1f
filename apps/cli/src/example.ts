import { fileURLToPath } from 'node:url';

/** The example that comes with Octet: a float model, training and test images of Fashion-MNIST. */
export function exampleDirectory(): string {
  return fileURLToPath(new URL('../../../examples/fashion-mnist', import.meta.url));
}
