import type { Dim, Node } from '../graph.js';
import type { OpType } from '../ops.js';
import {
  addDims,
  alwaysEqual,
  divideDims,
  leastOf,
  maxDims,
  minDims,
  multiplyDims,
  neverEqual,
  productOfDims,
  subtractDims,
} from './dim.js';
import { shapeRange } from './movement.js';
import { broadcast, type ShapeContext } from './rule.js';

/**
 * What shape arithmetic computes, element by element, before the model runs: `Shape → Gather → Concat → Reshape` and the like.
 * A row gives the elements of every output, or undefined where they depend on data. Elements of `bool` are 0 and 1.
 */
export type ContentRule<K extends OpType> = (node: Node<K>, context: ShapeContext) => readonly (readonly Dim[] | undefined)[];

/** Longest tensor whose elements are followed. */
export const longestContent = 1024;

type Binary = (a: Dim, b: Dim) => Dim | undefined;

const staticShape = (shape: readonly Dim[] | undefined): number[] | undefined =>
  shape?.every((dim) => typeof dim === 'number') ? [...(shape as number[])] : undefined;

const unchanged = (node: Node<OpType>, context: ShapeContext) => [context.elements(node.inputs[0])];

/** Element-wise with broadcasting, for tensors of rank 0 and 1 and for equal shapes. */
function elementwise(apply: Binary) {
  return (node: Node<OpType>, context: ShapeContext): readonly (readonly Dim[] | undefined)[] => {
    const lists = node.inputs.map((value) => context.elements(value));
    const length = lists.reduce((most, list) => Math.max(most, list?.length ?? 0), 0);
    const shape = staticShape(
      broadcast(
        node,
        node.inputs.map((value) => value?.shape),
      ),
    );
    if (
      !shape ||
      lists.some((list) => !list || (list.length !== length && list.length !== 1)) ||
      shape.reduce((a, b) => a * b, 1) !== length
    )
      return [undefined];
    const out: Dim[] = [];
    for (let i = 0; i < length; i++) {
      let result: Dim | undefined;
      for (const [port, list] of (lists as Dim[][]).entries()) {
        const element = (list.length === 1 ? list[0] : list[i]) as Dim;
        result = port === 0 ? element : result === undefined ? undefined : apply(result, element);
      }
      if (result === undefined || (typeof result === 'number' && !Number.isSafeInteger(result))) return [undefined];
      out.push(result);
    }
    return [out];
  };
}

/** Integer division truncates; floating division is followed only where it is exact. */
function quotient(node: Node<'Div'>): Binary {
  const integer = node.output().dtype === 'int64' || node.output().dtype === 'int32';
  return (a, b) => {
    if (b === 0) return undefined;
    if (typeof a === 'number' && typeof b === 'number') return integer ? Math.trunc(a / b) : a % b === 0 ? a / b : undefined;
    const down = divideDims(a, b);
    if (alwaysEqual(multiplyDims(down, b), a)) return down;
    return integer && leastOf(a) >= 0 && leastOf(b) > 0 ? down : undefined;
  };
}

const decided = (yes: boolean, no: boolean): Dim | undefined => (yes ? 1 : no ? 0 : undefined);
const above = (a: Dim, b: Dim) => leastOf(subtractDims(a, b)) > 0;
const atLeast = (a: Dim, b: Dim) => leastOf(subtractDims(a, b)) >= 0;

/** The elements of a small tensor of static shape, picked by where each output element comes from. */
function pick(
  node: Node<OpType>,
  context: ShapeContext,
  from: (at: readonly number[]) => readonly number[],
): readonly (readonly Dim[] | undefined)[] {
  const data = context.elements(node.inputs[0]);
  const [before, after] = [staticShape(node.inputs[0]?.shape), staticShape(node.outputs[0]?.shape)];
  if (!data || !before || !after) return [undefined];
  const out: Dim[] = [];
  const at = after.map(() => 0);
  const count = after.reduce((a, b) => a * b, 1);
  if (count > longestContent) return [undefined];
  for (let i = 0; i < count; i++) {
    const index = from(at).reduce((sum, position, axis) => sum * (before[axis] as number) + position, 0);
    out.push(data[index] as Dim);
    for (let axis = after.length - 1; axis >= 0 && ++(at[axis] as number) === after[axis]; axis--) at[axis] = 0;
  }
  return [out.includes(undefined as never) ? undefined : out];
}

