import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { openDataset } from './dataset.js';
import { Bench, failure } from './testing/files.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

const lines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

async function read(data: string | Buffer, config: DatasetConfig = {}) {
  const dataset = await openDataset(await bench.file(data), config, bench);
  const { x, values } = await dataset.batch(Array.from({ length: dataset.size }, (_, i) => i));
  await dataset.close();
  return {
    dataset,
    x: Array.from(x.as('float32').data),
    labels: dataset.labels && [...dataset.labels],
    values: values && Array.from(values.data),
  };
}

describe('features and label', () => {
  test('numbers by name, in the order of the first line', async () => {
    const { dataset, x, labels } = await read(lines({ a: 1, b: true, label: 'dog' }, { label: 'ant', b: false, a: 2.5 }));
    expect(dataset.summary).toMatchObject({ format: 'jsonl', samples: 2, sampleShape: [2], classNames: ['ant', 'dog'] });
    expect(x).toEqual([1, 1, 2.5, 0]);
    expect(labels).toEqual([1, 0]);
  });
  test('a list, also of lists', async () => {
    const { dataset, x, labels } = await read(
      gzipSync(
        lines(
          {
            pixels: [
              [1, 2],
              [3, 4],
            ],
            y: 0,
          },
          {
            pixels: [
              [5, 6],
              [7, 8],
            ],
            y: 2,
          },
        ),
      ),
    );
    expect(dataset.summary.sampleShape).toEqual([2, 2]);
    expect(x).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(labels).toEqual([0, 2]);
  });
  test('an object of numbers', async () => {
    expect((await read(lines({ features: { a: 1, b: 2 }, label: 0 }, { features: { b: 4, a: 3 }, label: 1 }))).x).toEqual([1, 2, 3, 4]);
  });
  test('values to predict, and rows that are one-hot', async () => {
    expect((await read(lines({ x: [1], target: 0.5 }, { x: [2], target: -1 }))).values).toEqual([0.5, -1]);
    expect((await read(lines({ x: [1], y: [0, 1] }, { x: [2], y: [1, 0] }))).labels).toEqual([1, 0]);
  });
  test('empty lines, a byte order mark, and more lines than a block', async () => {
    const { dataset, x } = await read(`\uFEFF${lines({ x: 1, y: 0 })}\n\r\n${lines({ x: 2, y: 1 }).repeat(20_000)}`);
    expect(dataset.size).toBe(20_001);
    expect(x.at(-1)).toBe(2);
  });
  test('a list alone is unlabelled', async () => {
    expect((await read(lines({ x: [1, 2] }, { x: [3, 4] }))).dataset.task).toBe('unlabelled');
  });
});

test.each<[string, string, DatasetConfig, Parameters<typeof failure>[0], string]>([
  ['no name of a label', lines({ a: 1, b: 2 }), {}, 'DATASET_AMBIGUOUS', '"a", "b"'],
  ['two names of a label', lines({ a: 1, y: 2, label: 0 }), {}, 'DATASET_AMBIGUOUS', 'label'],
  ['a text among the features', lines({ id: 'x', a: 2, label: 0 }), {}, 'DATASET_AMBIGUOUS', '"id"'],
  ['a list beside a number', lines({ id: 1, a: [1, 2], label: 0 }), {}, 'DATASET_AMBIGUOUS', 'not all of them'],
  ['a field that is not there', lines({ a: 1, label: 0 }), { x: 'b' }, 'DATASET_CONFIG', '"b"'],
  ['a missing value', lines({ a: 1, label: 0 }, { label: 1 }), {}, 'DATASET_NOT_FINITE', 'Sample 1'],
  ['null', lines({ a: [1, null], label: 0 }), {}, 'DATASET_NOT_FINITE', 'Sample 0'],
  ['a number beyond float32', lines({ a: 1e300, label: 0 }), {}, 'DATASET_NOT_FINITE', 'beyond float32'],
  ['a text later on', lines({ a: 1, label: 0 }, { a: 'x', label: 1 }), {}, 'DATASET_UNREADABLE', '"x"'],
  ['another length', lines({ a: [1, 2], label: 0 }, { a: [1], label: 1 }), {}, 'DATASET_SHAPE', 'shape [2]'],
  ['a label that is missing', lines({ a: 1, label: 0 }, { a: 2 }), {}, 'DATASET_LABELS', 'Sample 1'],
  ['a text among labels that are numbers', lines({ a: 1, label: 0 }, { a: 2, label: 'x' }), {}, 'DATASET_LABELS', 'sample 1'],
  ['what is not JSON', `${lines({ a: 1, label: 0 })}{"a": 1,\n`, {}, 'DATASET_UNREADABLE', 'Row 2'],
  ['a list for a line', `${lines({ a: 1, label: 0 })}[1]\n`, {}, 'DATASET_UNREADABLE', 'Row 2'],
  ['nothing beside the label', lines({ label: 0 }), {}, 'DATASET_SHAPE', 'nothing beside'],
])('%s', async (_, text, config, code, message) => {
  expect((await failure(code, () => read(text, config))).message).toContain(message);
});

test('a line that is too long is refused before it is read', async () => {
  await failure('DATASET_TOO_LARGE', () => read(Buffer.concat([Buffer.from('{"x": ['), Buffer.alloc(17 * 1024 * 1024, '1,')])));
});
