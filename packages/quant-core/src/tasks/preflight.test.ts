import { describe, expect, it } from 'vitest';
import type { DatasetSummary } from '../events.js';
import { defaultRecipe, type Recipe } from '../recipe.js';
import { checkRecipe, type DataFacts, type ModelFacts } from './preflight.js';
import { modelOutput } from './testing/specs.js';

const model: ModelFacts = {
  inputs: [{ name: 'x', shape: [4], dtype: 'float32' }],
  outputs: [modelOutput('y', 'values', [3], { certain: false })],
};
const data = (changes: Partial<DatasetSummary> = {}, config: DataFacts['config'] = {}): DataFacts => ({
  config,
  summary: {
    format: 'npz',
    samples: 100,
    sampleShape: [4],
    dtype: 'float32',
    task: 'classification',
    classes: 3,
    range: { min: 0, max: 1 },
    bytes: 1000,
    ...changes,
  },
});
const values: Partial<DatasetSummary> = {
  task: 'regression',
  classes: undefined,
  targetShape: [3],
  targetFacts: { whole: false, min: 0, max: 1, sumsToOne: false },
};
const unlabelled: Partial<DatasetSummary> = { task: 'unlabelled', classes: undefined };
const recipe = (training: Partial<Recipe['training']> = {}, evaluation: Partial<Recipe['evaluation']> = {}): Recipe => {
  const base = defaultRecipe();
  return { ...base, training: { ...base.training, ...training }, evaluation: { ...base.evaluation, ...evaluation } };
};
const found = (...args: Parameters<typeof checkRecipe>) => checkRecipe(...args).map(({ pointer, code }) => [pointer, code]);

describe('a job that cannot be', () => {
  it.each([
    ['mse with class labels', recipe({ loss: 'mse' }), data(), '/training/loss', 'CONFIG_IMPOSSIBLE'],
    ['cross-entropy with values', recipe({ loss: 'cross_entropy' }), data(values), '/training/loss', 'CONFIG_IMPOSSIBLE'],
    ['cross-entropy without labels', recipe({ loss: 'cross_entropy' }), data(unlabelled), '/training/loss', 'CONFIG_IMPOSSIBLE'],
    ['top-1 of values', recipe({}, { metric: 'top1' }), data(values), '/evaluation/metric', 'CONFIG_IMPOSSIBLE'],
    ['R² of classes', recipe({}, { metric: 'r2' }), data(), '/evaluation/metric', 'CONFIG_IMPOSSIBLE'],
    ['too many classes', recipe(), data({ classes: 5 }), '/dataset', 'DATASET_CLASSES'],
    ['samples of another shape', recipe(), data({ sampleShape: [5] }), '/dataset', 'DATASET_SHAPE'],
    ['an output that is none', recipe(), data({}, { output: 'z' }), '/output', 'CONFIG_IMPOSSIBLE'],
  ] as const)('%s', (_what, asked, dataset, pointer, code) => {
    expect(found(asked, model, dataset)).toEqual([[pointer, code]]);
  });

  it('augmentation of what is not an image, or would have to move its targets', () => {
    const augment = { ...recipe().training.augment, flip: true };
    expect(found(recipe({ augment }), model, data())).toEqual([['/training/augment', 'CONFIG_IMPOSSIBLE']]);
    expect(found({ ...recipe({ augment }), method: 'ptq' }, model, data())).toEqual([]);
    const inputs = [{ name: 'x', shape: [3, 8, 8], dtype: 'float32' }] as const;
    const images = { ...model, inputs };
    const pictures = { sampleShape: [3, 8, 8] };
    expect(found(recipe({ augment }), images, data(pictures))).toEqual([]);
    const masks = { inputs, outputs: [modelOutput('y', 'classes', [4, 8, 8], { axis: 1 })] };
    const positions: Partial<DatasetSummary> = {
      ...values,
      ...pictures,
      targetShape: [8, 8],
      targetFacts: { whole: true, min: 0, max: 3, sumsToOne: false },
    };
    expect(found(recipe({ augment }), masks, data(positions))).toEqual([['/training/augment/flip', 'CONFIG_IMPOSSIBLE']]);
    expect(found(recipe({ augment, loss: 'distillation' }), masks, data(positions))).toEqual([]);
  });

  it('evaluation data with other labels, or other samples', () => {
    expect(found(recipe(), model, data(), data(values))).toEqual([['/evaluationDataset', 'DATASET_LABELS']]);
    expect(found(recipe(), model, data(unlabelled), data())).toEqual([['/evaluationDataset', 'DATASET_LABELS']]);
    expect(found(recipe(), model, data(), data({ sampleShape: [5] }))).toEqual([['/evaluationDataset', 'DATASET_SHAPE']]);
  });

  it('training of what cannot be trained', () => {
    const stuck = { ...model, notTrainable: 'Floor has no gradient.' };
    expect(found(recipe(), stuck, data())).toEqual([['/method', 'MODEL_NOT_TRAINABLE']]);
    expect(found({ ...recipe(), method: 'ptq' }, stuck, data())).toEqual([]);
  });

  it('everything that stands against it is said at once', () => {
    expect(found(recipe({ loss: 'mse' }, { metric: 'mae' }), model, data()).map(([pointer]) => pointer)).toEqual([
      '/evaluation/metric',
      '/training/loss',
    ]);
  });
});

it('a job that can be has nothing against it', () => {
  expect(found(recipe(), model, data(), data())).toEqual([]);
  expect(found(recipe({ loss: 'huber' }), model, data(values))).toEqual([]);
  expect(found(recipe({ loss: 'distillation' }), model, data())).toEqual([]);
  // Shares that happen to be 0 or 1 in the evaluation data are read as those of the training data.
  const shares: Partial<DatasetSummary> = { targetShape: [3], classes: undefined };
  const soft = data({ ...shares, task: 'soft_classification', targetFacts: { whole: false, min: 0, max: 1, sumsToOne: true } });
  const hard = data({ ...shares, task: 'soft_classification', targetFacts: { whole: true, min: 0, max: 1, sumsToOne: true } });
  expect(found(recipe(), model, soft, hard)).toEqual([]);
});

describe('what is stated of the float model', () => {
  const pointers = (expectedFloat: number, labels = data()) =>
    checkRecipe(recipe({}, { expectedFloat }), model, labels).map(({ pointer, hint }) => `${pointer} ${hint}`);

  it('must be a value of the metric, and wants labels', () => {
    expect(pointers(0.93)).toEqual([]);
    expect(pointers(93)).toEqual(['/evaluation/expectedFloat Write 0.93 for 93 %.']);
    expect(pointers(0.93, data(unlabelled))).toEqual(['/evaluation/expectedFloat Leave it out, or send labels.']);
  });
});
