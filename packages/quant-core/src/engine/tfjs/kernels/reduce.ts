import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import type { TfModule } from '../backend.js';
import { axisOf, type Call, type Kernel, lacking, tensorAt } from './kernel.js';

type ReduceOp = 'ReduceMean' | 'ReduceSum' | 'ReduceMax' | 'ReduceMin' | 'ReduceSumSquare';

/** A reduction over the axes named, over all where none are. */
const reduction =
  <K extends ReduceOp>(f: (tf: TfModule, x: Tf.Tensor, axes: number[], keep: boolean) => Tf.Tensor): Kernel<K> =>
  (given) => {
    const call = given as unknown as Call<'ReduceSum'>;
    const x = tensorAt(call, 0);
    const axes = call.inputs[1]?.numbers.map((axis) => axisOf(axis, x.rank));
    if (!axes?.length && call.node.attr('noop_with_empty_axes')) return f(call.tf, call.tf.expandDims(x, x.rank), [x.rank], false);
    return f(call.tf, x, axes?.length ? axes : x.shape.map((_, axis) => axis), call.node.attr('keepdims') === 1);
  };

const spatial = (x: Tf.Tensor) => x.shape.map((_, axis) => axis).slice(2);

/** Index of the largest element: the first one, or the last. */
const argMax: Kernel<'ArgMax'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const axis = axisOf(node.attr('axis') as number, x.rank);
  const last = node.attr('select_last_index') === 1;
  const found = tf.argMax(last ? tf.reverse(x, axis) : x, axis);
  const index = last ? tf.sub(tf.scalar((x.shape[axis] as number) - 1, 'int32'), found) : found;
  return [{ tensor: node.attr('keepdims') ? tf.expandDims(index, axis) : index, dtype: 'int64' }];
};

/** Inference form: `(x - mean) · γ / √(variance + ε) + β`. */
const batchNormalization: Kernel<'BatchNormalization'> = (call) => {
  const { tf, node } = call;
  if (node.attr('training_mode')) throw lacking(node, 'it is in training mode');
  const x = tensorAt(call, 0);
  const channel = (port: number) => tf.reshape(tensorAt(call, port), [-1, ...spatial(x).map(() => 1)]);
  const factor = tf.div(channel(1), tf.sqrt(tf.add(channel(4), node.attr('epsilon') as number)));
  return tf.add(tf.mul(tf.sub(x, channel(3)), factor), channel(2));
};

export const reductions = {
  ReduceMean: reduction((tf, x, axes, keep) => tf.mean(x, axes, keep)),
  ReduceSum: reduction((tf, x, axes, keep) => tf.sum(x, axes, keep)),
  ReduceMax: reduction((tf, x, axes, keep) => tf.max(x, axes, keep)),
  ReduceMin: reduction((tf, x, axes, keep) => tf.min(x, axes, keep)),
  ReduceSumSquare: reduction((tf, x, axes, keep) => tf.sum(tf.square(x), axes, keep)),
  ArgMax: argMax,
  GlobalAveragePool: (call) => call.tf.mean(tensorAt(call, 0), spatial(tensorAt(call, 0)), true),
  GlobalMaxPool: (call) => call.tf.max(tensorAt(call, 0), spatial(tensorAt(call, 0)), true),
  BatchNormalization: batchNormalization,
} satisfies { [K in OpType]?: Kernel<K> };
