import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shuffled, split } from './split.js';

test('parts are disjoint, ascending and complete; the share is kept in every class', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 400 }),
      fc.double({ min: 0.01, max: 0.9, noNaN: true }),
      fc.integer({ min: 0, max: 1000 }),
      fc.integer({ min: 1, max: 12 }),
      (count, share, seed, classes) => {
        const labels = Int32Array.from({ length: count }, (_, i) => (i * 7) % classes);
        const { rest, held } = split(count, share, seed, labels);
        expect([...rest, ...held].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
        for (const part of [rest, held]) expect([...part]).toEqual([...part].sort((a, b) => a - b));
        expect(held.length).toBe(Math.min(count - 1, Math.max(1, Math.round(count * share))));
        for (let label = 0; label < classes; label++) {
          const size = labels.filter((l) => l === label).length;
          const taken = held.filter((i) => labels[i] === label).length;
          if (size > 1) expect(taken).toBeLessThanOrEqual(Math.ceil((size * held.length) / count));
          expect(Math.abs(taken - (size * held.length) / count)).toBeLessThanOrEqual(classes);
        }
      },
    ),
  );
});

test('the same seed gives the same split, another one another', () => {
  expect(split(100, 0.2, 1)).toEqual(split(100, 0.2, 1));
  expect(split(100, 0.2, 1).held).not.toEqual(split(100, 0.2, 2).held);
  expect([...split(100, 0.2, 1).held]).not.toEqual(Array.from({ length: 20 }, (_, i) => i));
});

test('a class of one is not held out while larger ones can give', () => {
  for (let seed = 0; seed < 5; seed++) expect([...split(6, 4 / 6, seed, Int32Array.of(0, 0, 0, 0, 0, 1)).rest]).toContain(5);
});

test('no class gives more than its share rounded up', () => {
  const labels = Int32Array.of(0, 0, 1, 2, 3, 4, 5, 6, 7);
  const { held } = split(9, 1 / 6, 0, labels);
  expect(held).toHaveLength(2);
  expect(held.filter((i) => labels[i] === 0).length).toBeLessThanOrEqual(1);
});

test('an epoch is a permutation of its own', () => {
  const indices = Uint32Array.of(5, 6, 7, 8, 9, 10, 11, 12);
  const first = shuffled(indices, 0, 0);
  expect([...first].sort((a, b) => a - b)).toEqual([...indices]);
  expect(shuffled(indices, 0, 0)).toEqual(first);
  expect(shuffled(indices, 0, 1)).not.toEqual(first);
  expect(shuffled(indices, 1, 0)).not.toEqual(first);
});
