import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import { sizeOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';
import { axisOf, type Call, type Kernel, lacking, type Result, tensorAt } from './kernel.js';
import { padded } from './movement.js';

const axesFrom = (axis: number, x: Tf.Tensor) => x.shape.map((_, i) => i).slice(axis);

/** A vector of one element a channel, beside [N, C, …]. */
const channels = (tf: TfModule, vector: Tf.Tensor, rank: number) => tf.reshape(vector, [-1, ...new Array<number>(rank - 2).fill(1)]);

/** `(x - mean) / √(variance + ε)` over `axes`, with mean and `1 / √(variance + ε)`. */
function standardised(tf: TfModule, x: Tf.Tensor, axes: number[], epsilon: number) {
  const mean = tf.mean(x, axes, true);
  const centred = tf.sub(x, mean);
  const inverse = tf.reciprocal(tf.sqrt(tf.add(tf.mean(tf.square(centred), axes, true), epsilon)));
  return { y: tf.mul(centred, inverse), mean, inverse };
}

/** Inference form: `(x - mean) · γ / √(variance + ε) + β`. */
const batchNormalization: Kernel<'BatchNormalization'> = (call) => {
  const { tf, node } = call;
  if (node.attr('training_mode')) throw lacking(node, 'it is in training mode');
  const x = tensorAt(call, 0);
  const channel = (port: number) => channels(tf, tensorAt(call, port), x.rank);
  const factor = tf.div(channel(1), tf.sqrt(tf.add(channel(4), node.attr('epsilon'))));
  return tf.add(tf.mul(tf.sub(x, channel(3)), factor), channel(2));
};

const instanceNorm: Kernel<'InstanceNormalization'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const { y } = standardised(tf, x, axesFrom(2, x), node.attr('epsilon'));
  return tf.add(tf.mul(y, channels(tf, tensorAt(call, 1), x.rank)), channels(tf, tensorAt(call, 2), x.rank));
};

const layerNorm: Kernel<'LayerNormalization'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const axes = axesFrom(axisOf(node.attr('axis'), x.rank), x);
  const { y, mean, inverse } = standardised(tf, x, axes, node.attr('epsilon'));
  const scaled = tf.mul(y, tensorAt(call, 1));
  const bias = call.inputs[2]?.tensor;
  return [{ tensor: bias ? tf.add(scaled, bias) : scaled }, { tensor: mean }, { tensor: inverse }].slice(
    0,
    node.outputs.length,
  ) as Result[];
};

/** Scale and bias have one element a channel, or one a group. */
const groupNorm: Kernel<'GroupNormalization'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const groups = node.attr('num_groups');
  const [n, c] = x.shape as [number, number];
  const { y } = standardised(tf, tf.reshape(x, [n, groups, x.size / (n * groups)]), [2], node.attr('epsilon'));
  const each = (vector: Tf.Tensor) =>
    channels(tf, vector.size === c ? vector : tf.reshape(tf.tile(tf.expandDims(vector, 1), [1, c / groups]), [c]), x.rank);
  return tf.add(tf.mul(tf.reshape(y, x.shape), each(tensorAt(call, 1))), each(tensorAt(call, 2)));
};

const rmsNorm: Kernel<'RMSNormalization'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const axes = axesFrom(axisOf(node.attr('axis'), x.rank), x);
  const root = tf.sqrt(tf.add(tf.mean(tf.square(x), axes, true), node.attr('epsilon')));
  return tf.mul(tf.div(x, root), tensorAt(call, 1));
};

/** `x / (bias + alpha / size · Σ x²)^beta` over `size` neighbouring channels. */
const lrn: Kernel<'LRN'> = (call) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const size = node.attr('size');
  const [n, c] = x.shape as [number, number];
  const squares = tf.reshape(tf.square(x), [n, c, sizeOf(x.shape.slice(2))]);
  const before = Math.floor((size - 1) / 2);
  const wide = padded(tf, squares, [0, before, 0], [0, size - 1 - before, 0]);
  const shifted = Array.from({ length: size }, (_, k) => tf.slice(wide, [0, k, 0], squares.shape));
  const sum = tf.reshape(
    shifted.reduce((a, b) => tf.add(a, b)),
    x.shape,
  );
  const base = tf.add(tf.mul(sum, node.attr('alpha') / size), node.attr('bias'));
  return tf.div(x, tf.pow(base, node.attr('beta')));
};

/** What has no length stays as it is. */
const lpNorm: Kernel<'LpNormalization'> = (call: Call<'LpNormalization'>) => {
  const { tf, node } = call;
  const x = tensorAt(call, 0);
  const axis = axisOf(node.attr('axis'), x.rank);
  const length = node.attr('p') === 1 ? tf.sum(tf.abs(x), axis, true) : tf.sqrt(tf.sum(tf.square(x), axis, true));
  return tf.div(x, tf.where(tf.equal(length, 0), tf.onesLike(length), length));
};

export const normalisation = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNorm,
  LayerNormalization: layerNorm,
  GroupNormalization: groupNorm,
  RMSNormalization: rmsNorm,
  LRN: lrn,
  LpNormalization: lpNorm,
} satisfies { [K in OpType]?: Kernel<K> };
