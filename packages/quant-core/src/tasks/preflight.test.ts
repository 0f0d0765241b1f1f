import { describe, expect, it } from 'vitest';
import type { DatasetSummary } from '../events.js';
import { defaultRecipe, type Recipe } from '../recipe.js';
import { checkRecipe } from './preflight.js';
import { modelOutput } from './testing/specs.js';

const model = {
  inputs: [{ name: 'x', dtype: 'float32' as const, shape: [1, 8, 8] }],
  outputs: [modelOutput('y', 'classes', [10])],
};
const labelled: DatasetSummary = {
  format: 'npz',
  samples: 100,
  sampleShape: [1, 8, 8],
  dtype: 'float32',
  task: 'classification',
  classes: 10,
  classCounts: new Array(10).fill(10),
  range: { min: 0, max: 1 },
  bytes: 1,
};

/** Fields that are found fault with. */
function faults(evaluation: Partial<Recipe['evaluation']>, summary = labelled): string[] {
  const recipe = defaultRecipe();
  return checkRecipe({ ...recipe, evaluation: { ...recipe.evaluation, ...evaluation } }, model, { config: {}, summary }).map(
    ({ pointer, hint }) => `${pointer} ${hint}`,
  );
}

describe('what is stated of the float model', () => {
  it('must be a value of the metric, and wants labels', () => {
    expect(faults({ expectedFloat: 0.93 })).toEqual([]);
    expect(faults({ expectedFloat: 93 })).toEqual(['/evaluation/expectedFloat Write 0.93 for 93 %.']);
    const { classes, classCounts, ...bare } = labelled;
    expect(faults({ expectedFloat: 0.93 }, { ...bare, task: 'unlabelled' })).toEqual([
      '/evaluation/expectedFloat Leave it out, or send labels.',
    ]);
  });
});
