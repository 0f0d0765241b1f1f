import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import { Bench, bytesOf, failure, idx, npy } from './testing/files.js';
import { zip } from './testing/zip.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

const floats = (...values: number[]) => npy('<f4', [values.length, 1], bytesOf(Float32Array.from(values)));
const whole = (...values: number[]) => npy('<i4', [values.length], bytesOf(Int32Array.from(values)));
const pixel = (value: number) =>
  sharp({ create: { width: 1, height: 1, channels: 3, background: { r: value, g: value, b: value } } })
    .png()
    .toBuffer();

async function zipped(files: Record<string, Buffer | string>): Promise<string> {
  return bench.file(zip(Object.entries(files).map(([name, data]) => ({ name, data: Buffer.from(data) }))));
}

/** Both parts as first values of their samples, labels, and what is said of them. */
async function parts(path: string, config: DatasetConfig = {}) {
  const training = await openDataset(path, config, bench);
  const evaluation = await openDataset(path, config, { ...bench, part: 'evaluation', ...training.labelling(undefined) });
  const read = async (dataset: typeof training) => {
    const { x } = await dataset.batch(Array.from({ length: dataset.size }, (_, i) => i));
    return { x: Array.from(x.as('float32').data), labels: dataset.labels && [...dataset.labels] };
  };
  const result = { summary: training.summary, training: await read(training), evaluation: await read(evaluation) };
  await training.close();
  await evaluation.close();
  return result;
}

test.each([
  ['x_train', 'y_train', 'x_test', 'y_test'],
  ['X_train', 'y_train', 'X_val', 'y_val'],
  ['xTrain', 'yTrain', 'xTest', 'yTest'],
  ['train_images', 'train_labels', 'test_images', 'test_labels'],
])('arrays of an .npz: %s, %s, %s, %s', async (x, y, ex, ey) => {
  const path = await zipped({
    [`${x}.npy`]: floats(1, 2, 3),
    [`${y}.npy`]: whole(0, 1, 2),
    [`${ex}.npy`]: floats(4, 5),
    [`${ey}.npy`]: whole(2, 0),
  });
  const { summary, training, evaluation } = await parts(path);
  expect(training).toEqual({ x: [1, 2, 3], labels: [0, 1, 2] });
  expect(evaluation).toEqual({ x: [4, 5], labels: [2, 0] });
  expect(summary.parts).toEqual({ training: x, evaluation: ex });
  expect(await inspectDataset(path, {}, bench)).toMatchObject({ samples: 3, evaluationSamples: 2, parts: { evaluation: ex } });
});

test('train, val and test: the last judges, and what is left out is said', async () => {
  const files = Object.fromEntries(['train', 'val', 'test'].map((split, i) => [`x_${split}.npy`, floats(i, i)]));
  const { summary, evaluation } = await parts(await zipped(files));
  expect(evaluation.x).toEqual([2, 2]);
  expect(summary.assumptions?.join()).toContain('Left out: "x_val"');
});

test('arrays that belong to one dataset, or are named by the config, are not parted', async () => {
  const path = await zipped({ 'x.npy': floats(1, 2), 'y.npy': whole(0, 1), 'train_mask.npy': whole(1, 0), 'test_mask.npy': whole(0, 1) });
  expect((await inspectDataset(path, {}, bench)).parts).toBeUndefined();
  const named = await zipped({ 'x_train.npy': floats(1, 2, 3), 'x_test.npy': floats(4, 5) });
  expect(await inspectDataset(named, { x: 'x_test' }, bench)).toMatchObject({ samples: 2 });
});

