import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import { allocate, type DType } from '../../../tensor/dtype.js';
import { sizeOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';
import { heldAs, type Operand, upload } from '../operand.js';
import { broadcastShape } from './host.js';
import { axisOf, type Kernel, lacking, operand, tensorAt } from './kernel.js';

/** Zero (or `value`) padding; below zero it crops. `begin` and `end` for each axis. */
export function padded(tf: TfModule, x: Tf.Tensor, begin: readonly number[], end: readonly number[], value = 0): Tf.Tensor {
  let out = x;
  if ([...begin, ...end].some((p) => p < 0)) {
    const from = begin.map((p) => Math.max(0, -p));
    out = tf.slice(
      out,
      from,
      out.shape.map((size, axis) => size - (from[axis] as number) - Math.max(0, -(end[axis] as number))),
    );
  }
  if (![...begin, ...end].some((p) => p > 0)) return out;
  return tf.pad(
    out,
    begin.map((p, axis): [number, number] => [Math.max(0, p), Math.max(0, end[axis] as number)]),
    value,
  );
}

/** Elements of `x` on `axis` at `index`, in that order. */
export const taken = (tf: TfModule, x: Tf.Tensor, index: readonly number[], axis: number): Tf.Tensor =>
  tf.gather(x, tf.tensor1d(Int32Array.from(index), 'int32'), axis);

/** Where each place of an axis that is padded by other than a constant comes from. */
function sources(mode: string, size: number, begin: number, end: number): number[] {
  const fold = (at: number): number => {
    if (mode === 'edge') return Math.min(size - 1, Math.max(0, at));
    if (mode === 'wrap') return ((at % size) + size) % size;
    if (size === 1) return 0;
    const period = 2 * (size - 1);
    const inside = ((at % period) + period) % period;
    return inside < size ? inside : period - inside;
  };
  return Array.from({ length: begin + size + end }, (_, i) => fold(i - begin));
}

const pad: Kernel<'Pad'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const pads = operand(call, 1).numbers;
  const axes = (call.inputs[3]?.numbers ?? x.shape.map((_, axis) => axis)).map((axis) => axisOf(axis, x.rank));
  const begin = new Array<number>(x.rank).fill(0);
  const end = new Array<number>(x.rank).fill(0);
  axes.forEach((axis, i) => {
    begin[axis] = pads[i] as number;
    end[axis] = pads[i + axes.length] as number;
  });
  const mode = node.attr('mode');
  if (mode === 'constant') return padded(tf, x, begin, end, call.inputs[2]?.numbers[0] ?? 0);
  return axes.reduce(
    (out, axis) => taken(tf, out, sources(mode, x.shape[axis] as number, begin[axis] as number, end[axis] as number), axis),
    x,
  );
};

const slice: Kernel<'Slice'> = (call) => {
  const { tf } = call;
  const x = tensorAt(call, 0);
  const [starts, ends] = [operand(call, 1).numbers, operand(call, 2).numbers];
  const axes = (call.inputs[3]?.numbers ?? starts.map((_, i) => i)).map((axis) => axisOf(axis, x.rank));
  const steps = call.inputs[4]?.numbers ?? axes.map(() => 1);
  const begin = new Array<number>(x.rank).fill(0);
  const size = [...x.shape];
  const strided: [axis: number, index: number[]][] = [];
  axes.forEach((axis, i) => {
    const dim = x.shape[axis] as number;
    const step = steps[i] as number;
    const within = (at: number, least: number, most: number) => Math.min(most, Math.max(least, at < 0 ? at + dim : at));
    const [from, to] =
      step > 0
        ? [within(starts[i] as number, 0, dim), within(ends[i] as number, 0, dim)]
        : [within(starts[i] as number, 0, dim - 1), within(ends[i] as number, -1, dim - 1)];
    const count = Math.max(0, Math.ceil((to - from) / step));
    if (step === 1) {
      begin[axis] = from;
      size[axis] = count;
    } else {
      strided.push([axis, Array.from({ length: count }, (_, k) => from + k * step)]);
    }
  });
  const whole = size.every((n, axis) => n === x.shape[axis]);
  return strided.reduce((out, [axis, index]) => taken(tf, out, index, axis), whole ? x : tf.slice(x, begin, size));
};

