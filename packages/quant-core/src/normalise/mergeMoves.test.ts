import { expect, it } from 'vitest';
import { dropIdentities } from './dropIdentities.js';
import { mergeMoves } from './mergeMoves.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const graph = (body: string) => `graph g (x: float32[N, 4, 6, 5]) opset 18\n${body}\nreturn y`;

it('merges transposes, and drops a pair that undoes itself', async () => {
  const merged = await expectSameAfter(graph('a = Transpose(x) {perm=[0, 2, 3, 1]}\ny = Transpose(a) {perm=[0, 3, 2, 1]}'), [
    mergeMoves,
    dropIdentities,
  ]);
  expect(merged[0]).toBe('y: float32[N, 4, 5, 6] = Transpose(x) {perm=[0, 1, 3, 2]}');
  const undone = await expectSameAfter(
    graph('r = Relu(x)\na = Transpose(r) {perm=[0, 2, 3, 1]}\nb = Transpose(a) {perm=[0, 3, 1, 2]}\ny = Neg(b)'),
    [mergeMoves, dropIdentities],
  );
  expect(undone.length).toBe(3);
});

it.each(['a = Flatten(x)', 'a = Unsqueeze(x, i=int64[1]{1})', 'a = Reshape(x, s=int64[2]{-1, 30})'])(
  'skips %s before a Reshape',
  async (line) => {
    const lines = await expectSameAfter(graph(`${line}\ny = Reshape(a, t=int64[3]{-1, 8, 15})`), [mergeMoves]);
    expect(lines[0]).toBe('y: float32[N, 8, 15] = Reshape(x, t=int64[3]{-1, 8, 15})');
  },
);

it.each([
  ['a Reshape that copies a size', 'a = Flatten(x)\ny = Reshape(a, t=int64[3]{0, 8, 15})'],
  [
    'what others read',
    'a = Transpose(x) {perm=[0, 2, 3, 1]}\nb = Transpose(a) {perm=[0, 3, 1, 2]}\nc = Relu(a)\nd = Transpose(c) {perm=[0, 3, 1, 2]}\ny = Add(b, d)',
  ],
])('keeps %s', (_, body) => expectUntouched(graph(body), mergeMoves));
