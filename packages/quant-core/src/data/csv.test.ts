import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import { Bench, failure } from './testing/files.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

async function read(text: string | Buffer, config: DatasetConfig = {}) {
  const dataset = await openDataset(await bench.file(text), config, bench);
  const batch = await dataset.batch(Array.from({ length: dataset.size }, (_, i) => i));
  await dataset.close();
  return {
    dataset,
    x: Array.from(batch.x.as('float32').data),
    labels: batch.labels && [...batch.labels],
    values: batch.values && Array.from(batch.values.data),
  };
}

test('header, label in the last column', async () => {
  const { dataset, x, labels } = await read('a,b,kind\n1,2,0\n3,4.5,2\r\n-5e-1,6,1\n');
  expect(dataset.summary).toMatchObject({ format: 'csv', samples: 3, sampleShape: [2], dtype: 'float32', classes: 3 });
  expect(x).toEqual([1, 2, 3, 4.5, -0.5, 6]);
  expect(labels).toEqual([0, 2, 1]);
  expect(dataset.assumptions.join()).toContain('"kind"');
});

test('no header, byte order mark, semicolons, tabs, quotes, gzip', async () => {
  expect((await read('\uFEFF1;2;0\n3;4;1\n')).x).toEqual([1, 2, 3, 4]);
  expect((await read('1\t2\t0\n3\t4\t1\n')).labels).toEqual([0, 1]);
  expect((await read('"1","2","0"\n"3","4","1"\n')).x).toEqual([1, 2, 3, 4]);
  expect((await read(gzipSync('1,2,0\n3,4,1\n'))).x).toEqual([1, 2, 3, 4]);
});

test('a column called label, wherever it is', async () => {
  const { x, labels } = await read('label,p0,p1\n7,0,255\n3,128,0\n');
  expect(labels).toEqual([7, 3]);
  expect(x).toEqual([0, 255, 128, 0]);
});

test('the label column by name and by number', async () => {
  for (const label of ['b', '1']) expect((await read('a,b,c\n1,0,3\n4,1,6\n', { label })).labels).toEqual([0, 1]);
  const error = await failure('DATASET_CONFIG', () => read('a,b\n1,0\n', { label: 'kind' }));
  expect(error.place.pointer).toBe('/label');
});

test('text labels become classes in the order of their names', async () => {
  const { dataset, labels } = await read('5.1,3.5,setosa\n6.2,2.8,versicolor\n4.9,3,setosa\n7,3.2,iris x\n');
  expect(labels).toEqual([1, 2, 1, 0]);
  expect(dataset.classNames).toEqual(['iris x', 'setosa', 'versicolor']);
});

test('fractions are values; the config decides', async () => {
  const { dataset, values } = await read('x,y\n1,0.5\n2,-1.5\n');
  expect(dataset.summary).toMatchObject({ task: 'regression', targetShape: [1] });
  expect(values).toEqual([0.5, -1.5]);
  expect((await read('1,0\n2,3\n', { task: 'regression' })).values).toEqual([0, 3]);
  const all = await read('1,0\n2,3\n', { task: 'unlabelled' });
  expect(all.x).toEqual([1, 0, 2, 3]);
  expect((await read('1,0\n2,3\n', { task: 'unlabelled', label: '1' })).x).toEqual([1, 2]);
});

test('more rows than a block', async () => {
  const rows = Array.from({ length: 1000 }, (_, i) => `${i},${'0,'.repeat(997)}${i / 2},${i % 10}`);
  const { x, labels } = await read(rows.join('\n'));
  expect(x[999 * 999]).toBe(999);
  expect(x.at(-1)).toBe(499.5);
  expect(labels?.slice(-2)).toEqual([8, 9]);
});

describe('bad input', () => {
  test('a first row 0, 1, 2, … may be names', async () => {
    const text = '0,1,2\n5,6,0\n7,8,1\n';
    await failure('DATASET_AMBIGUOUS', () => read(text));
    expect((await read(text, { header: true })).x).toEqual([5, 6, 7, 8]);
    expect((await read(text, { header: false })).x).toEqual([0, 1, 5, 6, 7, 8]);
  });
  test.each([
    ['1,2,0\n3,nan,1\n', 1],
    ['1,2,0\n3,4,1\n5,,0\n', 2],
    ['1,2,0\n1e999,2,1\n', 1],
    ['1,2,0\n1e39,2,1\n', 1],
    ['nan,2,0\n1,2,1\n', 0],
  ])('%j is not finite', async (text, sample) => {
    expect((await failure('DATASET_NOT_FINITE', () => read(text))).place.sample).toBe(sample);
  });
  test('text among the features', async () => {
    const error = await failure('DATASET_UNREADABLE', () => read('a,b,y\n1,2,0\n3,many,1\n'));
    expect(error.message).toContain('"many"');
    expect(error.message).toContain('Row 3 (sample 1)');
    expect(error.message).toContain('"b"');
  });
  test('rows of different length', async () => {
    expect((await failure('DATASET_UNREADABLE', () => read('1,2,0\n3,4\n'))).place.sample).toBe(1);
  });
  test('an open quote', async () => {
    await failure('DATASET_UNREADABLE', () => read('1,2,0\n"3,4,1\n5,6,0\n'));
  });
  test.each([
    ['1,2,0\n3,4,-1\n', {}, 1],
    ['1,2,0\n3,4,\n', {}, 1],
    ['1,2,0\n3,4,cat\n', { task: 'regression' as const }, 1],
    ['1,2,0\n3,4,0.5\n', { task: 'classification' as const }, 1],
  ])('label in %j', async (text, config, sample) => {
    expect((await failure('DATASET_LABELS', () => read(text, config))).place.sample).toBe(sample);
  });
  test('nothing in it', async () => {
    await failure('DATASET_EMPTY', () => read(''));
    await failure('DATASET_EMPTY', () => read('a,b,c\n'));
    await failure('DATASET_SHAPE', () => read('1\n2\n3\n'));
  });
  test('more rows than the limit', async () => {
    const path = await bench.file('1,2,0\n3,4,1\n5,6,0\n');
    await failure('DATASET_TOO_LARGE', () => inspectDataset(path, {}, { ...bench, limits: { ...bench.limits, datasetSamples: 2 } }));
  });
});
