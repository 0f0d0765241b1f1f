import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import { sizeOf, stridesOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';
import { type Kernel, lacking, operand, tensorAt } from './kernel.js';
import { padded } from './movement.js';
import { type Window, windowOf } from './window.js';

/** Every position of a window of sizes `shape`, last axis fastest. */
const positions = (shape: readonly number[]): number[][] =>
  shape.reduce<number[][]>((all, size) => all.flatMap((head) => Array.from({ length: size }, (_, i) => [...head, i])), [[]]);

/** Whether TF.js pools this: two axes, no dilation. */
const plain = ({ kernel, dilations }: Window) => kernel.length === 2 && dilations.every((d) => d === 1);

type Pool = (image: Tf.Tensor4D, kernel: [number, number], strides: [number, number]) => Tf.Tensor;

/** A pooling of TF.js, which has images with the channels last, over an image that is padded with `value`. */
function pooled(tf: TfModule, x: Tf.Tensor, w: Window, value: number, pool: Pool): Tf.Tensor {
  const image = padded(tf, tf.transpose(x, [0, 2, 3, 1]), [0, ...w.begin, 0], [0, ...w.end, 0], value) as Tf.Tensor4D;
  const y = tf.transpose(pool(image, w.kernel as [number, number], w.strides as [number, number]), [0, 3, 1, 2]);
  // After the last window the image may be longer than `ceil_mode` wants it.
  return tf.slice(y, [0, 0, 0, 0], [...y.shape.slice(0, 2), ...w.out]);
}

/** Where each window's taps lie in the unpadded image, -1 for padding: one list a position. */
function tapsOf(w: Window, spatial: readonly number[]): Int32Array[] {
  const steps = stridesOf(spatial);
  const taps = positions(w.kernel);
  return positions(w.out).map((at) =>
    Int32Array.from(taps, (tap) => {
      let index = 0;
      for (let axis = 0; axis < tap.length; axis++) {
        const place =
          (at[axis] as number) * (w.strides[axis] as number) +
          (tap[axis] as number) * (w.dilations[axis] as number) -
          (w.begin[axis] as number);
        if (place < 0 || place >= (spatial[axis] as number)) return -1;
        index += place * (steps[axis] as number);
      }
      return index;
    }),
  );
}

/** The largest element of each window and its place in the whole tensor, the first of equals, as ONNX Runtime names it. */
function maxima(tf: TfModule, x: Tf.Tensor, w: Window): { values: Tf.Tensor; indices: Tf.Tensor } {
  const spatial = x.shape.slice(2);
  const size = sizeOf(spatial);
  const planes = x.size / Math.max(1, size);
  const taps = tapsOf(w, spatial);
  const data = x.dataSync() as Float32Array;
  const values = new Float32Array(planes * taps.length);
  const indices = new Int32Array(values.length);
  let at = 0;
  for (let plane = 0; plane < planes; plane++) {
    const base = plane * size;
    for (const window of taps) {
      let best = Number.NEGATIVE_INFINITY;
      let where = -1;
      for (const tap of window) {
        if (tap < 0) continue;
        const v = data[base + tap] as number;
        if (where < 0 || v > best) {
          best = v;
          where = base + tap;
        }
      }
      values[at] = best;
      indices[at++] = where;
    }
  }
  const shape = [...x.shape.slice(0, 2), ...w.out];
  return { values: tf.tensor(values, shape, x.dtype as 'float32'), indices: tf.tensor(indices, shape, 'int32') };
}

const maxPool: Kernel<'MaxPool'> = (call) => {
  const { tf, node } = call;
  const x = operand(call, 0);
  if (node.attr('storage_order')) throw lacking(node, 'storage_order 1 is not known here');
  const window = windowOf(node, node.attr('kernel_shape'), x.shape.slice(2));
  if (node.outputs.length < 2 && plain(window) && !x.isWide)
    return pooled(tf, x.tensor, window, Number.NEGATIVE_INFINITY, (image, kernel, strides) => tf.maxPool(image, kernel, strides, 'valid'));
  const { values, indices } = maxima(tf, x.tensor, window);
  return [{ tensor: values }, { tensor: indices, dtype: 'int64' }].slice(0, node.outputs.length) as { tensor: Tf.Tensor }[];
};

/** The sum over each window by its taps, over the number of elements that count. */
const averagePool: Kernel<'AveragePool'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const w = windowOf(node, node.attr('kernel_shape'), x.shape.slice(2));
  const spatial = x.shape.slice(2);
  const share = tf.tensor(sharesOf(w, spatial, node.attr('count_include_pad') === 1, node.attr('pads')), [1, 1, ...w.out]);
  const taps = sizeOf(w.kernel);
  if (plain(w)) {
    const mean = pooled(tf, x, w, 0, (image, kernel, strides) => tf.avgPool(image, kernel, strides, 'valid'));
    return tf.mul(mean, tf.mul(share, taps));
  }
  const flat = tf.pad(tf.reshape(x, [x.shape[0] as number, x.shape[1] as number, sizeOf(spatial)]), [
    [0, 0],
    [0, 0],
    [0, 1],
  ]);
  // Padding reads the zero after the image.
  const places = tapsOf(w, spatial).flatMap((window) => Array.from(window, (tap) => (tap < 0 ? sizeOf(spatial) : tap)));
  const windows = tf.gather(flat, tf.tensor1d(Int32Array.from(places), 'int32'), 2);
  const sums = tf.sum(tf.reshape(windows, [...x.shape.slice(0, 2), ...w.out, taps]), w.out.length + 2);
  return tf.mul(sums, share);
};

/** One over the number of elements that each window averages. What `ceil_mode` adds after the padding never counts. */
function sharesOf(w: Window, spatial: readonly number[], includePad: boolean, pads: readonly number[] | undefined): Float32Array {
  const rank = spatial.length;
  const taps = positions(w.kernel);
  return Float32Array.from(positions(w.out), (at) => {
    const counted = taps.filter((tap) =>
      tap.every((k, axis) => {
        const place = (at[axis] as number) * (w.strides[axis] as number) + k * (w.dilations[axis] as number) - (w.begin[axis] as number);
        const size = spatial[axis] as number;
        return includePad ? place < size + (pads?.[axis + rank] ?? (w.end[axis] as number)) : place >= 0 && place < size;
      }),
    );
    return 1 / Math.max(1, counted.length);
  });
}

export const pooling = { MaxPool: maxPool, AveragePool: averagePool } satisfies { [K in OpType]?: Kernel<K> };
