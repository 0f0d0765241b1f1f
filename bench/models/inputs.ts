import { bytesOf, npy } from '../../packages/quant-core/src/data/testing/files.js';
import { zip } from '../../packages/quant-core/src/data/testing/zip.js';
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

/** An .npz of `count` smooth images [3, side, side] in float32 without labels: a coarse grid of 7×7 random values, drawn out between them. */
export function smoothImages(count: number, side: number): Buffer {
  const coarse = 7;
  const data = new Float32Array(count * 3 * side * side);
  const random = Random.for(5, 'smooth images');
  const at = Array.from({ length: side }, (_, i) => (i * (coarse - 1)) / (side - 1));
  for (let plane = 0; plane < count * 3; plane++) {
    const grid = Float32Array.from({ length: coarse * coarse }, () => random.normal());
    const value = (y: number, x: number) => grid[Math.min(coarse - 1, y) * coarse + Math.min(coarse - 1, x)] as number;
    for (let i = 0; i < side; i++) {
      for (let j = 0; j < side; j++) {
        const [y, x] = [Math.floor(at[i] as number), Math.floor(at[j] as number)];
        const [v, u] = [(at[i] as number) - y, (at[j] as number) - x];
        const upper = (1 - u) * value(y, x) + u * value(y, x + 1);
        const lower = (1 - u) * value(y + 1, x) + u * value(y + 1, x + 1);
        data[(plane * side + i) * side + j] = (1 - v) * upper + v * lower;
      }
    }
  }
  return zip([{ name: 'x.npy', data: npy('<f4', [count, 3, side, side], bytesOf(data)) }]);
}
