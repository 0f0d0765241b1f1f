import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { batches } from './batches.js';
import { type Dataset, inspectDataset, openDataset } from './dataset.js';
import { checkAgainstModel, checkEvaluationClasses } from './model-check.js';
import { shuffled } from './split.js';
import { Bench, bytesOf, failure, idx, npy, spec } from './testing/files.js';
import { zip } from './testing/zip.js';

let bench: Bench;
let dataset: Dataset;
beforeAll(async () => {
  bench = await Bench.create();
  const x = npy('<i2', [100, 3], bytesOf(Int16Array.from({ length: 300 }, (_, i) => i)));
  const y = npy('|u1', [100], Buffer.from(Array.from({ length: 100 }, (_, i) => i % 4)));
  dataset = await openDataset(
    await bench.file(
      zip([
        { name: 'x.npy', data: x },
        { name: 'y.npy', data: y },
      ]),
    ),
    { scale: 1 },
    bench,
  );
});
afterAll(async () => {
  await dataset.close();
  await bench.remove();
});

describe('reading', () => {
  test('neighbours, jumps, repeats and steps back', async () => {
    const indices = [0, 1, 2, 99, 98, 50, 51, 51, 3, 97, 98, 99];
    const { x, labels } = await dataset.batch(indices);
    expect(Array.from(x.as('float32').data)).toEqual(indices.flatMap((i) => [3 * i, 3 * i + 1, 3 * i + 2]));
    expect([...(labels ?? [])]).toEqual(indices.map((i) => i % 4));
  });
  test('a batch stays as it was when the next is read', async () => {
    const first = await dataset.batch([1]);
    await dataset.batch([2]);
    expect(Array.from(first.x.as('float32').data)).toEqual([3, 4, 5]);
  });
  test('nothing, and what is outside', async () => {
    expect((await dataset.batch([])).x.shape).toEqual([0, 3]);
    for (const index of [-1, 100, 0.5]) await expect(dataset.batch([index])).rejects.toThrow(RangeError);
  });
  test('a raw sample', () => {
    expect(dataset.rawSample(7)).toEqual({ shape: [3], data: Int16Array.of(21, 22, 23) });
  });
  test('a subset', async () => {
    const part = dataset.subset(Uint32Array.of(10, 20, 30));
    expect(part).toMatchObject({ size: 3, task: 'classification', labels: Int32Array.of(2, 0, 2) });
    expect((await part.batch([2, 0])).x.data).toEqual(Float32Array.of(90, 91, 92, 30, 31, 32));
    await expect(part.batch([3])).rejects.toThrow(RangeError);
  });
});

describe('batches', () => {
  const all = Uint32Array.from({ length: 100 }, (_, i) => i);
  const collect = async (options: Parameters<typeof batches>[2]) => {
    const seen: number[][] = [];
    for await (const batch of batches(dataset, shuffled(all, 0, 0), options)) {
      expect(Array.from(batch.x.as('float32').data, (v) => Math.floor(v / 3)).filter((_, i) => i % 3 === 0)).toEqual([...batch.indices]);
      seen.push([...batch.indices]);
    }
    return seen;
  };
  test('cover the order once', async () => {
    const seen = await collect({ batchSize: 32 });
    expect(seen.map((batch) => batch.length)).toEqual([32, 32, 32, 4]);
    expect(seen.flat()).toEqual([...shuffled(all, 0, 0)]);
    expect((await collect({ batchSize: 32, dropLast: true })).map((batch) => batch.length)).toEqual([32, 32, 32]);
    expect(await collect({ batchSize: 1000, dropLast: true })).toEqual([]);
  });
  test('read one ahead and not more', async () => {
    const started: number[] = [];
    const watched = {
      size: 100,
      task: dataset.task,
      labels: dataset.labels,
      batch: (indices: ArrayLike<number>) => {
        started.push(indices[0] as number);
        return dataset.batch(indices);
      },
    };
    const iterator = batches(watched, all, { batchSize: 10 });
    await iterator.next();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(started).toEqual([0, 10]);
    await iterator.return(undefined);
  });
  test('stop when cancelled', async () => {
    const controller = new AbortController();
    const iterator = batches(dataset, all, { batchSize: 10, signal: controller.signal });
    await iterator.next();
    controller.abort();
    await failure('CANCELLED', () => iterator.next());
  });
  test('pass on a failure of the read ahead', async () => {
    const iterator = batches(dataset, Uint32Array.of(1, 2000), { batchSize: 1 });
    await iterator.next();
    await expect(iterator.next()).rejects.toThrow(RangeError);
  });
});

