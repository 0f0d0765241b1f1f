import { readdir } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { type Header, pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import { Bench, failure, spec } from './testing/files.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

const png = (r: number, g: number, b: number) =>
  sharp({ create: { height: 1, width: 1, channels: 3, background: { r, g, b } } })
    .png()
    .toBuffer();

type TarHeader = Partial<Header> & Pick<Header, 'name'>;
type Contents = string | Buffer | Promise<Buffer>;

async function tarOf(files: [string | TarHeader, Contents][]): Promise<Buffer> {
  const archive = pack();
  for (const [header, data] of files) archive.entry(typeof header === 'string' ? { name: header } : header, await data);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function read(files: [string | TarHeader, Contents][], config: DatasetConfig = {}, change: (tar: Buffer) => Buffer = (tar) => tar) {
  const dataset = await openDataset(await bench.file(change(await tarOf(files))), config, { ...bench, fit: spec(3, 1, 1) });
  const { x, labels, values } = await dataset.batch(Array.from({ length: dataset.size }, (_, i) => i));
  await dataset.close();
  return { dataset, x: Array.from(x.as('float32').data, (value) => Math.round(value * 255)), labels, values };
}

const folders = (): [string, Contents][] => [
  ['./set/', ''],
  ['./set/dog/b.png', png(4, 5, 6)],
  ['./set/cat/a.png', png(1, 2, 3)],
  ['./set/.DS_Store', 'x'],
];
const samples = (label: (index: number) => string, ending = 'cls'): [string, Contents][] =>
  [2, 0, 1].flatMap((index): [string, Contents][] => [
    [`shard/00${index}.png`, png(index, index, index)],
    [`shard/00${index}.${ending}`, label(index)],
  ]);

describe('class folders', () => {
  test.each([
    ['a tar', (tar: Buffer) => tar],
    ['a gzipped tar', (tar: Buffer) => gzipSync(tar)],
  ])('in %s', async (_, change) => {
    const { dataset, x, labels } = await read(folders(), {}, change);
    expect(dataset.classNames).toEqual(['cat', 'dog']);
    expect([x, labels]).toEqual([[1, 2, 3, 4, 5, 6], Int32Array.of(0, 1)]);
  });

  test('nothing is left in the work directory', async () => {
    const path = await bench.file(gzipSync(await tarOf(folders())));
    const before = await readdir(bench.workDirectory);
    await inspectDataset(path, {}, bench);
    await failure('DATASET_SHAPE', () => openDataset(path, {}, { ...bench, fit: spec(16, 8, 8) }));
    expect(await readdir(bench.workDirectory)).toEqual(before);
  });
});

describe('parts', () => {
  test.each(['cls', 'json'])('train and test of one tar, with labels in .%s', async (ending) => {
    const names = { train: ['dog', 'cat'], test: ['dog'] };
    const files = Object.entries(names).flatMap(([part, labels]) =>
      labels.flatMap((name, i): [string, Contents][] => [
        [`${part}/${i}.png`, png(i, i, i)],
        [`${part}/${i}.${ending}`, ending === 'json' ? JSON.stringify({ label: name }) : name],
      ]),
    );
    const path = await bench.file(await tarOf(files));
    const training = await openDataset(path, {}, { ...bench, fit: spec(3, 1, 1) });
    expect(training.summary).toMatchObject({ samples: 2, parts: { training: 'train', evaluation: 'test' }, classNames: ['cat', 'dog'] });
    const held = await openDataset(path, {}, { ...bench, fit: spec(3, 1, 1), part: 'evaluation', ...training.labelling(2) });
    expect(held.labels).toEqual(Int32Array.of(1));
    await training.close();
    await held.close();
  });

  test('class folders in train and test', async () => {
    const files = folders().map(([name, data]): [string, Contents] => [name.replace('./set/', 'train/'), data]);
    const path = await bench.file(await tarOf([...files, ['test/dog/c.png', png(7, 8, 9)]]));
    const summary = await inspectDataset(path, {}, bench);
    expect(summary).toMatchObject({ samples: 2, classNames: ['cat', 'dog'] });
  });

  test('a table in a tar', async () => {
    const dataset = await openDataset(await bench.file(await tarOf([['set/data.csv', 'a,b,label\n1,2,0\n3,4,1\n']])), {}, bench);
    expect(dataset.summary).toMatchObject({ format: 'csv', samples: 2 });
    await dataset.close();
  });
});

describe('WebDataset', () => {
  test('numbers are labels, samples follow their names', async () => {
    const { dataset, x, labels } = await read(samples((index) => `${index % 2}\n`));
    expect([x, labels]).toEqual([[0, 0, 0, 1, 1, 1, 2, 2, 2], Int32Array.of(0, 1, 0)]);
    expect(dataset.summary).toMatchObject({ format: 'images', samples: 3, classCounts: [2, 1] });
    expect(dataset.assumptions.join()).not.toContain('left out');
  });

  test.each(['cls', 'txt'])('text is the name of a class (.%s)', async (ending) => {
    const { dataset, labels } = await read(samples((index) => ['dog', 'cat', 'dog'][index] as string, ending));
    expect([dataset.classNames, labels]).toEqual([['cat', 'dog'], Int32Array.of(1, 0, 1)]);
  });

  test('classes are numbered as the config has them', async () => {
    const text = (index: number) => ['dog', 'cat', 'dog'][index] as string;
    const { dataset, labels } = await read(samples(text), { classes: ['dog', 'cow', 'cat'] });
    expect([dataset.classNames, labels]).toEqual([['dog', 'cow', 'cat'], Int32Array.of(0, 2, 0)]);
    const numbered = await read(
      samples((index) => `${index}`),
      { classes: ['dog', 'cow', 'cat'] },
    );
    expect([numbered.dataset.classNames, numbered.labels]).toEqual([['dog', 'cow', 'cat'], Int32Array.of(0, 1, 2)]);
    await failure('DATASET_CLASSES', () => read(samples(text), { classes: ['dog', 'cow'] }));
  });

  test('a field of the JSON beside the image', async () => {
    expect((await read(samples((index) => JSON.stringify({ label: index, other: 7 }), 'json'))).labels).toEqual(Int32Array.of(0, 1, 2));
    const named = await read(
      samples((index) => JSON.stringify({ label: index, animal: index ? 'cat' : 'dog' }), 'json'),
      { label: 'animal' },
    );
    expect(named.labels).toEqual(Int32Array.of(1, 0, 0));
    const boxes = await read(samples((index) => JSON.stringify({ target: [index + 0.5, 2] }), 'json'));
    expect(boxes.dataset.summary).toMatchObject({ task: 'regression', targetShape: [2] });
    expect(boxes.values?.data).toEqual(Float32Array.of(0.5, 2, 1.5, 2, 2.5, 2));
  });

  test('labels that cannot be read are named', async () => {
    const cases: [[string, Contents][], string, DatasetConfig?][] = [
      [samples((index) => `${index}`).slice(0, -1), 'shard/001.png'],
      [samples((index) => (index === 1 ? '' : '0')), 'shard/001.cls'],
      [samples((index) => (index === 1 ? '{' : '{"label":0}'), 'json'), 'shard/001.json'],
      [samples(() => '{"label":0}', 'json'), 'shard/000.json', { label: 'animal' }],
      [samples((index) => (index === 1 ? '{"label":[1,2]}' : '{"label":[1]}'), 'json'), 'shard/001.json'],
      [samples((index) => ['a', 'b', 'c'][index] as string), 'shard/000.cls', { task: 'regression' }],
    ];
    for (const [files, file, config] of cases) expect((await failure('DATASET_LABELS', () => read(files, config))).place.file).toBe(file);
    expect(
      (
        await read(
          samples(() => '0'),
          { task: 'unlabelled' },
        )
      ).dataset.task,
    ).toBe('unlabelled');
  });
});

describe('hostile input', () => {
  const image = () => png(1, 2, 3);
  test.each<[string, [string | TarHeader, Contents][]]>([
    ['a path that leads outside', [['cat/../../a.png', image()]]],
    ['an absolute path', [['/cat/a.png', image()]]],
    ['a link', [['cat/a.png', image()], [{ name: 'dog/a.png', type: 'symlink', linkname: '/etc/passwd' }, '']]], // biome-ignore format: one line
    ['a name twice', [['cat/a.png', image()], ['cat/a.png', image()]]], // biome-ignore format: one line
  ])('%s', async (_, files) => {
    await failure('DATASET_ARCHIVE', () => read(files));
  });

  test('what is cut off or damaged', async () => {
    const large: [string, Contents][] = [...folders(), ['set/cat/large.png', Buffer.alloc(40_000, 1)]];
    await failure('DATASET_ARCHIVE', () => read(large, {}, (tar) => tar.subarray(0, tar.length - 20_000)));
    await failure('DATASET_ARCHIVE', () =>
      read(large, {}, (tar) => Buffer.concat([tar.subarray(0, 512), Buffer.alloc(512, 7), tar.subarray(1024)])),
    );
    await failure('DATASET_UNREADABLE', () => read(large, {}, (tar) => gzipSync(tar).subarray(0, 300)));
  });

  test('more entries or bytes than are allowed', async () => {
    const path = await bench.file(await tarOf(folders()));
    await failure('DATASET_TOO_LARGE', () => inspectDataset(path, {}, { ...bench, limits: { ...bench.limits, archiveEntries: 2 } }));
    await failure('DATASET_ARCHIVE', () => inspectDataset(path, {}, { ...bench, limits: { ...bench.limits, archiveBytes: 100 } }));
  });
});
