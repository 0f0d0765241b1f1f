import { expect, it } from 'vitest';
import { deadCode } from './deadCode.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

it('takes out what is not read, and indices that are not read', async () => {
  const lines = await expectSameAfter(
    `graph g (x: float32[N, 2, 8], unused: float32[N]) opset 18
    dead = Exp(x)
    deader = Neg(dead)
    y, indices = MaxPool(x) {kernel_shape=[2], strides=[2]}
    return y`,
    [deadCode],
  );
  expect(lines).toEqual(['y: float32[N, 2, 4] = MaxPool(x) {kernel_shape=[2], strides=[2]}', 'return y']);
});

it('keeps indices that are read, and pieces of a split', () => {
  expectUntouched(
    'graph g (x: float32[N, 2, 8]) opset 18\ny, i = MaxPool(x) {kernel_shape=[2]}\nj = Cast(i) {to=float32}\nreturn y, j',
    deadCode,
  );
  expectUntouched('graph g (x: float32[N, 8]) opset 18\na, b = Split(x) {axis=1}\nreturn a', deadCode);
});
