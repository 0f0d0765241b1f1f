import { bytesOf, npy } from '../packages/quant-core/src/data/testing/files.js';
import { zip } from '../packages/quant-core/src/data/testing/zip.js';
import type { Tensor } from '../packages/quant-core/src/tensor/tensor.js';
import { randomTensor } from './models/inputs.js';
import { classes } from './models/networks.js';

/** An .npz of `count` samples, standard normal in float32 or bytes, with labels in turn. */
export function npzOf(count: number, sample: readonly number[], dtype: 'float32' | 'uint8' = 'float32'): Buffer {
  const x: Tensor<'float32'> = randomTensor([count, ...sample], 11);
  const stored =
    dtype === 'float32'
      ? npy('<f4', x.shape, bytesOf(x.data))
      : npy('|u1', x.shape, bytesOf(Uint8Array.from(x.data, (value) => 128 + 40 * value)));
  const labels = Int32Array.from({ length: count }, (_, row) => row % classes);
  return zip([
    { name: 'x.npy', data: stored },
    { name: 'y.npy', data: npy('<i4', [count], bytesOf(labels)) },
  ]);
}
