import { Random } from '../../packages/quant-core/src/tensor/random.js';
import { sizeOf, Tensor } from '../../packages/quant-core/src/tensor/tensor.js';

/** Standard normal values from a seed. */
export function randomTensor(shape: readonly number[], seed: number): Tensor<'float32'> {
  const random = Random.for(seed, 'benchmark input');
  return Tensor.float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );
}

/** Middle of the sorted values; the lower of the two for an even count. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[(sorted.length - 1) >> 1];
  if (middle === undefined) throw new Error('the median of no values was asked for');
  return middle;
}
