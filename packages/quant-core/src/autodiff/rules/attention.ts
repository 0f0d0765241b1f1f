import { type GraphBuilder, staticShape } from '../../ir/builder.js';
import type { Node, Value } from '../../ir/graph.js';
import { byHead } from '../../ir/shapes/attention.js';
import { Tensor } from '../../tensor/tensor.js';
import { type GradientRule, rule, untrainable } from '../rule.js';

interface Operand {
  /** [batch, heads, length, size] */
  shape: readonly number[];
  /** The value with its heads on an axis of their own, each repeated for the queries that share it. */
  value: Value;
  /** The gradient of `value` in the layout of the input. */
  back: (gradient: Value) => Value;
}

function operand(node: Node<'Attention'>, port: number, heads: number, b: GraphBuilder): Operand {
  const input = node.input(port);
  const given = staticShape(input);
  const shape = byHead(node, input) as readonly number[];
  const [batch, own, length, size] = shape as [number, number, number, number];
  const flat = given.length === 3;
  const apart = flat ? b.op('Transpose', [b.reshape(input, [batch, length, own, size])], { perm: [0, 2, 1, 3] }) : input;
  const share = heads / own;
  const spread = [batch, own, share, length, size];
  const value =
    share === 1
      ? apart
      : b.reshape(b.op('Expand', [b.reshape(apart, [batch, own, 1, length, size]), b.ints(spread)]), [batch, heads, length, size]);
  const back = (gradient: Value): Value => {
    const summed = share === 1 ? gradient : b.sum(b.reshape(gradient, spread), [2]);
    return flat ? b.reshape(b.op('Transpose', [summed], { perm: [0, 2, 1, 3] }), given) : summed;
  };
  return { shape: [batch, heads, length, size], value, back };
}

/** Far below every score, and finite. */
const never = -1e9;

/**
 * Y = P·V with P = softmax(S), S = Q·Kᵀ·scale + mask: dV = Pᵀ·dY, dP = dY·Vᵀ, dS = P ⊙ (dP - Σ dP⊙P), dQ = dS·K·scale, dK = dSᵀ·Q·scale.
 * The probabilities are computed once more: the operator does not give them.
 */
export const attention: GradientRule<'Attention'> = rule((node, dy, wanted, b) => {
  if (node.inputs.slice(4).some(Boolean)) throw untrainable(node, 'keys and values of earlier steps have no gradient');
  if (node.attr('softcap')) throw untrainable(node, 'softcap has no gradient');
  const heads = (byHead(node, node.input(0)) as readonly number[])[1] as number;
  const [q, k, v] = [0, 1, 2].map((port) => operand(node, port, heads, b)) as [Operand, Operand, Operand];
  const [batch, , rows, size] = q.shape as [number, number, number, number];
  const columns = k.shape[2] as number;
  const alpha = node.attr('scale') ?? 1 / Math.sqrt(size);
  const scoreShape = [batch, heads, rows, columns];
  let scores = b.op('FusedMatMul', [q.value, k.value], { transB: 1, alpha });
  const mask = node.inputs[3];
  if (mask) {
    if (staticShape(mask).at(-1) !== columns && staticShape(mask).at(-1) !== 1)
      throw untrainable(node, 'a mask shorter than the keys has no gradient');
    scores = mask.dtype === 'bool' ? b.op('Where', [mask, scores, b.scalar(never)]) : b.op('Add', [scores, mask]);
  }
  if (node.attr('is_causal')) {
    const later = Float32Array.from({ length: rows * columns }, (_, i) => (i % columns > Math.floor(i / columns) ? never : 0));
    scores = b.op('Add', [scores, b.constant(Tensor.float32([rows, columns], later), 'causal')]);
  }
  const p = b.op('Softmax', [scores], { axis: -1 });
  const width = v.shape[3] as number;
  const flat = staticShape(node.input(0)).length === 3;
  const dy4 = flat ? b.op('Transpose', [b.reshape(dy, [batch, rows, heads, width])], { perm: [0, 2, 1, 3] }) : dy;
  const dp = b.op('FusedMatMul', [dy4, v.value], { transB: 1 });
  const ds = b.op('Mul', [p, b.op('Sub', [dp, b.sum(b.op('Mul', [dp, p]), [3], true)])]);
  return [
    wanted[0] ? q.back(b.op('FusedMatMul', [ds, k.value], { alpha })) : undefined,
    wanted[1] ? k.back(b.op('FusedMatMul', [ds, q.value], { transA: 1, alpha })) : undefined,
    wanted[2] ? v.back(b.op('FusedMatMul', [p, dy4], { transA: 1 })) : undefined,
    wanted[3] && mask ? b.unbroadcast(ds, scoreShape, staticShape(mask)) : undefined,
  ];
});

/** A rotation: the gradient is turned back. */
export const rotaryEmbedding: GradientRule<'RotaryEmbedding'> = rule((node, dy, _wanted, b) => {
  const turned = b.op('RotaryEmbedding', [dy, node.input(1), b.op('Neg', [node.input(2)]), node.inputs[3]], { ...node.attrs });
  return [turned, undefined, undefined, undefined];
});
