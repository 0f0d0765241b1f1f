import { type ErrorCode, OctetError } from '../../errors.js';
import type { DType } from '../../tensor/dtype.js';
import type { Dim, Node, Value, ValueType } from '../graph.js';
import type { OpType } from '../ops.js';
import { addDims, maxDims, neverEqual } from './dim.js';

/** One type an output; `undefined` where nothing is known. */
export type Types = readonly (ValueType | undefined)[];

/** What a rule may ask besides the types of the inputs. */
export interface ShapeContext {
  /** The elements of a small integer tensor, row-major, as far as they are known before the model runs. */
  elements(value: Value | undefined): readonly Dim[] | undefined;
}

/** Types of the outputs of a node from its inputs; throws MODEL_SHAPE or MODEL_DTYPE when they cannot be. */
export type ShapeRule<K extends OpType> = (node: Node<K>, context: ShapeContext) => Types;

const floatTypes: readonly DType[] = ['float32', 'float16', 'float64'];

/** Longest text of a dimension in a message; a longer one is a formula too long to read. */
const longestShown = 24;

/** A dimension for messages, `?` for one with a long formula. */
export const showDim = (dim: Dim): string => (String(dim).length > longestShown ? '?' : String(dim));

/** `[2, N, 7]` for messages. */
export const show = (shape: readonly Dim[] | undefined): string => (shape ? `[${shape.map(showDim).join(', ')}]` : 'unknown shape');

/** An error that names the node and, where there is one, the tensor. */
export function misfit(node: Node<OpType>, detail: string, tensor?: Value, code: ErrorCode = 'MODEL_SHAPE'): OctetError {
  const place = { node: node.name, op: node.opName, ...(tensor ? { tensor: tensor.name } : {}) };
  return new OctetError(code, `${node.opName} "${node.name}": ${detail}${tensor ? ` (tensor "${tensor.name}")` : ''}`, place);
}

/** The one type of all inputs named (unknown ones agree with any), or an error. */
export function commonDType(node: Node<OpType>, ports: readonly number[]): DType | undefined {
  let dtype: DType | undefined;
  for (const port of ports) {
    const value = node.inputs[port];
    if (!value?.dtype) continue;
    dtype ??= value.dtype;
    if (value.dtype !== dtype)
      throw misfit(node, `input ${port} is ${value.dtype} where the inputs before it are ${dtype}`, value, 'MODEL_DTYPE');
  }
  return dtype;
}

/** Refuse inputs that are not of a floating type. */
export function wantFloat(node: Node<OpType>, ports: readonly number[] = [0]): void {
  for (const port of ports) wantDType(node, port, floatTypes);
}

/** Refuse an input whose type is known and not in `allowed`. */
export function wantDType(node: Node<OpType>, port: number, allowed: readonly DType[]): void {
  const value = node.inputs[port];
  if (value?.dtype && !allowed.includes(value.dtype)) {
    throw misfit(node, `input ${port} is ${value.dtype}, wanted ${allowed.join(' or ')}`, value, 'MODEL_DTYPE');
  }
}

/** Refuse inputs that are to hold axes, sizes or positions and are not integers. */
export function wantIntegers(node: Node<OpType>, ...ports: readonly number[]): void {
  for (const port of ports) wantDType(node, port, ['int64', 'int32']);
}

/** Refuse an input whose rank is known and not as wanted. */
export function wantRank(node: Node<OpType>, port: number, rank: number): void {
  const value = node.inputs[port];
  if (value?.shape && value.shape.length !== rank)
    throw misfit(node, `input ${port} has shape ${show(value.shape)}, wanted rank ${rank}`, value);
}

/** Refuse an input that is not a vector of `length` elements. */
export function wantVector(node: Node<OpType>, port: number, length: Dim | undefined): void {
  wantRank(node, port, 1);
  const value = node.inputs[port];
  const own = value?.shape?.[0];
  if (own !== undefined && length !== undefined && neverEqual(own, length))
    throw misfit(node, `input ${port} has ${own} elements, wanted ${length}`, value);
}

/** `axis` counted from the front. */
export function axisOf(node: Node<OpType>, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw misfit(node, `axis ${axis} is outside a tensor of rank ${rank}`, node.inputs[0]);
  return axis < 0 ? axis + rank : axis;
}

/** Axes counted from the front; a repeated axis is an error. */
export function axesOf(node: Node<OpType>, axes: readonly Dim[], rank: number): number[] {
  const found = axes.map((axis) => {
    if (typeof axis !== 'number') throw misfit(node, `axis ${axis} is not a constant`, node.inputs[0]);
    return axisOf(node, axis, rank);
  });
  if (new Set(found).size !== found.length) throw misfit(node, `axes ${show(axes)} name an axis twice`, node.inputs[0]);
  return found;
}

/** Numpy broadcasting of all shapes; undefined when one is unknown. */
export function broadcast(node: Node<OpType>, shapes: readonly (readonly Dim[] | undefined)[]): Dim[] | undefined {
  let result: Dim[] = [];
  for (const shape of shapes) {
    if (!shape) return undefined;
    const rank = Math.max(result.length, shape.length);
    const next: Dim[] = new Array(rank);
    for (let i = 1; i <= rank; i++) {
      next[rank - i] = broadcastDim(node, result[result.length - i] ?? 1, shape[shape.length - i] ?? 1, shapes);
    }
    result = next;
  }
  return result;
}

function broadcastDim(node: Node<OpType>, a: Dim, b: Dim, shapes: readonly (readonly Dim[] | undefined)[]): Dim {
  if (a === b || b === 1) return a;
  if (a === 1) return b;
  if (typeof a === 'number' && typeof b === 'number')
    throw misfit(node, `shapes ${shapes.map(show).join(' and ')} do not broadcast`, node.inputs[0]);
  if (typeof a === 'number') return a;
  if (typeof b === 'number') return b;
  return maxDims(a, b);
}

/** Refuse `port` when it does not broadcast to `shape` from one side only. */
export function wantBroadcastTo(node: Node<OpType>, port: number, shape: readonly Dim[] | undefined): void {
  const value = node.inputs[port];
  if (!value?.shape || !shape) return;
  const fits =
    value.shape.length <= shape.length &&
    value.shape.every((dim, i) => dim === 1 || !neverEqual(dim, shape[shape.length - (value.shape?.length ?? 0) + i] as Dim));
  if (!fits) throw misfit(node, `input ${port} of shape ${show(value.shape)} does not broadcast to ${show(shape)}`, value);
}

/** A dimension that is not known before the model runs; named after the value so that texts are stable. */
export const unknownDim = (value: Value | undefined, axis: number): Dim => `${value?.name ?? 'value'}_d${axis}`;

/** More axes than any runtime takes. */
export const mostAxes = 64;

/** A shape of which only the number of axes is known. */
export function unknownShape(node: Node<OpType>, rank: number): Dim[] {
  if (rank > mostAxes) throw misfit(node, `the result would have ${rank} axes, and ${mostAxes} are the most`, node.outputs[0]);
  return Array.from({ length: rank }, (_, axis) => unknownDim(node.outputs[0], axis));
}

/** The sum of dimensions. */
export const sumOfDims = (dims: readonly Dim[]): Dim => dims.reduce((sum, dim) => addDims(sum, dim), 0);

/** A type when the element type is known. */
export const typed = (dtype: DType | undefined, shape: readonly Dim[] | undefined): ValueType | undefined =>
  dtype ? { dtype, ...(shape ? { shape } : {}) } : undefined;
