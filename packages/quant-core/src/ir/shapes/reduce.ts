import type { Dim, Node } from '../graph.js';
import { axesOf, axisOf, type ShapeContext, type Types, typed, unknownDim, wantIntegers } from './rule.js';

export type Reduction =
  | 'ReduceMean'
  | 'ReduceSum'
  | 'ReduceMax'
  | 'ReduceMin'
  | 'ReduceSumSquare'
  | 'ReduceL1'
  | 'ReduceL2'
  | 'ReduceLogSum'
  | 'ReduceLogSumExp'
  | 'ReduceProd';

/** Axes come as an input; none means all, unless `noop_with_empty_axes`. */
export function reduce(node: Node<Reduction>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const keep = node.attr('keepdims') !== 0;
  const given = node.inputs[1] ? context.elements(node.inputs[1]) : [];
  if (!given) return [typed(dtype, keep ? shape.map((_, axis) => unknownDim(node.output(), axis)) : undefined)];
  if (given.length === 0 && node.attr('noop_with_empty_axes') === 1) return [node.input(0).type];
  const axes = given.length === 0 ? shape.map((_, axis) => axis) : axesOf(node, given, shape.length);
  return [typed(dtype, without(shape, new Set(axes), keep))];
}

export function argMax(node: Node<'ArgMax' | 'ArgMin'>): Types {
  const { shape } = node.input(0);
  const axis = shape && axisOf(node, node.attr('axis'), shape.length);
  return [typed('int64', axis === undefined ? undefined : without(shape as readonly Dim[], new Set([axis]), node.attr('keepdims') !== 0))];
}

const without = (shape: readonly Dim[], axes: ReadonlySet<number>, keep: boolean): Dim[] =>
  keep ? shape.map((dim, axis) => (axes.has(axis) ? 1 : dim)) : shape.filter((_, axis) => !axes.has(axis));
