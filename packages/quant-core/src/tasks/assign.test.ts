import { describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { assignTasks, type Labels } from './assign.js';
import { modelOutput } from './testing/specs.js';

const classes = (n: number, more: Partial<Labels> = {}): Labels => ({ task: 'classification', classes: n, ...more });
const rows = (task: Labels['task'], targetShape: number[], facts: Partial<NonNullable<Labels['targetFacts']>> = {}): Labels => ({
  task,
  targetShape,
  targetFacts: { whole: false, min: -1, max: 2, sumsToOne: false, ...facts },
});
const answers = { whole: true, min: 0, max: 1 };
const guess = { certain: false, kind: 'values' } as const;

const ten = modelOutput('ten', 'values', [10], { certain: false });
const one = modelOutput('one', 'values', [1], { certain: false });
const map = modelOutput('map', 'values', [4, 6, 6], { certain: false });
const tokens = modelOutput('tokens', 'values', [7, 3], { certain: false });
const ids = modelOutput('ids', 'other', [1], { judged: false, dtype: 'int64', why: 'It is int64.' });

describe('labels belong to', () => {
  it.each([
    ['the only output they fit', [one, ten], classes(10), 'classification', 'ten', 'classes', 1],
    ['a single score', [one, map], classes(2), 'classification', 'one', 'binary', null],
    ['the values of their width', [one, ten], rows('regression', [1]), 'regression', 'one', 'values', null],
    [
      'a map with the classes first',
      [ten, map],
      rows('dense_classification', [6, 6], { whole: true, min: 0, max: 3 }),
      'dense_classification',
      'map',
      'classes',
      1,
    ],
    [
      'a sequence with the classes last',
      [tokens],
      rows('dense_classification', [7], { whole: true, min: -100, max: 2 }),
      'dense_classification',
      'tokens',
      'classes',
      2,
    ],
    [
      'masks that kept a channel behind the pixels',
      [map],
      rows('dense_classification', [6, 6, 1], { whole: true, min: 0, max: 3 }),
      'dense_classification',
      'map',
      'classes',
      1,
    ],
    ['answers for every output', [ten, map], rows('multi_label', [10], answers), 'multi_label', 'ten', 'binary', null],
    [
      '0 and 1 a pixel of a map of two classes',
      [modelOutput('m', 'values', [2, 6, 6])],
      rows('multi_label', [6, 6], answers),
      'dense_classification',
      'm',
      'classes',
      1,
    ],
    [
      'shares of classes',
      [ten],
      rows('soft_classification', [10], { min: 0, max: 0.9, sumsToOne: true }),
      'soft_classification',
      'ten',
      'classes',
      1,
    ],
    [
      'whole numbers of the width of the output',
      [one, ten],
      rows('dense_classification', [10], { whole: true, max: 9 }),
      'regression',
      'ten',
      'values',
      null,
    ],
  ] as const)('%s', (_what, outputs, labels, task, name, kind, axis) => {
    const found = assignTasks(outputs, labels);
    expect(found.task).toBe(task);
    expect(found.outputs[0]).toMatchObject({ task, output: { name, kind, axis, certain: true } });
    expect(found.outputs.slice(1).every((other) => other.task === 'unlabelled')).toBe(true);
    expect(found.outputs).toHaveLength(outputs.length);
  });

  it('the output that is named', async () => {
    const [a, b] = [modelOutput('a', 'values', [10], guess), modelOutput('b', 'values', [10], guess)];
    const error = await failure('DATASET_AMBIGUOUS', () => assignTasks([a, b], classes(10)));
    expect(error).toMatchObject({ message: expect.stringContaining('"a", "b"'), hint: expect.stringContaining('{"output": "a"}') });
    expect(assignTasks([a, b], classes(10), { output: 'b' }).outputs.map(({ output }) => output.name)).toEqual(['b', 'a']);
    const none = await failure('CONFIG_IMPOSSIBLE', () => assignTasks([a, ids], classes(10), { output: 'c' }));
    expect(none).toMatchObject({ message: expect.stringContaining('no output "c"'), hint: 'Name one of "a".' });
    expect((await failure('CONFIG_IMPOSSIBLE', () => assignTasks([a, ids], classes(10), { output: 'ids' }))).message).toContain('int64');
  });

  it('scores rather than values, and either of two outputs of one tensor', () => {
    const scores = modelOutput('scores', 'classes', [10]);
    expect(assignTasks([ten, scores], classes(10)).outputs[0].output.name).toBe('scores');
    const shares = modelOutput('shares', 'classes', [10], { form: 'probabilities', of: 'scores' });
    expect(assignTasks([scores, shares], classes(10)).outputs[0].output.name).toBe('scores');
  });

  it('the one with as many scores as there are classes rather than a wider one', () => {
    const features = modelOutput('features', 'values', [64], guess);
    const found = assignTasks([features, ten], classes(10));
    expect(found.outputs[0].output.name).toBe('ten');
    expect(found.assumptions).toEqual(['The labels are taken for output "ten".']);
    expect(assignTasks([features, one], classes(3, { classCounts: [0, 5, 5] })).outputs[0].output.name).toBe('one');
  });

  it('no single score a pixel, where masks hold 0 and 255', async () => {
    const mask = modelOutput('mask', 'binary', [1, 6, 6], { form: 'probabilities' });
    const facts = { whole: true, min: 0, max: 255 };
    const error = await failure('DATASET_LABELS', () => assignTasks([mask], rows('dense_classification', [6, 6], facts)));
    expect(error.message).toContain('one score a position');
    expect(assignTasks([mask], rows('multi_label', [6, 6], answers)).task).toBe('multi_label');
  });

  it('no output that holds values for certain', async () => {
    const error = await failure('DATASET_CLASSES', () => assignTasks([modelOutput('largest', 'values', [10])], classes(10)));
    expect(error.message).toContain('"largest" holds values');
  });

  it('none: the labels and the outputs are named', async () => {
    const classesError = await failure('DATASET_CLASSES', () => assignTasks([ten], classes(12)));
    expect(classesError).toMatchObject({
      message: expect.stringContaining('12 classes (labels 0 to 11), and the model 10 outputs'),
      place: { tensor: 'ten' },
    });
    await failure('DATASET_SHAPE', () => assignTasks([ten], rows('regression', [3])));
    await failure('DATASET_LABELS', () =>
      assignTasks([ten], rows('dense_classification', [6, 6], { whole: true, max: 3 }), { task: 'dense_classification' }),
    );
    await failure('MODEL_INPUTS_UNSUPPORTED', () => assignTasks([ids], classes(2)));
  });
});

it('without labels the output that says most comes first', () => {
  const scores = modelOutput('scores', 'classes', [10]);
  const found = assignTasks([one, scores, ids], { task: 'unlabelled' });
  expect(found.outputs.map(({ output, task }) => [output.name, task])).toEqual([
    ['scores', 'unlabelled'],
    ['one', 'unlabelled'],
  ]);
});

it('labels that count from 1 are recognised where no other reading is possible', () => {
  const from1 = classes(11, { classCounts: [0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3] });
  expect(assignTasks([ten], from1)).toMatchObject({ labelOffset: 1, assumptions: [expect.stringContaining('run from 1 to 10')] });
  expect(assignTasks([one], classes(3, { classCounts: [0, 4, 4] }))).toMatchObject({
    labelOffset: 1,
    assumptions: ['Labels run from 1 to 2 and the model has 1 output: label 1 is taken for the first class.'],
  });
  expect(assignTasks([ten], classes(10, { classCounts: [0, 3, 3, 3, 3, 3, 3, 3, 3, 3] })).labelOffset).toBe(0);
});
