import type { Dim, Node, Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import { alwaysEqual } from '../../ir/shapes/dim.js';
import { type Tensor, toNumbers } from '../../tensor/tensor.js';

/**
 * Where the samples of a value stand: on one axis, whose elements are counted as [outer, batch, inner]. [batch·heads, time, size] has them on axis 0
 * with 1 and heads, [time·batch, size] on axis 0 with time and 1.
 */
export interface Place {
  readonly axis: number;
  readonly outer: Dim;
  readonly inner: Dim;
}

/** What is known while the batch is followed through a graph whose shapes still hold the fixed one. */
export interface BatchContext {
  /** The batch of the file. */
  readonly batch: number;
  /** Where a value has its samples; undefined for a value that no sample has a part in. */
  place(value: Value | undefined): Place | undefined;
  /** One of several readings that are equally true; the others are tried when this one leads nowhere. */
  choose<T>(options: readonly T[]): T;
  /** Note a change that makes room for any batch. */
  edit(change: () => void): void;
  constant(name: string, tensor: Tensor): Value;
  /** A constant with the elements of one sample on `axis`, once for every sample of `like`, computed before the node. */
  repeat(row: Value, axis: number, like: Value, before: Node): Value;
}

/** The places of all outputs (undefined for one without samples), or a sentence why the op does not keep samples apart. */
export type Places = readonly (Place | undefined)[] | string;

/**
 * Whether a node treats samples apart: whatever the batch, the elements of a sample in its outputs come from the elements of that
 * sample in its inputs, and from what is the same for all. Asked only of nodes that read a value with samples.
 */
export type BatchRule<K extends OpType> = (node: Node<K>, context: BatchContext) => Places;

export const mixes = 'works across samples';

export const rankOf = (value: Value | undefined): number => value?.shape?.length ?? -1;

export const samePlace = (a: Place, b: Place): boolean =>
  a.axis === b.axis && alwaysEqual(a.outer, b.outer) && alwaysEqual(a.inner, b.inner);

/** The axis holds the samples and nothing else. */
export const isPlain = ({ outer, inner }: Place): boolean => outer === 1 && inner === 1;

/** The same place on another axis. */
export const moved = (place: Place, axis: number): Place => ({ ...place, axis });

/** The same place for every output. */
export const toAll = (node: Node<OpType>, place: Place): Places => node.outputs.map(() => place);

/** Elements of a small constant; undefined for anything else. */
export const ints = (value: Value | undefined): number[] | undefined =>
  value?.constant && value.constant.size <= 64 ? Array.from(toNumbers(value.constant)) : undefined;

/** Axes counted from the front. */
export const fromFront = (axes: readonly number[] | undefined, rank: number): number[] | undefined =>
  axes && rank >= 0 ? axes.map((axis) => (axis < 0 ? axis + rank : axis)) : undefined;

/** Only the first input has samples: where they are. */
export function onlyFirst(node: Node<OpType>, context: BatchContext): Place | undefined {
  const place = context.place(node.inputs[0]);
  return place && !node.inputs.slice(1).some((value) => context.place(value)) && rankOf(node.inputs[0]) > place.axis ? place : undefined;
}

/** Only the first input has samples, and every element goes its own way. */
export function pointwise(node: Node<OpType>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  return place ? toAll(node, place) : mixes;
}

/** As `pointwise`, for ops that go along the rows of the first axis. */
export function alongFirst(node: Node<OpType>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  return place?.axis === 0 ? toAll(node, place) : mixes;
}

/** As `pointwise`, when `axes` (negative ones count from the end) leave the samples alone. */
export function awayFrom(axes: readonly number[] | undefined, node: Node<OpType>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const all = fromFront(axes, rankOf(node.inputs[0]));
  if (!place || !all || all.includes(place.axis)) return 'works on the batch axis, or on an axis that is not constant';
  return toAll(node, place);
}
