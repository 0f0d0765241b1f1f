import type * as Tf from '@tensorflow/tfjs-core';
import { sizeOf, stridesOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';

/** Kernels in plain JavaScript, for what TF.js has no kernel for, or none with the meaning of ONNX. */

/** The shape that two shapes are broadcast to. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const [x, y] = [a[axis - rank + a.length] ?? 1, b[axis - rank + b.length] ?? 1];
    if (x !== y && x !== 1 && y !== 1) throw new Error(`shapes [${a}] and [${b}] do not broadcast`);
    return x === 1 ? y : x;
  });
}

/** For each element of `shape` in order, the position in a tensor of shape `from` that is broadcast to it. */
function positions(from: readonly number[], shape: readonly number[]): Int32Array {
  const steps = stridesOf(from);
  const lead = shape.length - from.length;
  const own = shape.map((_, axis) => (axis < lead || from[axis - lead] === 1 ? 0 : (steps[axis - lead] as number)));
  const out = new Int32Array(sizeOf(shape));
  const at = new Array<number>(shape.length).fill(0);
  let position = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = position;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      position += own[axis] as number;
      const next = (at[axis] as number) + 1;
      if (next < (shape[axis] as number)) {
        at[axis] = next;
        break;
      }
      position -= next * (own[axis] as number);
      at[axis] = 0;
    }
  }
  return out;
}

/** `f` of every pair of elements, broadcast. */
export function pairwise(
  tf: TfModule,
  a: Tf.Tensor,
  b: Tf.Tensor,
  f: (x: number, y: number) => number,
  dtype: 'int32' | 'bool' | 'float32' = 'int32',
): Tf.Tensor {
  const shape = broadcastShape(a.shape, b.shape);
  const [x, y] = [a.dataSync(), b.dataSync()];
  const [at, bt] = [positions(a.shape, shape), positions(b.shape, shape)];
  const out = new { bool: Uint8Array, int32: Int32Array, float32: Float32Array }[dtype](at.length);
  for (let i = 0; i < out.length; i++) out[i] = f(x[at[i] as number] as number, y[bt[i] as number] as number);
  return tf.tensor(out, shape, dtype);
}

/** `f` of every element. */
export function each(tf: TfModule, x: Tf.Tensor, f: (v: number) => number): Tf.Tensor {
  const values = x.dataSync() as Float32Array;
  return tf.tensor(values.map(f), x.shape, x.dtype);
}

/**
 * ONNX ScatterElements: `out = data`, then for each element of `updates` at some place, the element of `out` at that place with the
 * coordinate on `axis` taken from `indices` is combined with it.
 */
export function scatterElements(
  tf: TfModule,
  data: Tf.Tensor,
  indices: Tf.Tensor,
  updates: Tf.Tensor,
  axis: number,
  combine: (old: number, update: number) => number,
): Tf.Tensor {
  const out = data.dataSync().slice() as Float32Array;
  const [where, what] = [indices.dataSync(), updates.dataSync()];
  const steps = stridesOf(data.shape);
  const size = data.shape[axis] as number;
  const step = steps[axis] as number;
  const at = new Array<number>(indices.shape.length).fill(0);
  let base = 0;
  for (let i = 0; i < where.length; i++) {
    let index = where[i] as number;
    if (index < 0) index += size;
    if (index < 0 || index >= size) throw new Error(`index ${where[i]} is outside of an axis of ${size}`);
    const to = base + index * step;
    out[to] = combine(out[to] as number, what[i] as number);
    for (let k = at.length - 1; k >= 0; k--) {
      const own = k === axis ? 0 : (steps[k] as number);
      base += own;
      const next = (at[k] as number) + 1;
      if (next < (indices.shape[k] as number)) {
        at[k] = next;
        break;
      }
      base -= next * own;
      at[k] = 0;
    }
  }
  return tf.tensor(out, data.shape, data.dtype);
}
