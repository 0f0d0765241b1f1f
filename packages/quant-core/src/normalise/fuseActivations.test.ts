import { expect, it } from 'vitest';
import { deadCode } from './deadCode.js';
import { fuseActivations } from './fuseActivations.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const body = (lines: string) => `graph g (x: float32[N, 40]) opset 18\nx2 = Mul(x, five=float32[]{5})\n${lines}\nreturn y`;

it.each([
  ['y = Max(x2, z=float32[]{0})', 'Relu(x2)'],
  ['y = Clip(x2, z=float32[]{0}, _)', 'Relu(x2)'],
  ['y = Min(x2, z=float32[1]{6})', 'Clip(x2, _, y_max=float32[]{6})'],
  ['r = Relu(x2)\ny = Min(r, six=float32[]{6})', 'Clip(x2, y_min=float32[]{0}, y_max=float32[]{6})'],
  ['m = Min(six=float32[]{6}, x2)\ny = Max(m, z=float32[]{0})', 'Clip(x2, y_min=float32[]{0}, y_max=float32[]{6})'],
  [
    'a = Add(x2, t=float32[]{3})\nc = Clip(a, lo=float32[]{0}, hi=float32[]{6})\ny = Div(c, hi)',
    'HardSigmoid(x2) {alpha=0.16666667, beta=0.5}',
  ],
  [
    'a = Add(t=float32[]{3}, x2)\nr = Relu(a)\nc = Min(r, hi=float32[]{6})\ny = Mul(c, s=float32[]{0.16666667})',
    'HardSigmoid(x2) {alpha=0.16666667, beta=0.5}',
  ],
  ['a = Add(x2, t=float32[]{3})\nc = Clip(a, lo=float32[]{0}, hi=float32[]{6})\nd = Div(c, hi)\ny = Mul(x2, d)', 'HardSwish(x2)'],
  ['a = Add(x2, t=float32[]{3})\nc = Clip(a, lo=float32[]{0}, hi=float32[]{6})\nd = Mul(c, x2)\ny = Div(d, hi)', 'HardSwish(x2)'],
  ['h = HardSigmoid(x2) {alpha=0.16666667, beta=0.5}\ny = Mul(x2, h)', 'HardSwish(x2)'],
])('%s', async (lines, wanted) => {
  const result = (await expectSameAfter(body(lines), [fuseActivations, deadCode], 1e-6)).slice(1);
  expect(
    result[0]
      ?.replace(/^.* = /, '')
      .replace(/ @.*$/, '')
      .replace(/\w+_min/, 'y_min')
      .replace(/\w+_max/, 'y_max'),
  ).toBe(wanted);
  expect(result.length).toBe(2);
});

it.each([
  ['y = Clip(x2, lo=float32[]{0}, hi=float32[]{6})'],
  ['y = Max(x2, z=float32[40]{0})'],
  ['y = Max(x2, z=float32[1, 1, 1]{0})'],
  ['r = Relu(x2)\ny = Clip(r, lo=float32[]{-3}, hi=float32[]{-1})'],
  ['a = Add(x2, t=float32[]{2})\nc = Clip(a, lo=float32[]{0}, hi=float32[]{6})\ny = Div(c, hi)'],
  ['a = Add(x2, t=float32[]{3})\nc = Clip(a, lo=float32[]{0}, hi=float32[]{6})\ny = Div(hi, c)'],
  ['h = HardSigmoid(x2)\ny = Mul(x2, h)'],
  ['h = HardSigmoid(x2) {alpha=0.16666667}\ny = Mul(x, h)'],
])('leaves %s', (lines) => expectUntouched(body(lines), fuseActivations));

it('leaves a gate whose inner values others read', () => {
  expectUntouched(
    'graph g (x: float32[N]) opset 18\na = Add(x, t=float32[]{3})\nc = Clip(a, lo=float32[]{0}, hi=float32[]{6})\ny = Div(c, hi)\nreturn y, c',
    fuseActivations,
  );
});
