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

describe('headers as pandas writes them', () => {
  test('numbers, and a name for the label', async () => {
    const { dataset, x, labels } = await read('0,1,2,label\n1,2,3,0\n4,5,6,1\n');
    expect(dataset.summary).toMatchObject({ samples: 2, task: 'classification', classes: 2 });
    expect(x).toEqual([1, 2, 3, 4, 5, 6]);
    expect(labels).toEqual([0, 1]);
    expect((await read('400.5,410.5,kind\n1,2,0\n4,5,1\n')).x).toEqual([1, 2, 4, 5]);
    expect((await read('0,1,label\n1,2,cat\n4,5,dog\n')).labels).toEqual([0, 1]);
  });
  test('doubtful where labels are texts', async () => {
    await failure('DATASET_AMBIGUOUS', () => read('0,1,species\n1,2,cat\n4,5,dog\n'));
    await failure('DATASET_AMBIGUOUS', () => read('5.1,3.5,1a\n1,2,2\n4,5,3b\n'));
    expect((await read('0,1,species\n1,2,cat\n4,5,dog\n', { header: true })).labels).toEqual([0, 1]);
    expect((await read('5.1,3.5,y\n1,2,n\n')).labels).toEqual([1, 0]);
    expect((await read('5.1,3.5,cat\n1,2,dog\n')).labels).toEqual([0, 1]);
  });
  test('the index is left out', async () => {
    const { dataset, x } = await read(',a,b,label\n7,1,2,0\n3,4,5,1\n');
    expect(x).toEqual([1, 2, 4, 5]);
    expect(dataset.summary.sampleShape).toEqual([2]);
    expect(dataset.assumptions.join()).toContain('index that pandas writes');
    await failure('DATASET_UNREADABLE', () => read(',a,b,label\n0.5,1,2,0\n'));
    const numbered = await read(',0,1,2\n0,1,2,0\n1,4,5,1\n');
    expect([numbered.x, numbered.labels]).toEqual([
      [1, 2, 4, 5],
      [0, 1],
    ]);
  });
  test('a word for a missing value is not a name', async () => {
    await failure('DATASET_UNREADABLE', () => read('1,NA,3,0\n1,2,3,1\n'));
  });
});

