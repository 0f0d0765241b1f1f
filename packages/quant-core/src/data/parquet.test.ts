import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DatasetConfig, DatasetConfigSchema } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import type { SampleSpec } from './materialise.js';
import { Bench, failure, spec } from './testing/files.js';
import { zip } from './testing/zip.js';

/** Written by scripts/parquet-fixtures.py with pyarrow. */
const fixture = (name: string) => join(import.meta.dirname, 'testing', 'parquet', `${name}.parquet`);

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

async function read(path: string, config: DatasetConfig = {}, fit?: SampleSpec) {
  const dataset = await openDataset(path, config, { ...bench, ...(fit && { fit }) });
  const { x } = await dataset.batch(Array.from({ length: dataset.size }, (_, i) => i));
  await dataset.close();
  return { dataset, x: Array.from(x.as('float32').data), labels: dataset.labels && [...dataset.labels] };
}

const down = Array.from({ length: 20 }, (_, i) => 19 - i);

describe('columns of numbers', () => {
  test.each(['none', 'snappy', 'gzip', 'brotli', 'zstd', 'lz4'])('packed with %s, in row groups', async (codec) => {
    const { dataset, x, labels } = await read(fixture(`columns-${codec}`), { label: 'species' });
    expect(dataset.summary).toMatchObject({ format: 'parquet', samples: 20, sampleShape: [3], classNames: ['ant', 'dog'] });
    expect(x).toEqual(down.flatMap((i) => [i / 4, i, i % 2 ? 0 : 1]));
    expect(labels).toEqual(down.map((i) => (i % 2 ? 0 : 1)));
    expect(dataset.assumptions.join()).toContain('"__index_level_0__" is the index of pandas');
  });
  test('the fields that the config names', async () => {
    const { x, labels } = await read(fixture('columns-snappy'), { x: 'b, a', label: 'species', classes: ['dog', 'cow', 'ant'] });
    expect(x).toEqual(down.flatMap((i) => [i, i / 4]));
    expect(labels).toEqual(down.map((i) => (i % 2 ? 2 : 0)));
    expect((await failure('DATASET_CONFIG', () => read(fixture('columns-snappy'), { x: 'a,z' }))).place.pointer).toBe('/x');
    expect((await failure('DATASET_CONFIG', () => read(fixture('columns-snappy'), { label: 'z' }))).place.pointer).toBe('/label');
  });
  test('no field that is called label', async () => {
    const error = await failure('DATASET_AMBIGUOUS', () => read(fixture('columns-snappy')));
    expect(error.message).toContain('"a", "b", "c", "species"');
    expect(error.hint).toContain('{"label": "…"}');
    expect((await read(fixture('columns-snappy'), { task: 'unlabelled', x: 'a' })).dataset.task).toBe('unlabelled');
  });
});

test('lists keep their shape and type', async () => {
  const { dataset, x, labels } = await read(fixture('lists'), { scale: 1 });
  expect(dataset.summary).toMatchObject({ sampleShape: [2, 2], dtype: 'uint8', classes: 3 });
  expect(x).toEqual(Array.from({ length: 20 }, (_, i) => [i, 1, 2, 3]).flat());
  expect(labels).toEqual(Array.from({ length: 20 }, (_, i) => i % 3));
});

describe('images', () => {
  test('as Hugging Face writes them, with the names of their classes', async () => {
    const { dataset, x, labels } = await read(fixture('images'), { scale: 1 }, spec(1, 1, 1));
    expect(x).toEqual([0, 1, 2, 3, 4, 5]);
    expect(labels).toEqual([0, 1, 0, 1, 0, 1]);
    expect(dataset.classNames).toEqual(['zebra', 'yak', 'ant']);
    expect(dataset.assumptions.join()).toContain('the schema of the dataset');
  });
  test('are looked at in their own sizes, and brought to that of the model', async () => {
    const summary = await inspectDataset(fixture('images'), {}, bench);
    expect(summary).toMatchObject({ samples: 6, classCounts: [3, 3, 0], imageSizes: { smallest: [1, 1], largest: [2, 2] } });
    expect((await read(fixture('images'), { scale: 1 }, spec(3, 2, 2))).x.slice(-12)).toEqual(new Array(12).fill(5));
  });
  test('whose classes the config puts in another order', async () => {
    const { labels } = await read(fixture('images'), { classes: ['ant', 'yak', 'zebra'] }, spec(1, 1, 1));
    expect(labels).toEqual([2, 1, 2, 1, 2, 1]);
  });
  test('that are only paths', async () => {
    expect((await failure('DATASET_UNREADABLE', () => read(fixture('paths')))).message).toContain('only the path "cats/1.png"');
  });
});

test('train and test in one zip', async () => {
  const [train, evaluation] = [await readFile(fixture('lists')), await readFile(fixture('lists'))];
  const path = await bench.file(
    zip([
      { name: 'data/train-00000-of-00001.parquet', data: train },
      { name: 'data/test-00000-of-00001.parquet', data: evaluation },
    ]),
  );
  expect(await inspectDataset(path, {}, bench)).toMatchObject({ format: 'parquet', samples: 20, evaluationSamples: 20 });
});

describe('bad input', () => {
  test('missing values, labels, and lists of another length', async () => {
    const missing = await failure('DATASET_NOT_FINITE', () => read(fixture('missing')));
    expect(missing.message).toContain('Sample 1');
    expect(missing.message).toContain('field "a"');
    expect((await failure('DATASET_LABELS', () => read(fixture('unlabelled-row')))).place.sample).toBe(1);
    expect((await failure('DATASET_SHAPE', () => read(fixture('ragged')))).place.sample).toBe(1);
  });
  test('more samples than the limit', async () => {
    const limits = { ...bench.limits, datasetSamples: 19 };
    await failure('DATASET_TOO_LARGE', () => openDataset(fixture('lists'), {}, { ...bench, limits }));
  });
  test('bytes cut off, changed or left out never end otherwise than as an error with a code', async () => {
    const whole = await readFile(fixture('columns-snappy'));
    for (let round = 0; round < 120; round++) {
      const bytes = round < 30 ? whole.subarray(0, Math.floor((whole.length * round) / 30)) : Buffer.from(whole);
      if (round >= 30) bytes[4 + ((round * 7919) % (whole.length - 4))] = (round * 31) % 256;
      const path = await bench.file(Buffer.concat([bytes, round < 30 ? whole.subarray(-8) : Buffer.alloc(0)]));
      const result = await inspectDataset(path, { label: 'species' }, bench).catch((error: unknown) => error);
      if (result instanceof Error) expect((result as { code?: string }).code).toMatch(/^DATASET_/);
    }
  });
});

test('the schema of a config knows the formats', () => {
  expect(JSON.stringify(DatasetConfigSchema)).toContain('parquet');
});
