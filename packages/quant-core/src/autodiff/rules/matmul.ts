import { staticShape } from '../../ir/builder.js';
import type { Value } from '../../ir/graph.js';
import { sizeOf } from '../../tensor/tensor.js';
import { type GradientRule, rule, untrainable } from '../rule.js';

/** Rows of a matrix product: dA = dY·Bᵀ, dB = Aᵀ·dY, with batch dimensions broadcast; a vector counts as a matrix of one row or column. */
const matmul: GradientRule<'MatMul'> = rule((node, dy, wanted, b) => {
  const [as, ws] = [staticShape(node.input(0)), staticShape(node.input(1))];
  const [matrixA, matrixW] = [as.length < 2 ? [1, ...as] : as, ws.length < 2 ? [...ws, 1] : ws];
  const a = as.length < 2 ? b.reshape(node.input(0), matrixA) : node.input(0);
  const w = ws.length < 2 ? b.reshape(node.input(1), matrixW) : node.input(1);
  const back = (value: Value, from: readonly number[], to: readonly number[]) => (from === to ? value : b.reshape(value, to));
  const [k, n] = matrixW.slice(-2) as [number, number];
  if (matrixW.length === 2) {
    const m = sizeOf(matrixA) / k;
    const flat = b.reshape(dy, [m, n]);
    return [
      wanted[0] ? b.reshape(b.op('Gemm', [flat, w], { transB: 1 }), as) : undefined,
      wanted[1] ? back(b.op('Gemm', [matrixA.length === 2 ? a : b.reshape(a, [m, k]), flat], { transA: 1 }), matrixW, ws) : undefined,
    ];
  }
  const ys = staticShape(node.output());
  const batch = as.length < 2 ? ys.slice(0, -1) : ys.slice(0, -2);
  const full = as.length < 2 ? b.reshape(dy, [...batch, 1, n]) : dy;
  return [
    wanted[0]
      ? back(b.unbroadcast(b.op('FusedMatMul', [full, w], { transB: 1 }), [...batch, matrixA.at(-2) as number, k], matrixA), matrixA, as)
      : undefined,
    wanted[1] ? b.unbroadcast(b.op('FusedMatMul', [a, full], { transA: 1 }), [...batch, k, n], ws) : undefined,
  ];
});

/** α·op(A)·op(B), where op may swap the last two axes. */
const fusedMatMul: GradientRule<'FusedMatMul'> = rule((node, dy, wanted, b) => {
  const [a, w] = [node.input(0), node.input(1)];
  const [as, ws, ys] = [staticShape(a), staticShape(w), staticShape(node.output())];
  if (node.attr('transBatchA') || node.attr('transBatchB') || as.length < 2 || ws.length < 2)
    throw untrainable(node, 'vectors, and batch axes that are moved, have no gradient');
  const [transA, transB, alpha] = [node.attr('transA'), node.attr('transB'), node.attr('alpha')];
  const da = () =>
    transA
      ? b.op('FusedMatMul', [w, dy], { transA: transB, transB: 1, alpha })
      : b.op('FusedMatMul', [dy, w], { transB: 1 - transB, alpha });
  const dw = () =>
    transB
      ? b.op('FusedMatMul', [dy, a], { transA: 1, transB: transA, alpha })
      : b.op('FusedMatMul', [a, dy], { transA: 1 - transA, alpha });
  const batch = ys.slice(0, -2);
  return [
    wanted[0] ? b.unbroadcast(da(), [...batch, ...as.slice(-2)], as) : undefined,
    wanted[1] ? b.unbroadcast(dw(), [...batch, ...ws.slice(-2)], ws) : undefined,
  ];
});

const gemm: GradientRule<'Gemm'> = rule((node, dy, wanted, b) => {
  const [a, w, c] = [node.input(0), node.input(1), node.inputs[2]];
  const [transA, transB, alpha, beta] = [node.attr('transA'), node.attr('transB'), node.attr('alpha'), node.attr('beta')];
  const da = () =>
    transA ? b.op('Gemm', [w, dy], { transA: transB, transB: 1, alpha }) : b.op('Gemm', [dy, w], { transB: transB ? 0 : 1, alpha });
  const dw = () =>
    transB ? b.op('Gemm', [dy, a], { transA: 1, transB: transA, alpha }) : b.op('Gemm', [a, dy], { transA: transA ? 0 : 1, alpha });
  const dc = () => {
    const summed = b.unbroadcast(dy, staticShape(node.output()), staticShape(c as Value));
    return beta === 1 ? summed : b.op('Mul', [summed, b.scalar(beta)]);
  };
  return [wanted[0] ? da() : undefined, wanted[1] ? dw() : undefined, wanted[2] && c ? dc() : undefined];
});

export const matmulRules = { MatMul: matmul, FusedMatMul: fusedMatMul, Gemm: gemm };
