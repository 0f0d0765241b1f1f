import { expect, it } from 'vitest';
import { deadCode } from './deadCode.js';
import { foldShapeArithmetic } from './foldShapeArithmetic.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const fold = [foldShapeArithmetic, deadCode];

it('writes a computed Reshape target as a constant', async () => {
  const lines = await expectSameAfter(
    `graph g (x: float32[N, 4, 2, 3]) opset 18
    s = Shape(x)
    n = Gather(s, zero=int64[]{0}) {axis=0}
    u = Unsqueeze(n, axes=int64[1]{0})
    t = Concat(u, rest=int64[1]{-1}) {axis=0}
    y = Reshape(x, t)
    flat = Mul(u, c=int64[1]{24})
    z = Reshape(y, flat)
    return y, z`,
    fold,
  );
  expect(lines).toEqual([
    'y: float32[N, 24] = Reshape(x, y_shape=int64[2]{0, 24})',
    'z: float32["24*N"] = Reshape(y, z_shape=int64[1]{-1})',
    'return y, z',
  ]);
});

it('makes constants of sizes that are numbers', async () => {
  const lines = await expectSameAfter(
    `graph g (x: float32[N, 4, 6]) opset 18
    s = Shape(x) {start=1, end=2}
    half = Div(s, two=int64[1]{2})
    y = Slice(x, start=int64[1]{0}, half, axes=int64[1]{1})
    return y`,
    fold,
  );
  expect(lines[0]).toBe('y: float32[N, 2, 6] = Slice(x, start=int64[1]{0}, half_known=int64[1]{2}, axes=int64[1]{1})');
});

it('writes Expand and Slice without the open size', async () => {
  const lines = await expectSameAfter(
    `graph g (x: float32[N, 1]) opset 18
    n = Shape(x) {end=1}
    t = Concat(n, c=int64[1]{5}) {axis=0}
    a = Expand(x, t)
    one = Sub(n, d=int64[1]{1})
    b = Slice(a, s=int64[1]{0}, n, axes=int64[1]{0})
    y = Slice(b, one, n, axes2=int64[1]{0})
    return y`,
    fold,
  );
  expect(lines).toEqual([
    'a: float32[N, 5] = Expand(x, a_shape=int64[2]{1, 5})',
    'b: float32[N, 5] = Slice(a, s=int64[1]{0}, b_end=int64[1]{9007199254740991}, axes=int64[1]{0})',
    'y: float32[1, 5] = Slice(b, y_shape=int64[1]{-1}, y_end=int64[1]{9007199254740991}, axes2=int64[1]{0})',
    'return y',
  ]);
});

it('keeps targets with two sizes it cannot copy, and outputs', () => {
  expectUntouched(
    `graph g (x: float32[N, C, 4]) opset 18
    s = Shape(x)
    t = Gather(s, order=int64[3]{1, 0, 2}) {axis=0}
    y = Reshape(x, t)
    k = Shape(x) {start=2}
    return y, k`,
    foldShapeArithmetic,
  );
});

it('keeps sizes that depend on data', () => {
  expectUntouched('graph g (x: float32[N], t: int64[2]) opset 18\ny = Reshape(x, t)\nreturn y', foldShapeArithmetic);
});
