import { describe, expect, it } from 'vitest';
import { type OpType, ops } from '../ir/ops.js';
import { gradientRules } from './rules.js';
import { elementwiseCases } from './testing/elementwiseCases.js';
import { gradientError } from './testing/gradcheck.js';
import { layerCases } from './testing/layerCases.js';
import { movementCases } from './testing/movementCases.js';
import { reduceCases } from './testing/reduceCases.js';

const cases = { ...layerCases, ...elementwiseCases, ...reduceCases, ...movementCases };

for (const [op, list] of Object.entries(cases)) {
  describe(`gradient of ${op}`, () => {
    it.each(list)('$what', async ({ leaves, body, opset }) => {
      expect(await gradientError(leaves, body, { opset })).toBeLessThan(5e-3);
    });
  });
}

it('checks every op that has a gradient', () => {
  const unchecked = (Object.keys(ops) as OpType[]).filter((op) => gradientRules[op] && !cases[op]);
  expect(unchecked).toEqual([]);
});
