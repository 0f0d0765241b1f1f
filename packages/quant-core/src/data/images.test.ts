import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import { toGrey } from './image/colour.js';
import type { SampleSpec } from './materialise.js';
import { Bench, failure, spec } from './testing/files.js';
import { zip } from './testing/zip.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

type Colour = [number, number, number];
const png = (height: number, width: number, [r, g, b]: Colour) =>
  sharp({ create: { height, width, channels: 3, background: { r, g, b } } })
    .png()
    .toBuffer();
const pixels = (height: number, width: number, data: number[]) =>
  sharp(Buffer.from(data), { raw: { height, width, channels: 3 } })
    .png()
    .toBuffer();

async function zipped(files: Record<string, Buffer | Promise<Buffer>>): Promise<string> {
  const entries = await Promise.all(Object.entries(files).map(async ([name, data]) => ({ name, data: await data })));
  return bench.file(zip(entries));
}

async function read(files: Record<string, Buffer | Promise<Buffer>>, config: DatasetConfig, fit?: SampleSpec) {
  const dataset = await openDataset(await zipped(files), config, { ...bench, ...(fit && { fit }) });
  const batch = await dataset.batch(Array.from({ length: dataset.size }, (_, i) => i));
  await dataset.close();
  return { dataset, batch, x: Array.from(batch.x.as('float32').data) };
}

const red: Colour = [255, 0, 0];
const green: Colour = [0, 255, 0];

test('classes are folders in order, samples follow class and name', async () => {
  const { dataset, batch, x } = await read(
    { 'set/dog/b.png': png(1, 1, [4, 5, 6]), 'set/dog/a.png': png(1, 1, [1, 2, 3]), 'set/cat/z.png': png(1, 1, [7, 8, 9]) },
    { scale: 1 },
    spec(3, 1, 1),
  );
  expect(dataset.classNames).toEqual(['cat', 'dog']);
  expect(batch.labels).toEqual(Int32Array.of(0, 1, 1));
  expect(x).toEqual([7, 8, 9, 1, 2, 3, 4, 5, 6]);
  expect(dataset.summary).toMatchObject({
    format: 'images',
    samples: 3,
    sampleShape: [1, 1, 3],
    dtype: 'uint8',
    classes: 2,
    classCounts: [1, 2],
  });
});

test('numeric folders are in numeric order, and it is said when that is not the order of text', async () => {
  const { dataset } = await read({ '10/a.png': png(1, 1, red), '2/a.png': png(1, 1, red), '0/a.png': png(1, 1, red) }, {}, spec(3, 1, 1));
  expect(dataset.classNames).toEqual(['0', '2', '10']);
  expect(dataset.assumptions.join()).toContain('numeric order');
  expect(dataset.assumptions.join()).toContain('not 0 to 2');
});

test('rows, columns and channels go where the model wants them', async () => {
  const image = () =>
    pixels(
      2,
      3,
      Array.from({ length: 18 }, (_, i) => i),
    );
  const first = await read({ 'c/a.png': image(), 'd/a.png': image() }, { scale: 1 }, spec(3, 2, 3));
  expect(first.batch.x.shape).toEqual([2, 3, 2, 3]);
  expect(first.x.slice(0, 18)).toEqual([0, 3, 6, 9, 12, 15, 1, 4, 7, 10, 13, 16, 2, 5, 8, 11, 14, 17]);
  const last = await read({ 'c/a.png': image(), 'd/a.png': image() }, { scale: 1 }, spec(2, 3, 3));
  expect(last.x.slice(0, 18)).toEqual(Array.from({ length: 18 }, (_, i) => i));
});