describe('recognising', () => {
  test.each([
    ['an empty file', Buffer.alloc(0), 'DATASET_EMPTY'],
    ['an unknown format', Buffer.from('\x7fELF\x02\x01\x01\x00', 'latin1'), 'DATASET_UNREADABLE'],
    ['an empty zip', zip([]), 'DATASET_EMPTY'],
    ['a zip of something else', zip([{ name: 'a.bin', data: Buffer.of(1, 2, 3) }]), 'DATASET_UNREADABLE'],
    ['a zip of two tables', zip(['a.csv', 'b.csv'].map((name) => ({ name, data: Buffer.from('1,2\n') }))), 'DATASET_UNREADABLE'],
    ['a zip in a zip in a zip', zip([{ name: 'a.npz', data: zip([{ name: 'b.npz', data: zip([]) }]) }]), 'DATASET_ARCHIVE'],
    ['the start of a zip', zip([{ name: 'a', data: Buffer.from('a') }]).subarray(0, 30), 'DATASET_ARCHIVE'],
    ['gzip of nothing', Buffer.of(0x1f, 0x8b, 8, 0), 'DATASET_UNREADABLE'],
  ] as const)('%s', async (_, data, code) => {
    const path = await bench.file(data);
    await failure(code, () => inspectDataset(path, {}, bench));
  });
  test('a config that says another format', async () => {
    const path = await bench.file(idx([2, 2, 2], Buffer.alloc(8)));
    expect((await failure('DATASET_CONFIG', () => inspectDataset(path, { format: 'csv' }, bench))).message).toContain('idx');
    await inspectDataset(path, { format: 'idx' }, bench);
  });
  test('an archive that is two things', async () => {
    const path = await bench.file(
      zip([
        { name: 'x.npy', data: npy('<f4', [1, 1], Buffer.alloc(4)) },
        { name: 'a/b.png', data: Buffer.from('x') },
      ]),
    );
    await failure('DATASET_AMBIGUOUS', () => inspectDataset(path, {}, bench));
    await inspectDataset(path, { format: 'npz' }, bench);
  });
  test('no file, a directory', async () => {
    await failure('DATASET_UNREADABLE', () => inspectDataset(join(bench.workDirectory, 'none'), {}, bench));
    await failure('DATASET_UNREADABLE', () => inspectDataset(bench.workDirectory, {}, bench));
  });
  test('nothing is left behind', async () => {
    const path = await bench.file(idx([2, 2, 2], Buffer.alloc(8)));
    const before = await readdir(bench.workDirectory);
    await inspectDataset(path, {}, bench);
    const opened = await openDataset(path, {}, bench);
    expect(await readdir(bench.workDirectory)).toHaveLength(before.length + 1);
    await opened.close();
    await failure('DATASET_SHAPE', () => openDataset(path, {}, { ...bench, fit: spec(9) }));
    expect(await readdir(bench.workDirectory)).toEqual(before);
  });
});

test('a model is checked against a summary', async () => {
  expect(checkAgainstModel(dataset.summary, { scale: 1 }, [spec(3)])).toEqual([]);
  expect(checkAgainstModel(dataset.summary, {}, [spec(3)])).toHaveLength(1);
  await failure('DATASET_SHAPE', () => checkAgainstModel(dataset.summary, {}, [spec(4)]));
  const images = { ...dataset.summary, format: 'images' as const, dtype: 'uint8', sampleShape: [300, 200, 3] };
  expect(checkAgainstModel(images, { scale: 1 }, [spec(1, 28, 28)])).toEqual([]);
  const mixed = { ...images, imageSizes: { smallest: [1, 1] as [number, number], largest: [2, 2] as [number, number] } };
  expect(checkAgainstModel(mixed, { scale: 1 }, [spec(1, 28, 28)])).toEqual([]);
  await failure('DATASET_AMBIGUOUS', () => checkAgainstModel(mixed, {}, [spec(3, undefined, undefined)]));
  await failure('DATASET_SHAPE', () => checkAgainstModel(images, { channels: 3 }, [spec(1, 28, 28)]));
});

