import type { Dim, Node } from '../graph.js';
import { neverEqual } from './dim.js';
import { broadcast, commonDType, misfit, show, type Types, typed, wantBroadcastTo, wantRank } from './rule.js';

/** A [M, K] (or its transpose), B [K, N], C broadcast to [M, N]. */
export function gemm(node: Node<'Gemm'>): Types {
  const dtype = commonDType(node, [0, 1, 2]);
  wantRank(node, 0, 2);
  wantRank(node, 1, 2);
  const a = node.input(0).shape;
  const b = node.input(1).shape;
  const [rows, inner] = node.attr('transA') ? [a?.[1], a?.[0]] : [a?.[0], a?.[1]];
  const [innerB, columns] = node.attr('transB') ? [b?.[1], b?.[0]] : [b?.[0], b?.[1]];
  if (inner !== undefined && innerB !== undefined && neverEqual(inner, innerB)) {
    throw misfit(node, `the inner dimensions of ${show(a)} and ${show(b)} are ${inner} and ${innerB}`, node.input(0));
  }
  if (rows === undefined || columns === undefined) return [typed(dtype, undefined)];
  wantBroadcastTo(node, 2, [rows, columns]);
  return [typed(dtype, [rows, columns])];
}

function multiply(node: Node<'MatMul' | 'FusedMatMul'>, a: readonly Dim[] | undefined, b: readonly Dim[] | undefined): Types {
  const dtype = commonDType(node, [0, 1]);
  if (!a || !b) return [typed(dtype, undefined)];
  if (a.length === 0 || b.length === 0)
    throw misfit(node, 'a scalar cannot be multiplied as a matrix', a.length === 0 ? node.input(0) : node.input(1));
  const left = a.length === 1 ? [1, a[0] as Dim] : a;
  const right = b.length === 1 ? [b[0] as Dim, 1] : b;
  const inner = left.at(-1) as Dim;
  if (neverEqual(inner, right.at(-2) as Dim)) {
    throw misfit(node, `the inner dimensions of ${show(a)} and ${show(b)} are ${inner} and ${right.at(-2)}`, node.input(0));
  }
  const batch = broadcast(node, [left.slice(0, -2), right.slice(0, -2)]) as Dim[];
  const out = [...batch, ...(a.length === 1 ? [] : [left.at(-2) as Dim]), ...(b.length === 1 ? [] : [right.at(-1) as Dim])];
  return [typed(dtype, out)];
}

/** Numpy's matmul. */
export const matMul = (node: Node<'MatMul'>): Types => multiply(node, node.input(0).shape, node.input(1).shape);

/** As MatMul, with the last two axes of an operand swapped, or its first axis moved in front of the last. */
export function fusedMatMul(node: Node<'FusedMatMul'>): Types {
  const turned = (shape: readonly Dim[] | undefined, trans: boolean, transBatch: boolean): readonly Dim[] | undefined => {
    if (!shape || shape.length < 2) return shape;
    const moved = transBatch ? [...shape.slice(1, -1), shape[0] as Dim, shape.at(-1) as Dim] : [...shape];
    return trans ? [...moved.slice(0, -2), moved.at(-1) as Dim, moved.at(-2) as Dim] : moved;
  };
  return multiply(
    node,
    turned(node.input(0).shape, node.attr('transA') === 1, node.attr('transBatchA') === 1),
    turned(node.input(1).shape, node.attr('transB') === 1, node.attr('transBatchB') === 1),
  );
}