test('images are resized to the model input, or to the size of the config', async () => {
  const files = () => ({ 'c/a.png': png(9, 5, [10, 20, 30]), 'd/a.jpg': png(64, 64, [10, 20, 30]) });
  const fitted = await read(files(), { scale: 1 }, spec(3, 4, 6));
  expect(fitted.batch.x.shape).toEqual([2, 3, 4, 6]);
  expect(fitted.x.slice(0, 24)).toEqual(new Array(24).fill(10));
  expect((await read(files(), { size: [2, 3] }, spec(3, undefined, undefined))).batch.x.shape).toEqual([2, 3, 2, 3]);
  await failure('DATASET_AMBIGUOUS', () => read(files(), {}, spec(3, undefined, undefined)));
  await failure('DATASET_SHAPE', () => read(files(), { size: [2, 3] }, spec(3, 4, 6)));
  await failure('DATASET_SHAPE', () => read(files(), { channels: 1 }, spec(3, 4, 6)));
});

test('an image in the size of the model is not touched', async () => {
  const data = Array.from({ length: 8 * 8 * 3 }, (_, i) => (i * 37) % 256);
  const { x } = await read({ 'c/a.png': pixels(8, 8, data), 'd/a.png': pixels(8, 8, data) }, { scale: 1 }, spec(8, 8, 3));
  expect(x.slice(0, data.length)).toEqual(data);
});

test('enlarged images keep the centres of their pixels', async () => {
  const image = () => pixels(1, 4, [0, 0, 0, 100, 100, 100, 200, 200, 200, 40, 40, 40]);
  const files = () => ({ 'c/a.png': image(), 'd/a.png': image() });
  expect((await read(files(), { scale: 1 }, spec(1, 2, 8))).x.slice(0, 16)).toEqual([
    0, 25, 75, 125, 175, 160, 80, 40, 0, 25, 75, 125, 175, 160, 80, 40,
  ]);
});

