import { expect, it } from 'vitest';
import { foldMulAdd } from './foldMulAdd.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const conv = (tail: string) => `graph g (x: float32[N, 4, 6, 6]) opset 18\nc = Conv(x, w=float32[5, 4, 3, 3]#) @conv1\n${tail}\nreturn y`;

it('folds a decomposed batch norm', async () => {
  const lines = await expectSameAfter(conv('m = Mul(c, s=float32[5, 1, 1]#)\ny = Add(m, t=float32[1, 5, 1, 1]#)'), [foldMulAdd]);
  expect(lines).toEqual(['y: float32[N, 5, 4, 4] = Conv(x, w=float32[5, 4, 3, 3], conv1.bias=float32[5]) @conv1', 'return y']);
});

it.each([
  'y = Mul(s=float32[]{2}, c)',
  'y = Div(c, s=float32[5, 1, 1]#)',
  'y = Sub(c, s=float32[1]{3})',
  'y = Sub(s=float32[5, 1, 1]#, c)',
  'y = Add(s=float32[1, 1, 1, 1]{3}, c)',
])('folds %s', async (tail) => {
  expect((await expectSameAfter(conv(tail), [foldMulAdd])).length).toBe(2);
});

it('folds after a Gemm, and a factor after a MatMul of any rank', async () => {
  expect(
    (
      await expectSameAfter(
        'graph g (x: float32[N, 5]) opset 18\nc = Gemm(x, w=float32[4, 5]#, b=float32[4]#) {transB=1}\ny = Mul(c, s=float32[4]#)\nreturn y',
        [foldMulAdd],
      )
    ).length,
  ).toBe(2);
  expect(
    (
      await expectSameAfter(
        'graph g (x: float32[N, 3, 5]) opset 18\nc = MatMul(x, w=float32[5, 4]#)\ny = Mul(c, s=float32[4]#)\nreturn y',
        [foldMulAdd],
      )
    ).length,
  ).toBe(2);
});

it.each([
  ['a constant for each position', conv('y = Mul(c, s=float32[4, 4]#)')],
  ['a constant that adds an axis', conv('y = Mul(c, s=float32[1, 1, 5, 1, 1]#)')],
  ['a result that others read', conv('m = Mul(c, s=float32[]{2})\ny = Add(m, c)')],
  ['a constant divided by the result', conv('y = Div(s=float32[]{2}, c)')],
  ['a division by zero', conv('y = Div(c, s=float32[5, 1, 1]{1, 0, 1, 1, 1})')],
  ['two results', conv('y = Add(c, c)')],
  [
    'a shift after a MatMul that is not of rank 2',
    'graph g (x: float32[N, 3, 5]) opset 18\nc = MatMul(x, w=float32[5, 4]#)\ny = Add(c, s=float32[4]#)\nreturn y',
  ],
])('leaves %s', (_, text) => expectUntouched(text, foldMulAdd));