test('classes of evaluation data are among those of the training data', async () => {
  const named = (...classNames: string[]) => ({ ...dataset.summary, classNames });
  checkEvaluationClasses(named('ant', 'cat', 'dog'), named('cat', 'dog'));
  checkEvaluationClasses(named('cat', 'dog'), dataset.summary);
  checkEvaluationClasses(dataset.summary, named('0', '2'));
  const error = await failure('DATASET_CLASSES', () => checkEvaluationClasses(named('cat', 'dog'), named('cat', 'owl')));
  expect(error.message).toContain('"owl"');
  await failure('DATASET_CLASSES', () => checkEvaluationClasses(dataset.summary, named('cat')));
});

/** Lays out a large sparse file in a process of its own and prints by how much memory grew at its highest. */
const child = `
import { open } from 'node:fs/promises';
import { join } from 'node:path';
const [source, directory, format] = process.argv.slice(1);
const { openDataset } = await import(source + '/dataset.ts');
const { defaultLimits } = await import(source + '/../events.ts');
const { npy } = await import(source + '/testing/files.ts');
const { zip } = await import(source + '/testing/zip.ts');
const { crc32 } = await import('node:zlib');
const shape = [100000, 28, 28];
const bytes = 100000 * 784 * 4;
const header = npy('<f4', shape, Buffer.alloc(0));
const path = join(directory, 'large');
const file = await open(path, 'w');
if (format === 'npy') {
  await file.write(header, 0, header.length, 0);
  await file.truncate(header.length + bytes);
} else {
  let crc = crc32(header);
  const block = Buffer.alloc(1 << 20);
  for (let left = bytes; left > 0; left -= block.length) crc = crc32(block.subarray(0, Math.min(left, block.length)), crc);
  const entry = { name: 'x.npy', data: header, crc, size: header.length + bytes };
  const empty = zip([entry]);
  const localBytes = 30 + 5 + header.length;
  const local = empty.subarray(0, localBytes);
  const end = Buffer.from(empty.subarray(localBytes));
  end.writeUInt32LE(header.length + bytes, 20);
  local.writeUInt32LE(header.length + bytes, 18);
  end.writeUInt32LE(localBytes + bytes, end.length - 6);
  await file.write(local, 0, local.length, 0);
  await file.write(end, 0, end.length, localBytes + bytes);
}
await file.close();
globalThis.gc();
const before = process.memoryUsage.rss();
let most = 0;
const dataset = await openDataset(path, {}, { workDirectory: directory, limits: defaultLimits, onProgress: () => { most = Math.max(most, process.memoryUsage.rss()); } });
for (let i = 0; i < 100; i++) await dataset.batch(Uint32Array.from({ length: 64 }, (_, j) => (i * 977 + j * 1009) % dataset.size));
most = Math.max(most, process.memoryUsage.rss());
console.log(JSON.stringify({ format: dataset.summary.format, samples: dataset.size, grown: most - before }));
await dataset.close();
`;

test.each(['npy', 'npz'])(
  'memory does not grow with the file (%s of 314 MB)',
  (format) => {
    const run = spawnSync(
      process.execPath,
      ['--expose-gc', '--import', 'tsx', '--input-type=module', '-e', child, import.meta.dirname, bench.workDirectory, format],
      { encoding: 'utf8' },
    );
    expect(run.stderr).not.toContain('Error');
    const result = JSON.parse(run.stdout);
    expect(result).toMatchObject({ format, samples: 100_000 });
    expect(result.grown).toBeLessThan(150 * 1024 * 1024);
  },
  240_000,
);

const data = process.env.OCTET_DATA ?? '';
test.skipIf(!existsSync(join(data, 'sets')))('real npz sets', async () => {
  const images = await openDataset(join(data, 'sets', 'mlperf_ic01_cifar10_200.npz'), { scale: 1 }, { ...bench, fit: spec(32, 32, 3) });
  expect((await images.batch([0])).x.as('float32').data.slice(0, 4)).toEqual(Float32Array.of(51, 43, 62, 74));
  expect(images.labels?.slice(0, 3)).toEqual(Int32Array.of(7, 5, 3));
  await images.close();
  const speech = await openDataset(
    join(data, 'sets', 'mlperf_kws01_mfcc_int8_1000.npz'),
    { offset: -83, scale: 0.5847029 },
    { ...bench, fit: spec(49, 10, 1) },
  );
  expect((await speech.batch([0])).x.as('float32').data[0]).toBeCloseTo((2 - 83) * 0.5847029, 5);
  await speech.close();
});
