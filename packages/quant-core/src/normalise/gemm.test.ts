import { expect, it } from 'vitest';
import { matmulAddToGemm, plainGemm } from './gemm.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const matmul = (tail: string, input = 'N, 5') =>
  `graph g (x: float32[${input}]) opset 18\nc = MatMul(x, w=float32[5, 4]#) @fc/MatMul\n${tail}\nreturn y`;

it.each(['y = Add(c, b=float32[4]#)', 'y = Add(b=float32[1, 4]#, c)', 'y = Add(c, b=float32[]{2})'])('MatMul and %s', async (tail) => {
  const lines = await expectSameAfter(matmul(tail), [matmulAddToGemm]);
  expect(lines.length).toBe(2);
  expect(lines[0]).toMatch(/^y: float32\[N, 4\] = Gemm\(x, w=float32\[5, 4\], b(_1)?=float32\[4\](\{2\})?\) @fc\/MatMul$/);
});

it.each([
  ['a batch of matrices', matmul('y = Add(c, b=float32[4]#)', 'N, 3, 5')],
  ['a bias for each row', matmul('y = Add(c, b=float32[2, 1]#)', '2, 5')],
  ['a result that others read', matmul('a = Add(c, b=float32[4]#)\ny = Mul(a, c)')],
  [
    'a bias that is not a constant',
    'graph g (x: float32[N, 5], b: float32[4]) opset 18\nc = MatMul(x, w=float32[5, 4]#)\ny = Add(c, b)\nreturn y',
  ],
])('leaves %s', (_, text) => expectUntouched(text, matmulAddToGemm));

const gemm = (call: string) => `graph g (x: float32[N, 5]) opset 18\ny = ${call}\nreturn y`;

it.each([
  'Gemm(x, w=float32[5, 4]#, b=float32[4]#) {alpha=0.5, beta=2}',
  'Gemm(x, w=float32[5, 4]#, b=float32[1, 4]#)',
  'Gemm(x, w=float32[4, 5]#, b=float32[]{2}) {transB=1, beta=0.5}',
  'Gemm(x, w=float32[5, 4]#) {alpha=3}',
])('makes %s plain', async (call) => {
  const lines = await expectSameAfter(gemm(call), [plainGemm]);
  expect(lines[0]).not.toMatch(/alpha=(0.5|3)|beta=(0.5|2)/);
});

it('leaves a plain Gemm, and one with a bias for each row', () => {
  expectUntouched(gemm('Gemm(x, w=float32[5, 4]#, b=float32[4]#)'), plainGemm);
  expectUntouched('graph g (x: float32[2, 5]) opset 18\ny = Gemm(x, w=float32[5, 4]#, b=float32[2, 1]#) {alpha=2}\nreturn y', plainGemm);
});
