import { expect, it } from 'vitest';
import { dropIdentities } from './dropIdentities.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const around = (line: string, shape = 'N, 4, 1, 6') => `graph g (x: float32[${shape}]) opset 18
    a = Relu(x)
    ${line}
    y = Neg(b)
    return y`;

const chain = ['a', 'y'];

it.each([
  'b = Identity(a)',
  'b = Cast(a) {to=float32}',
  'b = Reshape(a, s=int64[4]{0, 4, -1, 6})',
  'b = Transpose(a) {perm=[0, 1, 2, 3]}',
  'b = Pad(a, p=int64[8]{0})',
  'b = Slice(a, s=int64[2]{0}, e=int64[2]{9223372036854775807, 4}, axes=int64[2]{0, 1})',
  'b = Concat(a) {axis=1}',
  'b = Mul(a, c=float32[1, 4, 1, 1]{1})',
  'b = Mul(c=float32[]{1}, a)',
  'b = Add(a, c=float32[4, 1, 1]{0})',
  'b = Sub(a, c=float32[1]{0})',
  'b = Div(a, c=float32[1]{1})',
  'b = Pow(a, c=float32[]{1})',
  'b = Max(a)',
  'b = Clip(a, lo=float32[]{-inf}, _)',
  'b = MaxPool(a) {kernel_shape=[1, 1]}',
  'b = Expand(a, s=int64[2]{1, 6})',
  'b = Split(a) {axis=1, num_outputs=1}',
])('drops %s', async (line) => {
  expect((await expectSameAfter(around(line), [dropIdentities])).map((text) => text.split(':')[0]).slice(0, -1)).toEqual(chain);
});

it.each([
  ['b = Cast(a) {to=float64}'],
  ['b = Reshape(a, s=int64[3]{0, 4, 6})'],
  ['b = Transpose(a) {perm=[0, 2, 1, 3]}'],
  ['b = Pad(a, p=int64[8]{0, 0, 0, 1, 0, 0, 0, -1})'],
  ['b = Slice(a, s=int64[1]{-1}, e=int64[1]{-99}, axes=int64[1]{3}, steps=int64[1]{-1})'],
  ['b = Slice(a, s=int64[1]{0}, e=int64[1]{4}, axes=int64[1]{0})'],
  ['b = Mul(a, c=float32[1, 4, 5, 1]{1})'],
  ['b = Mul(a, c=float32[2]{1, 2})', 'N, 2'],
  ['b = Sub(c=float32[]{0}, a)'],
  ['b = Div(c=float32[]{1}, a)'],
  ['b = Add(a, c=float32[1, 1, 1, 1, 1]{0})'],
  ['b = Clip(a, lo=float32[]{-inf}, hi=float32[]{6})'],
  ['b = MaxPool(a) {kernel_shape=[1, 1], strides=[2, 2]}'],
])('keeps %s', (...[line, shape]) => expectUntouched(around(line, shape), dropIdentities));

it('keeps an identity that stands between an input or constant and an output', () => {
  expectUntouched('graph g (x: float32[N]) opset 18\ny = Identity(x)\nz = Identity(c=float32[]{1})\nreturn y, z', dropIdentities);
});

it('keeps the names of outputs', async () => {
  const lines = await expectSameAfter('graph g (x: float32[N]) opset 18\na = Relu(x)\ny = Identity(a)\nz = Identity(a)\nreturn y, z', [
    dropIdentities,
  ]);
  expect(lines).toEqual(['y: float32[N] = Relu(x) @a', 'z: float32[N] = Identity(y)', 'return y, z']);
});
