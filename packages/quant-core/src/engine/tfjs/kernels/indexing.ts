import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import { sizeOf, stridesOf } from '../../../tensor/tensor.js';
import { heldAs } from '../operand.js';
import { scatterElements } from './host.js';
import { axisOf, type Call, type Kernel, lacking, operand, type Result, tensorAt } from './kernel.js';

/** Elements by index. ONNX counts negative indices from the end, and has them per element: mostly plain JavaScript. */

const inside = (index: number, size: number): number => {
  const at = index < 0 ? index + size : index;
  if (at < 0 || at >= size) throw new Error(`index ${index} is outside of an axis of ${size}`);
  return at;
};

const gatherElements: Kernel<'GatherElements'> = (call) => {
  const { tf, node } = call;
  const [data, index] = [tensorAt(call, 0), operand(call, 1)];
  const axis = axisOf(node.attr('axis'), data.rank);
  const [from, to] = [stridesOf(data.shape), stridesOf(index.shape)];
  const elements = data.dataSync();
  const out = new (data.dtype === 'float32' ? Float32Array : Int32Array)(index.numbers.length);
  index.numbers.forEach((at, i) => {
    let position = 0;
    let rest = i;
    for (let k = 0; k < to.length; k++) {
      const coordinate = Math.floor(rest / (to[k] as number));
      rest -= coordinate * (to[k] as number);
      position += (k === axis ? inside(at, data.shape[axis] as number) : coordinate) * (from[k] as number);
    }
    out[i] = elements[position] as number;
  });
  return tf.tensor(out, index.shape, data.dtype as 'float32');
};

/** Position of the slice that each tuple of indices names, after `batch` leading axes that indices and data share. */
function slicePositions(tuples: readonly number[], depth: number, shape: readonly number[], batch: number): number[] {
  const steps = stridesOf(shape);
  const rows = sizeOf(shape.slice(0, batch));
  const perRow = tuples.length / depth / Math.max(1, rows);
  const rowSize = sizeOf(shape.slice(batch));
  return Array.from({ length: tuples.length / depth }, (_, i) => {
    let position = Math.floor(i / perRow) * rowSize;
    for (let k = 0; k < depth; k++)
      position += inside(tuples[i * depth + k] as number, shape[batch + k] as number) * (steps[batch + k] as number);
    return position;
  });
}

const gatherND: Kernel<'GatherND'> = (call) => {
  const { tf, node } = call;
  const [data, index] = [tensorAt(call, 0), operand(call, 1)];
  const batch = node.attr('batch_dims');
  const depth = index.shape.at(-1) as number;
  const inner = data.shape.slice(batch + depth);
  const size = sizeOf(inner);
  const rows = slicePositions(index.numbers, depth, data.shape, batch).map((position) => position / Math.max(1, size));
  const flat = tf.reshape(data, [data.size / size, size]);
  return tf.reshape(tf.gather(flat, tf.tensor1d(Int32Array.from(rows), 'int32'), 0), [...index.shape.slice(0, -1), ...inner]);
};

const combine: Record<string, (old: number, update: number) => number> = {
  none: (_, update) => update,
  add: (old, update) => old + update,
  mul: (old, update) => old * update,
  max: Math.max,
  min: Math.min,
};

const scatterND: Kernel<'ScatterND'> = (call) => {
  const { tf, node } = call;
  const [data, index, updates] = [tensorAt(call, 0), operand(call, 1), tensorAt(call, 2)];
  const depth = index.shape.at(-1) as number;
  const size = sizeOf(data.shape.slice(depth));
  const f = combine[node.attr('reduction')];
  if (!f) throw lacking(node, `reduction "${node.attr('reduction')}"`);
  const out = data.dataSync().slice() as Float32Array;
  const values = updates.dataSync();
  slicePositions(index.numbers, depth, data.shape, 0).forEach((position, i) => {
    for (let k = 0; k < size; k++) out[position + k] = f(out[position + k] as number, values[i * size + k] as number);
  });
  return tf.tensor(out, data.shape, data.dtype as 'float32');
};

