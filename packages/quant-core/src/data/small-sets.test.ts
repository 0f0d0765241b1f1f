import { expect, test } from 'vitest';
import { smallSets } from './small-sets.js';

test('sets that are large enough are not spoken of', () => {
  expect(smallSets({ calibration: 32, holdout: 50, evaluation: 100 })).toEqual([]);
});

test('each small set is told, with what it does to the result', () => {
  const small = smallSets({ calibration: 1, holdout: 49, evaluation: 99 });
  expect(small.map(({ set, samples, least }) => [set, samples, least])).toEqual([
    ['calibration', 1, 32],
    ['holdout', 49, 50],
    ['evaluation', 99, 100],
  ]);
  expect(small[0]?.text).toBe(
    'Only 1 sample calibrates (32 or more are advised): ranges of activations may miss values that come up in use.',
  );
  expect(small[1]?.text).toContain('Only 49 held-out samples choose');
});
