import type { Node } from '../graph.js';
import { axisOf, commonDType, misfit, type Types, typed, wantBroadcastTo, wantFloat, wantRank, wantVector } from './rule.js';

/** X [N, C, …], scale and bias [C] → like X. */
export function instanceNorm(node: Node<'InstanceNormalization'>): Types {
  wantFloat(node);
  const dtype = commonDType(node, [0, 1, 2]);
  const { shape } = node.input(0);
  if (shape && shape.length < 3) throw misfit(node, 'the input must have at least three dimensions', node.input(0));
  for (const port of [1, 2]) wantVector(node, port, shape?.[1]);
  return [typed(dtype, shape)];
}

/** X [d0 … dn]; scale and bias broadcast to it. Mean and 1/σ have 1 on the axes from `axis` on. */
export function layerNorm(node: Node<'LayerNormalization' | 'RMSNormalization'>): Types {
  wantFloat(node);
  const { dtype, shape } = node.input(0);
  if (!shape) return [node.input(0).type];
  const axis = axisOf(node, node.attr('axis'), shape.length);
  for (const port of [1, 2]) wantBroadcastTo(node, port, shape);
  const statistics = typed(
    dtype === 'float64' ? 'float64' : 'float32',
    shape.map((dim, at) => (at < axis ? dim : 1)),
  );
  return [typed(dtype, shape), statistics, statistics];
}

/** X [N, C, …]; scale and bias have one element a channel, or one a group in the form before opset 21. */
export function groupNorm(node: Node<'GroupNormalization'>): Types {
  wantFloat(node);
  const { shape } = node.input(0);
  const groups = node.attr('num_groups');
  if (!Number.isSafeInteger(groups) || groups < 1) throw misfit(node, `num_groups is ${groups}`);
  for (const port of [1, 2]) wantRank(node, port, 1);
  if (shape && shape.length < 2) throw misfit(node, 'the input must have at least two dimensions', node.input(0));
  const channels = shape?.[1];
  if (typeof channels === 'number' && channels % groups !== 0)
    throw misfit(node, `${channels} channels do not divide into ${groups} groups`, node.input(0));
  for (const port of [1, 2]) {
    const length = node.input(port).shape?.[0];
    if (typeof length === 'number' && typeof channels === 'number' && length !== channels && length !== groups)
      throw misfit(node, `input ${port} has ${length} elements for ${channels} channels in ${groups} groups`, node.input(port));
  }
  return [node.input(0).type];
}

/** X [N, C, …], across channels. */
export function lrn(node: Node<'LRN'>): Types {
  wantFloat(node);
  const { shape } = node.input(0);
  if (shape && shape.length < 2) throw misfit(node, 'the input must have at least two dimensions', node.input(0));
  const size = node.attr('size');
  if (!Number.isSafeInteger(size) || size < 1) throw misfit(node, `size is ${size}`, undefined, 'MODEL_INVALID');
  return [node.input(0).type];
}

/** Along one axis. */
export function lpNorm(node: Node<'LpNormalization'>): Types {
  wantFloat(node);
  const { shape } = node.input(0);
  if (shape) axisOf(node, node.attr('axis'), shape.length);
  return [node.input(0).type];
}