function slice(node: Node<'Slice'>, context: ShapeContext) {
  const shape = staticShape(node.input(0).shape);
  const lists = [1, 2, 3, 4].map((port) => (node.inputs[port] ? context.elements(node.inputs[port]) : undefined));
  const [starts, ends, axes, steps] = lists;
  const known = lists.every((list, i) => (list ? list.every((dim) => typeof dim === 'number') : !node.inputs[i + 1]));
  if (!shape || !starts || !ends || !known) return [undefined];
  const first = shape.map(() => 0);
  const step = shape.map(() => 1);
  for (const [i, start] of (starts as number[]).entries()) {
    const axis = ((axes?.[i] as number | undefined) ?? i) % shape.length;
    const at = axis < 0 ? axis + shape.length : axis;
    const size = shape[at] as number;
    step[at] = (steps?.[i] as number | undefined) ?? 1;
    first[at] = Math.max(0, Math.min((step[at] as number) > 0 ? size : size - 1, start < 0 ? start + size : start));
  }
  return pick(node, context, (at) => at.map((position, axis) => (first[axis] as number) + position * (step[axis] as number)));
}

function transpose(node: Node<'Transpose'>, context: ShapeContext) {
  const rank = node.input(0).shape?.length ?? 0;
  const perm = node.attr('perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  return pick(node, context, (at) => {
    const from: number[] = [];
    for (const [axis, source] of perm.entries()) from[source] = at[axis] as number;
    return from;
  });
}

function gather(node: Node<'Gather'>, context: ShapeContext) {
  const data = context.elements(node.input(0));
  const indices = context.elements(node.input(1));
  if (!data || !indices || node.input(0).shape?.length !== 1) return [undefined];
  const out = indices.map((index) => (typeof index === 'number' ? data[index < 0 ? index + data.length : index] : undefined));
  return [out.every((dim) => dim !== undefined) ? out : undefined];
}

function concat(node: Node<'Concat'>, context: ShapeContext) {
  if (node.output().shape?.length !== 1) return [undefined];
  const lists = node.inputs.map((value) => context.elements(value));
  return [lists.every((list) => list !== undefined) ? lists.flat() : undefined];
}

function split(node: Node<'Split'>, context: ShapeContext) {
  const data = context.elements(node.input(0));
  if (!data || node.input(0).shape?.length !== 1) return node.outputs.map(() => undefined);
  let at = 0;
  return node.outputs.map((value) => {
    const length = value.shape?.[0];
    if (typeof length !== 'number') return undefined;
    at += length;
    return data.slice(at - length, at);
  });
}

function fill(node: Node<'ConstantOfShape'>): readonly (readonly Dim[] | undefined)[] {
  const shape = staticShape(node.output().shape);
  const count = shape?.reduce((a, b) => a * b, 1);
  if (count === undefined || count > longestContent) return [undefined];
  const element = Number(node.attr('value')?.data[0] ?? 0);
  return [Number.isSafeInteger(element) ? new Array<Dim>(count).fill(element) : undefined];
}

function expand(node: Node<'Expand'>, context: ShapeContext) {
  const data = context.elements(node.input(0));
  const shape = staticShape(node.output().shape);
  const count = shape?.reduce((a, b) => a * b, 1);
  if (!data || count === undefined || count > longestContent) return [undefined];
  if (data.length === 1) return [new Array<Dim>(count).fill(data[0] as Dim)];
  return [data.length === count ? data : undefined];
}