const scatter: Kernel<'ScatterElements'> = (call) => {
  const f = combine[call.node.attr('reduction')];
  if (!f) throw lacking(call.node, `reduction "${call.node.attr('reduction')}"`);
  const data = tensorAt(call, 0);
  return scatterElements(call.tf, data, tensorAt(call, 1), tensorAt(call, 2), axisOf(call.node.attr('axis'), data.rank), f);
};

/** The first of equals comes first. */
const topK: Kernel<'TopK'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const k = operand(call, 1).numbers[0] as number;
  const axis = axisOf(node.attr('axis'), x.rank);
  const [size, step] = [x.shape[axis] as number, stridesOf(x.shape)[axis] as number];
  const data = x.dataSync();
  const sign = node.attr('largest') ? -1 : 1;
  const shape = x.shape.map((dim, i) => (i === axis ? k : dim));
  const values = data.slice(0, sizeOf(shape)) as Float32Array;
  const indices = new Int32Array(values.length);
  for (let lane = 0; lane < x.size / size; lane++) {
    const [outer, inner] = [Math.floor(lane / step), lane % step];
    const at = (place: number) => data[outer * size * step + place * step + inner] as number;
    const order = Array.from({ length: size }, (_, i) => i).sort((a, b) => sign * (at(a) - at(b)) || a - b);
    for (let i = 0; i < k; i++) {
      const to = outer * k * step + i * step + inner;
      values[to] = at(order[i] as number);
      indices[to] = order[i] as number;
    }
  }
  const results: Result[] = [
    { tensor: tf.tensor(values, shape, x.dtype as 'float32') },
    { tensor: tf.tensor(indices, shape, 'int32'), dtype: 'int64' },
  ];
  return results;
};

/** Index of the largest or smallest element: the first one, or the last. */
const extreme =
  <K extends 'ArgMax' | 'ArgMin'>(smallest: boolean): Kernel<K> =>
  (given) => {
    const call: Call<'ArgMax' | 'ArgMin'> = given;
    const { tf, node } = call;
    const x = tensorAt(call, 0);
    const axis = axisOf(node.attr('axis'), x.rank);
    const last = node.attr('select_last_index') === 1;
    const ordered = last ? tf.reverse(x, axis) : x;
    const found = smallest ? tf.argMin(ordered, axis) : tf.argMax(ordered, axis);
    const index = last ? tf.sub(tf.scalar((x.shape[axis] as number) - 1, 'int32'), found) : found;
    return [{ tensor: node.attr('keepdims') ? tf.expandDims(index, axis) : index, dtype: 'int64' }];
  };

const range: Kernel<'Range'> = (call) => {
  const [start, limit, delta] = [0, 1, 2].map((port) => operand(call, port).numbers[0] as number) as [number, number, number];
  const { dtype } = operand(call, 0);
  const values = Array.from({ length: Math.max(0, Math.ceil((limit - start) / delta)) }, (_, i) => start + i * delta);
  return call.tf.tensor1d(values, heldAs(dtype) as 'float32');
};

/** Indices out of range give a row without a one. */
const oneHot: Kernel<'OneHot'> = (call) => {
  const { tf, node } = call;
  const [index, values] = [operand(call, 0), operand(call, 2)];
  const depth = operand(call, 1).numbers[0] as number;
  const axis = axisOf(node.attr('axis'), index.shape.length + 1);
  const [off, on] = values.numbers as [number, number];
  const inner = sizeOf(index.shape.slice(axis));
  const out = new Array<number>(index.numbers.length * depth).fill(off);
  index.numbers.forEach((at, i) => {
    const place = at < 0 ? at + depth : at;
    if (place >= 0 && place < depth) out[Math.floor(i / inner) * depth * inner + place * inner + (i % inner)] = on;
  });
  const shape = [...index.shape.slice(0, axis), depth, ...index.shape.slice(axis)];
  return [{ tensor: tf.tensor(out, shape, heldAs(values.dtype) as 'float32') as Tf.Tensor, dtype: values.dtype }];
};

export const indexing = {
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterND: scatterND,
  ScatterElements: scatter,
  TopK: topK,
  ArgMax: extreme(false),
  ArgMin: extreme(true),
  Range: range,
  OneHot: oneHot,
} satisfies { [K in OpType]?: Kernel<K> };