/** The target of a Reshape: 0 keeps a size, -1 is what is left. */
function target(wish: readonly number[], from: readonly number[], zeroIsZero: boolean): number[] {
  const shape = wish.map((size, axis) => (size === 0 && !zeroIsZero ? (from[axis] as number) : size));
  const open = shape.indexOf(-1);
  if (open >= 0) shape[open] = sizeOf(from) / sizeOf(shape.filter((_, axis) => axis !== open));
  return shape;
}

/** ONNX Split: stated sizes, or equal parts of which the last may be smaller. */
const split: Kernel<'Split'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const axis = axisOf(node.attr('axis'), x.rank);
  const dim = x.shape[axis] as number;
  const count = node.outputs.length;
  const part = Math.ceil(dim / count);
  const sizes = call.inputs[1]?.numbers ?? Array.from({ length: count }, (_, i) => Math.min(part, dim - i * part));
  let at = 0;
  return sizes.map((size) => {
    const begin = x.shape.map((_, i) => (i === axis ? at : 0));
    at += size;
    return {
      tensor: tf.slice(
        x,
        begin,
        x.shape.map((whole, i) => (i === axis ? size : whole)),
      ),
    };
  });
};

const gather: Kernel<'Gather'> = (call) => {
  const { tf, node } = call;
  const [x, index] = [tensorAt(call, 0), operand(call, 1)];
  const axis = axisOf(node.attr('axis'), x.rank);
  const dim = x.shape[axis] as number;
  const places = index.numbers.map((at) => (at < 0 ? at + dim : at));
  const outside = places.find((at) => at < 0 || at >= dim);
  if (outside !== undefined) throw new Error(`index ${outside} is outside of an axis of ${dim}`);
  return tf.reshape(taken(tf, x, places, axis), [...x.shape.slice(0, axis), ...index.shape, ...x.shape.slice(axis + 1)]);
};

/** Floats lose their fraction, integers the bits that do not fit. */
function cast(tf: TfModule, x: Operand, to: DType): Tf.Tensor {
  const type = heldAs(to);
  if (to === 'bool') return tf.notEqual(x.tensor, tf.zerosLike(x.tensor));
  if (x.dtype === to) return x.tensor;
  if (to === 'float32' || x.dtype === 'bool') return tf.cast(x.tensor, type);
  if (x.isFloat) return tf.cast(tf.cast(x.tensor, 'int32'), type);
  if (type === 'int32') return tf.cast(x.tensor, type);
  const wrapped = allocate(to, x.tensor.size) as Int8Array;
  wrapped.set(x.tensor.dataSync());
  return tf.tensor(Float32Array.from(wrapped), x.shape, type);
}

const onAxes = (axes: readonly number[] | undefined, rank: number) => axes?.map((axis) => axisOf(axis, rank));