test('grey models get luma, grey images become colour', async () => {
  const luma = await read({ 'c/a.png': png(1, 1, red), 'd/a.png': png(1, 1, green) }, { scale: 1 }, spec(1, 1, 1));
  expect(luma.x).toEqual([76, 150]);
  const grey = sharp(Buffer.of(0, 100), { raw: { height: 1, width: 2, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer();
  const colour = await read({ 'c/a.png': grey, 'd/a.png': grey }, { scale: 1 }, spec(3, 1, 2));
  expect(colour.x.slice(0, 6)).toEqual([0, 100, 0, 100, 0, 100]);
  expect(toGrey({ height: 1, width: 2, channels: 3, data: Uint8Array.of(255, 255, 255, 1, 1, 1) }).data).toEqual(Uint8Array.of(255, 1));
});

test('alpha is dropped', async () => {
  const clear = sharp({ create: { height: 1, width: 1, channels: 4, background: { r: 9, g: 8, b: 7, alpha: 0 } } })
    .png()
    .toBuffer();
  expect((await read({ 'c/a.png': clear, 'd/a.png': clear }, { scale: 1 }, spec(3, 1, 1))).x.slice(0, 3)).toEqual([9, 8, 7]);
});

test('images are known by their first bytes where their names say nothing', async () => {
  const jpeg = sharp(await png(1, 1, red))
    .jpeg()
    .toBuffer();
  const { dataset } = await read(
    {
      'cat/a.jfif': jpeg,
      'cat/b': png(1, 1, [1, 2, 3]),
      'dog/c.image': png(1, 1, green),
      'dog/notes': Buffer.from('BM is no bitmap'),
      'dog/d.txt': jpeg,
    },
    {},
    spec(3, 1, 1),
  );
  expect(dataset.summary).toMatchObject({ samples: 3, classCounts: [2, 1] });
  expect(dataset.assumptions.join()).toContain('2 files that are not images are left out (the first: "dog/');
  const nameless = await read({ 'cat/1': png(1, 1, red), 'dog/1': png(1, 1, green) }, {}, spec(3, 1, 1));
  expect(nameless.dataset.summary).toMatchObject({ format: 'images', samples: 2 });
});

test('grey images of 16 bits are cut off at 255, and that is said', async () => {
  const deep = sharp(Uint16Array.of(200, 300), { raw: { height: 1, width: 2, channels: 1 } });
  const file = await deep.toColourspace('grey16').png().toBuffer();
  expect([file[24], file[25]]).toEqual([16, 0]);
  const path = await zipped({ 'cat/a.png': file, 'dog/a.png': file });
  for (const summary of [
    await inspectDataset(path, {}, bench),
    (await read({ 'cat/a.png': file, 'dog/a.png': file }, {}, spec(1, 1, 2))).dataset.summary,
  ])
    expect(summary.assumptions?.join()).toContain('2 grey images of 16 bits are cut off at 255');
});

test('images without folders are unlabelled', async () => {
  const { dataset } = await read({ 'a.png': png(1, 1, red), 'b.png': png(1, 1, green) }, {}, spec(3, 1, 1));
  expect(dataset.task).toBe('unlabelled');
  await failure('DATASET_LABELS', () => read({ 'a.png': png(1, 1, red) }, { task: 'classification' }, spec(3, 1, 1)));
});

test('inspecting needs no model and tells the sizes', async () => {
  const path = await zipped({
    'c/a.png': png(4, 4, red),
    'c/b.png': png(4, 4, red),
    'd/a.png': png(9, 5, green),
    'notes/../readme.md': Buffer.from('x'),
  }).catch(() => '');
  expect(path).not.toBe('');
  await failure('DATASET_ARCHIVE', () => inspectDataset(path, {}, bench));
  const good = await zipped({
    'c/a.png': png(4, 4, red),
    'c/b.png': png(4, 4, red),
    'd/a.png': png(9, 5, green),
    'README.md': Buffer.from('x'),
  });
  const summary = await inspectDataset(good, {}, bench);
  expect(summary).toMatchObject({
    samples: 3,
    sampleShape: [4, 4, 3],
    classCounts: [2, 1],
    imageSizes: { smallest: [4, 4], largest: [9, 5] },
    range: { min: 0, max: 255 },
  });
  expect(summary.assumptions?.join()).toContain('README.md');
});

test('the order does not depend on how many are decoded at a time', async () => {
  const files = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [`c${i % 2}/${i}.png`, png(1 + (i % 7) * 40, 1 + (i % 5) * 40, [i, i, i])]),
  );
  const path = await zipped(files);
  const results: number[][] = [];
  for (const threads of [1, 8]) {
    const dataset = await openDataset(path, { scale: 1 }, { ...bench, fit: spec(1, 1, 1), threads });
    results.push(Array.from((await dataset.batch(Array.from({ length: 40 }, (_, i) => i))).x.as('float32').data));
    await dataset.close();
  }
  expect(results[0]).toEqual(results[1]);
  expect([...(results[0] as number[])].sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
});

describe('hostile input', () => {
  const image = () => png(1, 1, red);
  test('an image that cannot be decoded is named', async () => {
    const whole = await png(64, 64, red);
    for (const broken of [
      Buffer.from('nothing'),
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
      whole.subarray(0, 60),
      whole.subarray(0, 100),
    ]) {
      const path = await zipped({ 'cat/ok.png': image(), 'dog/broken.png': broken });
      expect((await failure('DATASET_UNREADABLE', () => openDataset(path, {}, { ...bench, fit: spec(3, 8, 8) }))).place.file).toBe(
        'dog/broken.png',
      );
      await failure('DATASET_UNREADABLE', () => inspectDataset(path, {}, bench));
    }
  });
  test('a truncated JPEG', async () => {
    const jpeg = await sharp(Buffer.from(Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 97) % 251)), {
      raw: { height: 64, width: 64, channels: 3 },
    })
      .jpeg()
      .toBuffer();
    const path = await zipped({ 'cat/ok.jpg': jpeg, 'dog/short.jpg': jpeg.subarray(0, jpeg.length / 2) });
    expect((await failure('DATASET_UNREADABLE', () => inspectDataset(path, {}, bench))).message).toContain('dog/short.jpg');
  });
  test('too many pixels', async () => {
    const huge = Buffer.from(await image());
    huge.writeUInt32BE(60_000, 16);
    huge.writeUInt32BE(60_000, 20);
    huge.writeUInt32BE(crc32(huge.subarray(12, 29)), 29);
    const path = await zipped({ 'cat/huge.png': huge, 'dog/ok.png': image() });
    const error = await failure('DATASET_UNREADABLE', () => inspectDataset(path, {}, bench));
    expect(error.place.file).toBe('cat/huge.png');
    expect(error.message).toContain('pixel limit');
  });
  test('large images are surveyed in a reduction', async () => {
    const path = await zipped({ 'cat/large.png': png(2000, 1500, red), 'dog/ok.png': png(1, 1, red) });
    expect(await inspectDataset(path, {}, bench)).toMatchObject({
      imageSizes: { smallest: [1, 1], largest: [2000, 1500] },
      range: { min: 0, max: 255 },
    });
  });
  test('an empty class folder', async () => {
    const noted = await zipped({ 'cat/a.png': image(), 'cow/a.png': image(), 'dog/notes.txt': Buffer.alloc(0) });
    expect((await failure('DATASET_LABELS', () => inspectDataset(noted, {}, bench))).message).toContain('"dog"');
    const empty = await zipped({ 'cat/a.png': image(), 'cow/a.png': image(), 'bee/': Buffer.alloc(0) });
    const summary = await inspectDataset(empty, {}, bench);
    expect(summary).toMatchObject({ classNames: ['bee', 'cat', 'cow'], classCounts: [0, 1, 1] });
    expect(summary.assumptions?.join()).toContain('"bee" holds no images');
  });
  test('folders are looked up in the names given', async () => {
    const path = await zipped({ 'cat/a.png': image(), 'ant/a.png': image() });
    const summary = await inspectDataset(path, { classes: ['dog', 'cat', 'ant'] }, bench);
    expect(summary).toMatchObject({ classes: 3, classNames: ['dog', 'cat', 'ant'], classCounts: [0, 1, 1] });
    const error = await failure('DATASET_CLASSES', () => inspectDataset(path, { classes: ['dog', 'cat'] }, bench));
    expect(error.message).toContain('"ant"');
  });
  test('folders that do not tell the classes', async () => {
    const deep = await failure('DATASET_AMBIGUOUS', () => read({ 'a/cat/a.png': image(), 'b/cat/a.png': image() }, {}, spec(3, 1, 1)));
    expect(deep.message).toContain('deeper than one folder');
    await failure('DATASET_AMBIGUOUS', () => read({ 'images/a.png': image(), 'images/b.png': image() }, {}, spec(3, 1, 1)));
    await failure('DATASET_LABELS', () => read({ 'cat/a.png': image(), 'loose.png': image() }, {}, spec(3, 1, 1)));
  });
  test('nothing in it', async () => {
    await failure('DATASET_EMPTY', () => read({}, {}));
    await failure('DATASET_UNREADABLE', () => read({ 'cat/readme.txt': Buffer.from('x') }, {}));
  });
  test('a model that takes no images', async () => {
    await failure('DATASET_SHAPE', () => read({ 'cat/a.png': image(), 'dog/a.png': image() }, {}, spec(16, 8, 8)));
    await failure('DATASET_SHAPE', () => read({ 'cat/a.png': image(), 'dog/a.png': image() }, {}, spec(1, 2, 3, 4)));
  });
  test('cancelling', async () => {
    const path = await zipped({ 'cat/a.png': image(), 'dog/a.png': image() });
    await failure('CANCELLED', () => openDataset(path, {}, { ...bench, fit: spec(3, 1, 1), signal: AbortSignal.abort() }));
  });
});

const data = process.env.OCTET_DATA ?? '';
test.skipIf(!existsSync(join(data, 'sets')))(
  'real JPEG folders',
  async () => {
    const dataset = await openDataset(
      join(data, 'sets', 'cifar10_test_imagefolder.zip'),
      { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
      { ...bench, fit: spec(3, 32, 32) },
    );
    expect(dataset.summary).toMatchObject({ samples: 10_000, classCounts: new Array(10).fill(1000) });
    expect(dataset.classNames?.[0]).toBe('airplane');
    await dataset.close();
  },
  120_000,
);