test('class folders in train/ and test/, of which test/ lacks some', async () => {
  const image = { cat: await pixel(51), dog: await pixel(102), ant: await pixel(255) };
  const files = {
    'set/train/cat/a.png': image.cat,
    'set/train/dog/a.png': image.dog,
    'set/train/ant/a.png': image.ant,
    'set/README.md': 'x',
  };
  for (const split of ['test', 'val', 'valid', 'validation']) {
    const path = await zipped({ ...files, [`set/${split}/dog/b.png`]: image.dog, [`set/${split}/cat/`]: '' });
    const { summary, training, evaluation } = await parts(path);
    expect(training.labels).toEqual([0, 1, 2]);
    expect(evaluation.labels).toEqual([2]);
    expect(summary).toMatchObject({ classNames: ['ant', 'cat', 'dog'], parts: { training: 'set/train', evaluation: `set/${split}` } });
  }
  const strange = await zipped({ ...files, 'set/test/owl/b.png': image.dog });
  expect((await failure('DATASET_CLASSES', () => parts(strange))).message).toContain('"owl"');
  expect((await failure('DATASET_CLASSES', () => inspectDataset(strange, {}, bench))).message).toContain('"owl"');
});

test('a class folder called test is a class', async () => {
  const image = await pixel(51);
  const summary = await inspectDataset(await zipped({ 'test/a.png': image, 'train/a.png': image, 'bus/a.png': image }), {}, bench);
  expect(summary.classNames).toEqual(['bus', 'test', 'train']);
});

test('pairs of IDX files', async () => {
  const files = {
    'train-images-idx3-ubyte.gz': gzipSync(idx([3, 1, 1], Buffer.of(0, 255, 255))),
    'train-labels-idx1-ubyte.gz': gzipSync(idx([3], Buffer.of(0, 1, 2))),
    't10k-images-idx3-ubyte.gz': gzipSync(idx([2, 1, 1], Buffer.of(255, 0))),
    't10k-labels-idx1-ubyte.gz': gzipSync(idx([2], Buffer.of(1, 0))),
  };
  const { training, evaluation } = await parts(await zipped(files));
  expect(training.labels).toEqual([0, 1, 2]);
  expect(evaluation).toEqual({ x: [1, 0], labels: [1, 0] });
});

test('tables, in folders or not, whose labels are texts', async () => {
  const train = 'a,label\n1,dog\n2,ant\n3,cow\n';
  const test = 'a,label\n4,dog\n';
  const layouts: Record<string, string>[] = [
    { 'train.csv': train, 'test.csv': test },
    { 'd/train/data.csv': train, 'd/test/data.csv': test },
    { 'iris_train.csv': train, 'iris_test.csv': test },
  ];
  for (const files of layouts) {
    const { training, evaluation } = await parts(await zipped(files));
    expect(training).toEqual({ x: [1, 2, 3], labels: [2, 0, 1] });
    expect(evaluation).toEqual({ x: [4], labels: [2] });
  }
});

test('two .npz in a zip, and one table by itself', async () => {
  const inner = (x: Buffer, y: Buffer) =>
    zip([
      { name: 'x.npy', data: x },
      { name: 'y.npy', data: y },
    ]);
  const path = await zipped({ 'train.npz': inner(floats(1, 2), whole(0, 1)), 'test.npz': inner(floats(3), whole(1)) });
  expect((await parts(path)).evaluation).toEqual({ x: [3], labels: [1] });
  expect(await inspectDataset(await zipped({ 'only.csv': '1,2,0\n3,4,1\n', 'notes.txt': 'x' }), {}, bench)).toMatchObject({
    format: 'csv',
    samples: 2,
  });
});

test('labels from 1 mean the same in both parts', async () => {
  const path = await zipped({
    'x_train.npy': floats(1, 2, 3),
    'y_train.npy': whole(1, 2, 3),
    'x_test.npy': floats(4, 5),
    'y_test.npy': whole(2, 1),
  });
  const training = await openDataset(path, {}, { ...bench, outputs: 3 });
  const evaluation = await openDataset(path, {}, { ...bench, outputs: 3, part: 'evaluation', ...training.labelling(3) });
  expect(training.labels).toEqual(Int32Array.of(0, 1, 2));
  expect(training.summary).toMatchObject({ classes: 3, labelOffset: 1 });
  expect(training.assumptions.join()).toContain('Labels run from 1 to 3');
  expect(evaluation.labels).toEqual(Int32Array.of(1, 0));
  await training.close();
  await evaluation.close();
});