function where(node: Node<'Where'>, context: ShapeContext) {
  const lists = node.inputs.map((value) => context.elements(value));
  const count = staticShape(node.output().shape)?.reduce((a, b) => a * b, 1);
  if (count === undefined || count > longestContent) return [undefined];
  const [condition, yes, no] = lists;
  const pick = (list: readonly Dim[] | undefined, i: number): Dim | undefined =>
    list === undefined ? undefined : list.length === 1 ? list[0] : list.length === count ? list[i] : undefined;
  const out = Array.from({ length: count }, (_, i) => {
    const holds = pick(condition, i);
    return holds === undefined ? undefined : pick(holds === 1 ? yes : no, i);
  });
  return [out.every((dim) => dim !== undefined) ? (out as Dim[]) : undefined];
}

function range(node: Node<'Range'>, context: ShapeContext) {
  const count = node.output().shape?.[0];
  const start = context.elements(node.input(0))?.[0];
  const delta = context.elements(node.input(2))?.[0];
  if (typeof count !== 'number' || count > longestContent || start === undefined || delta === undefined) return [undefined];
  return [Array.from({ length: count }, (_, i) => addDims(start, multiplyDims(delta, i)))];
}

/** A vector (or one element) written several times. */
function tile(node: Node<'Tile'>, context: ShapeContext) {
  const data = context.elements(node.input(0));
  const length = node.output().shape?.[0];
  if (!data?.length || node.output().shape?.length !== 1 || typeof length !== 'number' || length > longestContent) return [undefined];
  return [Array.from({ length }, (_, i) => data[i % data.length] as Dim)];
}

/** Only the ops that exporters use to compute sizes; all others depend on data. */
export const contents: { [K in OpType]?: ContentRule<K> } = {
  Shape: (node) => {
    const shape = node.input(0).shape;
    if (!shape) return [undefined];
    const { start, length } = shapeRange(node, shape.length);
    return [shape.slice(start, start + length)];
  },
  Size: (node) => [node.input(0).shape && [productOfDims(node.input(0).shape as readonly Dim[])]],
  Range: range,
  Tile: tile,
  ConstantOfShape: fill,
  Identity: unchanged,
  Cast: (node, context) => (node.output().dtype === 'bool' || node.input(0).dtype === 'bool' ? [undefined] : unchanged(node, context)),
  Squeeze: unchanged,
  Unsqueeze: unchanged,
  Reshape: unchanged,
  Flatten: unchanged,
  Floor: unchanged,
  Ceil: unchanged,
  Round: unchanged,
  Gather: gather,
  Slice: slice,
  Transpose: transpose,
  Concat: concat,
  Split: split,
  Expand: expand,
  Where: where,
  Add: elementwise(addDims),
  Sub: elementwise(subtractDims),
  Mul: elementwise(multiplyDims),
  Div: (node, context) => elementwise(quotient(node))(node, context),
  Mod: elementwise((a, b) => (typeof a === 'number' && typeof b === 'number' && b > 0 ? a - Math.floor(a / b) * b : undefined)),
  Min: elementwise(minDims),
  Max: elementwise(maxDims),
  Neg: (node, context) => [context.elements(node.input(0))?.map((dim) => multiplyDims(dim, -1))],
  Equal: elementwise((a, b) => decided(alwaysEqual(a, b), neverEqual(a, b))),
  Greater: elementwise((a, b) => decided(above(a, b), atLeast(b, a))),
  GreaterOrEqual: elementwise((a, b) => decided(atLeast(a, b), above(b, a))),
  Less: elementwise((a, b) => decided(above(b, a), atLeast(a, b))),
  LessOrEqual: elementwise((a, b) => decided(atLeast(b, a), above(a, b))),
  Not: (node, context) => [context.elements(node.input(0))?.map((dim) => (dim === 0 ? 1 : 0))],
};
