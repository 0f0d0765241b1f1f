import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import { Bench, bytesOf, failure, idx, spec } from './testing/files.js';
import { zip } from './testing/zip.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

const images = idx([3, 2, 2], Buffer.from(Array.from({ length: 12 }, (_, i) => i)));
const labels = idx([3], Buffer.of(2, 0, 1));

async function zipped(files: Record<string, Buffer>, config: DatasetConfig = {}) {
  const path = await bench.file(zip(Object.entries(files).map(([name, data]) => ({ name, data }))));
  return openDataset(path, config, { ...bench, fit: spec(1, 2, 2) });
}

test('a pair in a zip, plain and gzipped', async () => {
  for (const pack of [(data: Buffer) => data, gzipSync]) {
    const dataset = await zipped({ 'labels-idx1-ubyte': pack(labels), 'images-idx3-ubyte': pack(images) }, { scale: 1 });
    expect(dataset.summary).toMatchObject({ format: 'idx', samples: 3, sampleShape: [2, 2], dtype: 'uint8', classes: 3 });
    const batch = await dataset.batch([2, 1]);
    expect(batch.x.shape).toEqual([2, 1, 2, 2]);
    expect(Array.from(batch.x.as('float32').data)).toEqual([8, 9, 10, 11, 4, 5, 6, 7]);
    expect(batch.labels).toEqual(Int32Array.of(1, 0));
    await dataset.close();
  }
});

test('a single file of samples, plain and gzipped, is unlabelled', async () => {
  for (const data of [images, gzipSync(images)]) {
    expect(await inspectDataset(await bench.file(data), {}, bench)).toMatchObject({
      format: 'idx',
      samples: 3,
      task: 'unlabelled',
      range: { min: 0, max: 11 },
    });
  }
});

test('other element types are big-endian', async () => {
  const floats = idx([2, 2], bytesOf(Float32Array.of(1.5, -2, 3, 4)).swap32(), 0x0d);
  const dataset = await openDataset(await bench.file(floats), {}, bench);
  expect(Array.from((await dataset.batch([0, 1])).x.as('float32').data)).toEqual([1.5, -2, 3, 4]);
  await dataset.close();
});

describe('two pairs', () => {
  const files = {
    'a-images-idx3-ubyte': idx([2, 2, 2], Buffer.alloc(8)),
    'a-labels-idx1-ubyte': idx([2], Buffer.of(0, 1)),
    't10k-images-idx3-ubyte': images,
    't10k-labels-idx1-ubyte': labels,
  };
  test('are ambiguous', async () => {
    const error = await failure('DATASET_AMBIGUOUS', () => zipped(files));
    expect(error.message).toContain('t10k-images-idx3-ubyte');
  });
  test('are settled by the name of the images', async () => {
    const dataset = await zipped(files, { x: 't10k-images-idx3-ubyte' });
    expect(dataset.labels).toEqual(Int32Array.of(2, 0, 1));
    await dataset.close();
  });
  test('and by a name that is there', async () => {
    await failure('DATASET_CONFIG', () => zipped(files, { x: 'val-images' }));
  });
});

describe('hostile input', () => {
  test.each([
    ['truncated', images.subarray(0, -1)],
    ['with surplus', Buffer.concat([images, Buffer.of(1)])],
    ['with a count that lies', idx([0xffffffff, 28, 28], Buffer.alloc(100))],
    ['with an impossible shape', idx([0xffffffff, 0xffffffff, 0xffffffff], Buffer.alloc(100))],
  ])('%s', async (_, data) => {
    for (const bytes of [data, gzipSync(data)]) {
      const path = await bench.file(bytes);
      const error = await failureOf(() => openDataset(path, {}, bench));
      expect(['DATASET_UNREADABLE', 'DATASET_TOO_LARGE']).toContain(error.code);
    }
  });
  test('labels alone', async () => {
    const path = await bench.file(labels);
    const error = await failure('DATASET_UNREADABLE', () => openDataset(path, {}, bench));
    expect(error.hint).toContain('Zip');
  });
  test('labels of another count', async () => {
    await failure('DATASET_LABELS', () => zipped({ images, labels: idx([2], Buffer.of(0, 1)) }));
  });
  test('a gzip bomb', async () => {
    const path = await bench.file(gzipSync(idx([20_000, 28, 28], Buffer.alloc(20_000 * 784))));
    await failure('DATASET_ARCHIVE', () => openDataset(path, {}, bench));
  });
});

async function failureOf(run: () => Promise<unknown>) {
  return run().then(
    () => {
      throw new Error('must fail');
    },
    (error) => error,
  );
}

const fashion = join('/usr/share/datasets/fashion-mnist', 't10k-images-idx3-ubyte.gz');
test.skipIf(!existsSync(fashion))('the real Fashion-MNIST test set', async () => {
  const path = await bench.file(
    zip([
      { name: 't10k-images-idx3-ubyte.gz', data: await readFile(fashion) },
      { name: 't10k-labels-idx1-ubyte.gz', data: await readFile(fashion.replace('images-idx3', 'labels-idx1')) },
    ]),
  );
  const dataset = await openDataset(path, {}, { ...bench, fit: spec(1, 28, 28) });
  expect(dataset.summary).toMatchObject({
    samples: 10_000,
    classes: 10,
    classCounts: new Array(10).fill(1000),
    range: { min: 0, max: 255 },
  });
  const { x, labels: truth } = await dataset.batch([0, 9999]);
  expect(truth).toEqual(Int32Array.of(9, 5));
  expect(
    x
      .as('float32')
      .data.slice(0, 784)
      .reduce((sum, v) => sum + v, 0) * 255,
  ).toBeCloseTo(33_456, -1);
  await dataset.close();
});