export const movement = {
  Flatten: (call) => {
    const x = tensorAt(call, 0);
    const axis = axisOf(call.node.attr('axis'), x.rank);
    return call.tf.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]);
  },
  Reshape: (call) => {
    const x = tensorAt(call, 0);
    return call.tf.reshape(x, target(operand(call, 1).numbers, x.shape, call.node.attr('allowzero') === 1));
  },
  Transpose: (call) => {
    const perm = call.node.attr('perm');
    return call.tf.transpose(tensorAt(call, 0), perm && [...perm]);
  },
  Squeeze: (call) => {
    const x = tensorAt(call, 0);
    const axes = onAxes(call.inputs[1]?.numbers, x.rank);
    return call.tf.reshape(
      x,
      x.shape.filter((size, axis) => (axes ? !axes.includes(axis) : size !== 1)),
    );
  },
  Unsqueeze: (call) => {
    const x = tensorAt(call, 0);
    const given = operand(call, 1).numbers;
    const axes = onAxes(given, x.rank + given.length) as number[];
    const sizes = [...x.shape];
    const rank = x.rank + given.length;
    return call.tf.reshape(
      x,
      Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : (sizes.shift() as number))),
    );
  },
  Concat: (call) => {
    const parts = call.inputs.map((_, port) => tensorAt(call, port));
    const axis = axisOf(call.node.attr('axis'), (parts[0] as Tf.Tensor).rank);
    const filled = parts.filter((part) => part.shape[axis] !== 0);
    return filled.length < 2 ? (filled[0] ?? (parts[0] as Tf.Tensor)) : call.tf.concat(filled, axis);
  },
  Slice: slice,
  Pad: pad,
  Split: split,
  Gather: gather,
  Expand: (call) => {
    const { tf } = call;
    const x = operand(call, 0);
    const shape = broadcastShape(x.shape, operand(call, 1).numbers);
    // A product with ones repeats elements faster than TF.js's own Tile.
    return heldAs(x.dtype) === 'float32' ? tf.mul(x.tensor, tf.ones(shape)) : tf.broadcastTo(x.tensor, shape);
  },
  Identity: (call) => tensorAt(call, 0),
  Cast: (call) => {
    const x = operand(call, 0);
    const to = call.node.attr('to');
    return [{ tensor: cast(call.tf, x, to), dtype: to }];
  },
  Shape: (call) => {
    const { shape } = operand(call, 0);
    const part = shape.slice(call.node.attr('start'), call.node.attr('end'));
    return [{ tensor: call.tf.tensor1d(Int32Array.from(part), 'int32'), dtype: 'int64' }];
  },
  Constant: (call) => {
    const value = call.node.attr('value');
    if (!value) throw lacking(call.node, 'it has no tensor');
    return [{ tensor: upload(call.tf, value, call.node.name), dtype: value.dtype }];
  },
  ConstantOfShape: (call) => {
    const value = call.node.attr('value');
    const shape = operand(call, 0).numbers;
    const dtype = value?.dtype ?? 'float32';
    return [{ tensor: call.tf.fill(shape, Number(value?.data[0] ?? 0), heldAs(dtype)), dtype }];
  },
  Tile: (call) => call.tf.tile(tensorAt(call, 0), operand(call, 1).numbers),
  DepthToSpace: (call) => {
    const [n, c, h, w] = tensorAt(call, 0).shape as [number, number, number, number];
    const block = call.node.attr('blocksize');
    const depth = c / block ** 2;
    const first = call.node.attr('mode') === 'DCR';
    const split = call.tf.reshape(tensorAt(call, 0), first ? [n, block, block, depth, h, w] : [n, depth, block, block, h, w]);
    const moved = call.tf.transpose(split, first ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3]);
    return call.tf.reshape(moved, [n, depth, h * block, w * block]);
  },
  SpaceToDepth: (call) => {
    const [n, c, h, w] = tensorAt(call, 0).shape as [number, number, number, number];
    const block = call.node.attr('blocksize');
    const split = call.tf.reshape(tensorAt(call, 0), [n, c, h / block, block, w / block, block]);
    return call.tf.reshape(call.tf.transpose(split, [0, 3, 5, 1, 2, 4]), [n, c * block ** 2, h / block, w / block]);
  },
  Trilu: (call) => {
    const { tf, node } = call;
    const x = tensorAt(call, 0);
    const [rows, columns] = x.shape.slice(-2) as [number, number];
    const k = call.inputs[1]?.numbers[0] ?? 0;
    const kept = (i: number) =>
      node.attr('upper') ? (i % columns) - Math.floor(i / columns) >= k : (i % columns) - Math.floor(i / columns) <= k;
    const mask = tf.tensor(
      Uint8Array.from({ length: rows * columns }, (_, i) => (kept(i) ? 1 : 0)),
      [rows, columns],
      'bool',
    );
    return tf.where(tf.broadcastTo(mask, x.shape), x, tf.zerosLike(x));
  },
  Size: (call) => [{ tensor: call.tf.scalar(sizeOf(operand(call, 0).shape), 'int32'), dtype: 'int64' }],
} satisfies { [K in OpType]?: Kernel<K> };
