import { expect, it } from 'vitest';
import { deadCode } from './deadCode.js';
import { dropExpand } from './dropExpand.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

it('lets an op that broadcasts do so', async () => {
  const lines = await expectSameAfter(
    `graph g (x: float32[N, 4, 6]) opset 18
    gate = ReduceMean(x, a=int64[1]{2})
    s = Shape(x)
    wide = Expand(gate, s)
    y = Mul(x, wide)
    return y`,
    [dropExpand, deadCode],
  );
  expect(lines).toEqual(['gate: float32[N, 4, 1] = ReduceMean(x, a=int64[1]{2})', 'y: float32[N, 4, 6] = Mul(x, gate)', 'return y']);
});

it.each([
  ['where nothing else has the shape', 'wide = Expand(x, s=int64[3]{1, 4, 6})\ny = Mul(wide, c=float32[]{2})\nreturn y'],
  ['where both sides are expanded', 'a = Expand(x, s=int64[3]{1, 4, 6})\nb = Expand(x, s)\ny = Add(a, b)\nreturn y'],
  ['that another op reads', 'wide = Expand(x, s=int64[3]{1, 4, 6})\nz = Relu(wide)\ny = Mul(z, wide)\nreturn y'],
  ['that is an output', 'a = Relu(x)\nwide = Expand(a, s=int64[3]{1, 4, 6})\nreturn wide'],
])('keeps an Expand %s', (_, body) => expectUntouched(`graph g (x: float32[N, 4, 1]) opset 18\n${body}`, dropExpand));
