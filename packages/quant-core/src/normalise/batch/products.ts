import type { Node, Value } from '../../ir/graph.js';
import { alwaysEqual } from '../../ir/shapes/dim.js';
import { subscriptsOf } from '../../ir/shapes/einsum.js';
import { toNumbers } from '../../tensor/tensor.js';
import { type BatchContext, isPlain, mixes, moved, onlyFirst, type Place, type Places, rankOf, samePlace } from './place.js';
import { repeatedRow, sameForAll } from './same.js';

/** Every input broadcasts; one without samples must be the same for all of them. */
export function elementwise(node: Node, context: BatchContext): Places {
  const rank = rankOf(node.outputs[0]);
  let place: Place | undefined;
  let like: Value | undefined;
  for (const value of node.inputs) {
    const own = context.place(value);
    if (!own || !value) continue;
    const there = moved(own, own.axis + rank - rankOf(value));
    if (place && !samePlace(there, place)) return 'joins samples that are laid out in different ways';
    if (!keepsSize(node, there.axis, value.shape?.[own.axis])) return mixes;
    place = there;
    like = value;
  }
  if (!place || !like) return mixes;
  for (const port of node.inputs.keys()) {
    const problem = context.place(node.inputs[port]) ? undefined : sameForAll(node, port, place, rank, like, context);
    if (problem) return problem;
  }
  const found = place;
  return node.outputs.map(() => found);
}

/** The first result has on `axis` as many elements as an input had: a 1 that is broadcast is no place for samples. */
function keepsSize(node: Node, axis: number, size: number | string | undefined): boolean {
  const result = node.outputs[0]?.shape?.[axis];
  return result !== undefined && size !== undefined && alwaysEqual(result, size);
}

/** Axes of a matrix product that are summed, counted from the front. */
function summed(node: Node<'MatMul' | 'FusedMatMul'>, port: 0 | 1): number {
  const rank = rankOf(node.input(port));
  const transposed = node.is('FusedMatMul') && node.attr(port === 0 ? 'transA' : 'transB') === 1;
  return rank === 1 || (port === 0) !== transposed ? rank - 1 : rank - 2;
}

/** Rows, columns and stacked matrices of a product stand by themselves; what is summed must belong to one sample. */
export function matmul(node: Node<'MatMul' | 'FusedMatMul'>, context: BatchContext): Places {
  const operands = [node.input(0), node.input(1)] as const;
  const rank = rankOf(node.output());
  const stacked = Math.max(...operands.map(rankOf));
  if (rank < 0 || operands.some((value) => rankOf(value) < 1)) return mixes;
  if (node.is('FusedMatMul') && (node.attr('transBatchA') || node.attr('transBatchB'))) return mixes;
  let place: Place | undefined;
  let like: Value | undefined;
  for (const port of [0, 1] as const) {
    const value = operands[port];
    const own = context.place(value);
    if (!own) continue;
    if (own.axis === summed(node, port)) return mixes;
    const matrix = own.axis >= rankOf(value) - 2;
    // Rows of the left and columns of the right matrix; a vector on the other side leaves no axis for itself.
    const axis = matrix ? (port === 0 ? rank - (rankOf(operands[1]) === 1 ? 1 : 2) : rank - 1) : own.axis + stacked - rankOf(value);
    if (matrix && context.place(operands[1 - port])) return mixes;
    const there = moved(own, axis);
    if ((place && !samePlace(place, there)) || !keepsSize(node, axis, value.shape?.[own.axis])) return mixes;
    place = there;
    like = value;
    if (matrix) return [there];
  }
  if (!place || !like) return mixes;
  for (const port of [0, 1] as const) {
    const problem = context.place(operands[port]) ? undefined : sameForAll(node, port, place, stacked, like, context);
    if (problem) return problem;
  }
  return [place];
}

export function gemm(node: Node<'Gemm'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  if (!place || place.axis !== (node.attr('transA') === 1 ? 1 : 0)) return mixes;
  return sameForAll(node, 2, moved(place, 0), 2, node.output(), context) ?? [moved(place, 0)];
}

/** The samples stand under one letter, once in every operand that has any, in no other operand, and in the result. */
export function einsum(node: Node<'Einsum'>, context: BatchContext): Places {
  const subscripts = subscriptsOf(node.attr('equation'), node.inputs.map(rankOf));
  if (!subscripts) return mixes;
  const places = node.inputs.map((value) => context.place(value));
  const first = places.findIndex(Boolean);
  const place = places[first];
  const letter = place && subscripts.inputs[first]?.[place.axis];
  if (!place || letter === undefined || !subscripts.output.includes(letter)) return mixes;
  for (const [port, letters] of subscripts.inputs.entries()) {
    const own = places[port];
    const apart = own
      ? letters.indexOf(letter) === own.axis && letters.lastIndexOf(letter) === own.axis && samePlace(moved(own, 0), moved(place, 0))
      : !letters.includes(letter);
    if (!apart) return mixes;
  }
  const axis = subscripts.output.indexOf(letter);
  return keepsSize(node, axis, node.input(first).shape?.[place.axis]) ? [moved(place, axis)] : mixes;
}

/** Query, key and value of a sample stand in its row; a mask is the same for all. */
export function attention(node: Node<'Attention'>, context: BatchContext): Places {
  const mask = node.inputs[3];
  const places = [0, 1, 2].map((port) => context.place(node.inputs[port]));
  const own = places.every((place) => place?.axis === 0 && isPlain(place)) && !node.inputs.slice(4).some(Boolean);
  if (!own || (mask && (context.place(mask) || (rankOf(mask) === 4 && mask.shape?.[0] !== 1)))) return mixes;
  return node.outputs.map(() => places[0]);
}

export function rotaryEmbedding(node: Node<'RotaryEmbedding'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  return place?.axis === 0 && isPlain(place) && !node.inputs[3] ? [place] : mixes;
}

/** Input [time, batch, …] with layout 0, [batch, time, …] with layout 1; first states are the same for all, and zeros need not be given. */
export function recurrent(node: Node<'RNN' | 'GRU' | 'LSTM'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const first = node.attr('layout') === 1;
  if (!place || !isPlain(place) || place.axis !== (first ? 0 : 1)) return 'takes the axis of the samples for another';
  if (node.inputs[4]) return 'has a length for each sample';
  for (const port of [5, 6]) {
    const state = node.inputs[port];
    if (!state) continue;
    const row = repeatedRow(state.constant, first ? 0 : 1);
    if (!row) return `starts from a state "${state.name}" made for a batch of ${context.batch}`;
    const zero = toNumbers(row).every((x) => x === 0);
    context.edit(() =>
      node.setInput(port, zero ? undefined : context.repeat(context.constant(state.name, row), first ? 0 : 1, node.input(0), node)),
    );
  }
  // Y has the directions between time and samples; the last states begin with them.
  return node.outputs.map((_, port) => (first ? place : moved(place, port === 0 ? 2 : 1)));
}
