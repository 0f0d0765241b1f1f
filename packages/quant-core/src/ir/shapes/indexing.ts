import type { Dim, Node } from '../graph.js';
import { divideDims, divideDimsExactly, maxDims, multiplyDims, subtractDims } from './dim.js';
import {
  axisOf,
  commonDType,
  misfit,
  type ShapeContext,
  show,
  type Types,
  typed,
  unknownDim,
  wantDType,
  wantIntegers,
  wantRank,
} from './rule.js';

/** Output in the shape of the indices. */
export function gatherElements(node: Node<'GatherElements'>): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  const indices = node.input(1).shape;
  if (shape) axisOf(node, node.attr('axis'), shape.length);
  if (shape && indices && shape.length !== indices.length)
    throw misfit(node, `indices ${show(indices)} do not fit data ${show(shape)}`, node.input(1));
  return [typed(dtype, indices)];
}

/** Data [b…, d0 … dn], indices [b…, i…, k] → [b…, i…, d(k) … dn]. */
export function gatherND(node: Node<'GatherND'>): Types {
  wantDType(node, 1, ['int64']);
  const { dtype, shape } = node.input(0);
  const indices = node.input(1).shape;
  const depth = indices?.at(-1);
  if (!shape || !indices || typeof depth !== 'number') return [typed(dtype, undefined)];
  const batch = node.attr('batch_dims');
  if (!Number.isSafeInteger(batch) || batch < 0 || batch >= Math.min(shape.length, indices.length))
    throw misfit(node, `batch_dims is ${batch} for data ${show(shape)} and indices ${show(indices)}`);
  checkDepth(node, depth, shape.length - batch);
  return [typed(dtype, [...indices.slice(0, -1), ...shape.slice(batch + depth)])];
}

function checkDepth(node: Node<'GatherND' | 'ScatterND'>, depth: number, rank: number): void {
  if (depth < 1 || depth > rank) throw misfit(node, `indices of ${depth} positions do not fit data of ${rank} axes`, node.input(1));
}

export function scatterND(node: Node<'ScatterND'>): Types {
  wantDType(node, 1, ['int64']);
  const dtype = commonDType(node, [0, 2]);
  const { shape } = node.input(0);
  const depth = node.input(1).shape?.at(-1);
  if (shape && typeof depth === 'number') checkDepth(node, depth, shape.length);
  return [typed(dtype, shape)];
}

/** Values and indices; `k` of the axis. */
export function topK(node: Node<'TopK'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined), typed('int64', undefined)];
  const at = axisOf(node, node.attr('axis'), shape.length);
  const k = context.elements(node.input(1))?.[0] ?? unknownDim(node.output(), at);
  if (typeof k === 'number' && typeof shape[at] === 'number' && (k < 0 || k > shape[at]))
    throw misfit(node, `${k} elements are wanted of a dimension of ${shape[at]}`, node.input(1));
  const out = shape.map((dim, axis) => (axis === at ? k : dim));
  return [typed(dtype, out), typed('int64', out)];
}

/** Indices [d…] → [d…, depth, …]: an axis is put in. */
export function oneHot(node: Node<'OneHot'>, context: ShapeContext): Types {
  const indices = node.input(0).shape;
  const { dtype } = node.input(2);
  if (!indices) return [typed(dtype, undefined)];
  const axis = axisOf(node, node.attr('axis'), indices.length + 1);
  const depth = context.elements(node.input(1))?.[0] ?? unknownDim(node.output(), axis);
  return [typed(dtype, [...indices.slice(0, axis), depth, ...indices.slice(axis)])];
}

/** Numbers from start to below limit, `max(0, ceil((limit - start) / delta))` of them. */
export function range(node: Node<'Range'>, context: ShapeContext): Types {
  const dtype = commonDType(node, [0, 1, 2]);
  const [start, limit, delta] = [0, 1, 2].map((port) => context.elements(node.input(port))?.[0]);
  if (delta === 0) throw misfit(node, 'delta is 0', node.input(2));
  if (start === undefined || limit === undefined || typeof delta !== 'number') return [typed(dtype, [unknownDim(node.output(), 0)])];
  const span = delta > 0 ? subtractDims(limit, start) : subtractDims(start, limit);
  const step = Math.abs(delta);
  const count = step === 1 ? span : divideDims(typeof span === 'number' ? span + step - 1 : span, step);
  if (step !== 1 && typeof span !== 'number') return [typed(dtype, [unknownDim(node.output(), 0)])];
  return [typed(dtype, [maxDims(count, 0)])];
}

/** Each dimension times its repeats. */
export function tile(node: Node<'Tile'>, context: ShapeContext): Types {
  wantDType(node, 1, ['int64']);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const repeats = context.elements(node.input(1));
  if (repeats && repeats.length !== shape.length)
    throw misfit(node, `${repeats.length} repeats for an input of shape ${show(shape)}`, node.input(1));
  return [
    typed(
      dtype,
      shape.map((dim, axis) => (repeats ? multiplyDims(dim, repeats[axis] as Dim) : unknownDim(node.output(), axis))),
    ),
  ];
}

function blockOf(node: Node<'DepthToSpace' | 'SpaceToDepth'>): number {
  wantRank(node, 0, 4);
  const block = node.attr('blocksize');
  if (!Number.isSafeInteger(block) || block < 1 || block > 2 ** 15) throw misfit(node, `blocksize is ${block}`, undefined, 'MODEL_INVALID');
  return block;
}

/** `dim / by`, which must be whole. */
function whole(node: Node<'DepthToSpace' | 'SpaceToDepth'>, dim: Dim, by: number): Dim {
  const result = divideDimsExactly(dim, by);
  if (result === undefined && typeof dim === 'number') throw misfit(node, `a dimension of ${dim} does not divide by ${by}`, node.input(0));
  return result ?? divideDims(dim, by);
}

/** [N, C·b², H, W] → [N, C, H·b, W·b] */
export function depthToSpace(node: Node<'DepthToSpace'>): Types {
  const block = blockOf(node);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const [batch, channels, height, width] = shape as [Dim, Dim, Dim, Dim];
  return [typed(dtype, [batch, whole(node, channels, block * block), multiplyDims(height, block), multiplyDims(width, block)])];
}

/** [N, C, H·b, W·b] → [N, C·b², H, W] */
export function spaceToDepth(node: Node<'SpaceToDepth'>): Types {
  const block = blockOf(node);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const [batch, channels, height, width] = shape as [Dim, Dim, Dim, Dim];
  return [typed(dtype, [batch, multiplyDims(channels, block * block), whole(node, height, block), whole(node, width, block)])];
}

/** The last two axes are a matrix. */
export function trilu(node: Node<'Trilu'>): Types {
  wantDType(node, 1, ['int64']);
  const { shape } = node.input(0);
  if (shape && shape.length < 2) throw misfit(node, 'the input must have at least two dimensions', node.input(0));
  return [node.input(0).type];
}

export function cumSum(node: Node<'CumSum'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { shape } = node.input(0);
  const axis = context.elements(node.input(1))?.[0];
  if (shape && typeof axis === 'number') axisOf(node, axis, shape.length);
  return [node.input(0).type];
}

export const size = (): Types => [typed('int64', [])];