describe('other ways of writing', () => {
  test('decimal commas', async () => {
    const { dataset, x, labels } = await read('5,1;3,5;0\n-1,25;,5e1;1\n2;3;1\n');
    expect(x).toEqual([5.1, 3.5, -1.25, 5, 2, 3].map(Math.fround));
    expect(labels).toEqual([0, 1, 1]);
    expect(dataset.assumptions.join()).toContain('decimal comma, as "5,1"');
    expect((await read('a\tb\ty\n1,5\t2\t0,5\n')).values).toEqual([0.5]);
    expect((await read('name of a;b;label\n1,5;2,5;cat\n2,5;3,5;dog\n')).labels).toEqual([0, 1]);
  });
  test('commas and points in one file', async () => {
    const error = await failure('DATASET_UNREADABLE', () => read('a;b;label\n1,234;2;0\n1.5;2;1\n'));
    expect(error.message).toContain('"1,234" and "1.5"');
    const thousands = await failure('DATASET_UNREADABLE', () => read('a;b;label\n1.234,5;2;0\n'));
    expect(thousands.message).toContain('Row 2 (sample 0)');
    await failure('DATASET_UNREADABLE', () => read('a,b,label\n"1,5",2,0\n'));
  });
  test('the line that tells Excel the separator', async () => {
    expect((await read('sep=;\na;b;label\n1;2;0\n3;4;1\n')).x).toEqual([1, 2, 3, 4]);
    expect((await read('\uFEFFsep=|\r\n1|2|0\r\n3|4|1\r\n')).x).toEqual([1, 2, 3, 4]);
    expect((await failure('DATASET_NOT_FINITE', () => read('sep=;\na;b;label\n1;2;0\n3;;1\n'))).message).toContain('row 4');
  });
  test('UTF-16 with a byte order mark, or as the config says', async () => {
    const text = 'Länge,b,label\n1,2,Ärger\n3,4,Öl\n';
    const little = Buffer.from(`\uFEFF${text}`, 'utf16le');
    const big = Buffer.from(little).swap16();
    for (const bytes of [little, big, gzipSync(big)]) {
      const { dataset, x } = await read(bytes);
      expect(x).toEqual([1, 2, 3, 4]);
      expect(dataset.classNames).toEqual(['Ärger', 'Öl']);
    }
    const bare = Buffer.from(text, 'utf16le');
    const error = await failure('DATASET_UNREADABLE', () => read(bare));
    expect(error.message).toContain('UTF-16');
    expect((await read(bare, { encoding: 'utf-16le' })).x).toEqual([1, 2, 3, 4]);
    await failure('DATASET_UNREADABLE', () => read(little.subarray(0, little.length - 1)));
  });
  test('Latin-1 is refused with byte and row, or read as the config says', async () => {
    const bytes = Buffer.from('a,b,label\n1,2,Ä\n3,4,Ö\n5,6,Ü\n', 'latin1');
    const error = await failure('DATASET_UNREADABLE', () => read(bytes));
    expect(error.message).toContain('Row 2');
    expect(error.message).toContain('0xc4 at position 14');
    expect(error.hint).toContain('latin1');
    const { dataset, labels } = await read(bytes, { encoding: 'latin1' });
    expect(dataset.classNames).toEqual(['Ä', 'Ö', 'Ü']);
    expect(labels).toEqual([0, 1, 2]);
  });
  test('characters across blocks, and a broken one far into the file', async () => {
    const row = '1,2,Ärger €uro 😀\n';
    const text = Buffer.from(row.repeat(Math.ceil(600_000 / row.length)));
    for (const shift of ['', 'x', 'xy', 'xyz'])
      expect((await read(Buffer.concat([Buffer.from(`${shift}a,b,c\n`), text]))).dataset.classes).toBe(1);
    text[500_000] = 0xff;
    const position = (await failure('DATASET_UNREADABLE', () => read(text))).message;
    expect(position).toMatch(/position (499999|50000\d) of the file/);
  });
  test('rows without values at the end', async () => {
    const { dataset } = await read('a,b,label\r\n1,2,0\r\n3,4,1\r\n,,\r\n,,\r\n\r\n');
    expect(dataset.size).toBe(2);
    expect(dataset.assumptions.join()).toContain('2 empty rows');
    await failure('DATASET_UNREADABLE', () => read('a,b,label\n1,2,0\n,,\n3,4,1\n'));
  });
  test('quotes around delimiters, quotes and line breaks', async () => {
    const { dataset, labels } = await read('a,"b, or ""c""",label\n1,2,"cat, ""tom"""\n3,4,"two\nlines"\n');
    expect(dataset.classNames).toEqual(['cat, "tom"', 'two\nlines']);
    expect(labels).toEqual([0, 1]);
  });
  test('a missing cell is named with row and column', async () => {
    const error = await failure('DATASET_NOT_FINITE', () => read('a,b,label\n1,2,0\n3,,1\n'));
    expect(error.message).toBe(`Sample 1 (row 3) holds nothing in column 1 ("b").`);
  });
  test('more columns than a row may have', async () => {
    const wide = '1,'.repeat(70_000);
    expect((await failure('DATASET_TOO_LARGE', () => read(`${wide}0\n`))).message).toContain('more than 65536 columns');
    expect((await failure('DATASET_TOO_LARGE', () => read(`1,2,0\n${wide}0\n`))).message).toContain('Row 2');
    expect((await read(`"${wide}",2,label\n1,2,0\n`)).x).toEqual([1, 2]);
  });
});

test('labels that are texts are looked up in the classes of the config', async () => {
  const text = '1,2,dog\n3,4,ant\n';
  expect((await read(text, { classes: ['dog', 'cow', 'ant'] })).labels).toEqual([0, 2]);
  const error = await failure('DATASET_CLASSES', () => read(text, { classes: ['dog', 'cow'] }));
  expect(error.message).toContain('"ant"');
});
