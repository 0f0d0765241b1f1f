import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { inspectDataset, openDataset } from './dataset.js';
import { checkAgainstModel } from './model-check.js';
import { Bench, bytesOf, failure, npy, spec } from './testing/files.js';
import { zip } from './testing/zip.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

const x3 = npy('<f4', [3, 2], bytesOf(Float32Array.of(1, 2, 3, 4, 5, 6)));
const y3 = npy('<i8', [3], bytesOf(BigInt64Array.of(0n, 2n, 1n)));

async function npz(members: Record<string, Buffer>, config: DatasetConfig = {}, deflate = true) {
  const path = await bench.file(zip(Object.entries(members).map(([name, data]) => ({ name: `${name}.npy`, data, deflate }))));
  return openDataset(path, config, bench);
}

async function only(members: Record<string, Buffer>, config: DatasetConfig = {}) {
  const dataset = await npz(members, config);
  const all = Array.from({ length: dataset.size }, (_, i) => i);
  const batch = await dataset.batch(all);
  await dataset.close();
  return { dataset, batch, x: Array.from(batch.x.as('float32').data) };
}

describe('arrays', () => {
  test('x and y by name, stored and deflated', async () => {
    for (const deflate of [true, false]) {
      const dataset = await npz({ y: y3, x: x3 }, {}, deflate);
      expect(dataset.summary).toMatchObject({
        format: 'npz',
        samples: 3,
        sampleShape: [2],
        dtype: 'float32',
        task: 'classification',
        classes: 3,
        classCounts: [1, 1, 1],
        range: { min: 1, max: 6 },
      });
      const batch = await dataset.batch([2, 0]);
      expect(batch.x.shape).toEqual([2, 2]);
      expect(Array.from(batch.x.as('float32').data)).toEqual([5, 6, 1, 2]);
      expect(batch.labels).toEqual(Int32Array.of(1, 0));
      await dataset.close();
    }
  });

  test.each([
    ['<f8', bytesOf(Float64Array.of(-1.5, 2, 3)), [-1.5, 2, 3]],
    ['>f4', bytesOf(Float32Array.of(-1.5, 2, 3)).swap32(), [-1.5, 2, 3]],
    ['<f2', bytesOf(Uint16Array.of(0xbe00, 0x4000, 0x0001)), [-1.5, 2, 2 ** -24]],
    ['|i1', bytesOf(Int8Array.of(-128, 0, 127)), [-128, 0, 127]],
    ['>i2', bytesOf(Int16Array.of(-300, 0, 300)).swap16(), [-300, 0, 300]],
    ['<u2', bytesOf(Uint16Array.of(0, 1, 65535)), [0, 1, 65535]],
    ['<i4', bytesOf(Int32Array.of(-70000, 0, 70000)), [-70000, 0, 70000]],
    ['>i8', bytesOf(BigInt64Array.of(-7n, 0n, 7n)).swap64(), [-7, 0, 7]],
    ['|b1', Buffer.of(0, 1, 1), [0, 1, 1]],
    ['|u1', Buffer.of(0, 51, 255), [0, Math.fround(51 / 255), 1]],
  ])('element type %s', async (descr, data, expected) => {
    const { x } = await only({ x: npy(descr, [3, 1], data) });
    expect(x).toEqual(expected);
  });

  test('bytes stay bytes, and what is assumed of them is said', async () => {
    const { dataset } = await only({ x: npy('|u1', [2, 2], Buffer.of(1, 2, 3, 4)) });
    expect(dataset.summary.dtype).toBe('uint8');
    expect(dataset.assumptions.join()).toContain('1/255');
  });

  test('Fortran order is turned round', async () => {
    // a[i, j, k] = 100 i + 10 j + k for shape [2, 3, 2], first axis fastest.
    const data: number[] = [];
    for (let k = 0; k < 2; k++) for (let j = 0; j < 3; j++) for (let i = 0; i < 2; i++) data.push(100 * i + 10 * j + k);
    const { x } = await only({ x: npy('<f4', [2, 3, 2], bytesOf(Float32Array.from(data)), { fortran: true }) });
    expect(x).toEqual([0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]);
  });

  test('header versions 2 and 3', async () => {
    for (const version of [2, 3]) expect((await only({ x: npy('<f4', [1, 1], bytesOf(Float32Array.of(7)), { version }) })).x).toEqual([7]);
  });

  test('.npy alone, also gzipped, is unlabelled', async () => {
    for (const data of [x3, gzipSync(x3)]) {
      const summary = await inspectDataset(await bench.file(data), {}, bench);
      expect(summary).toMatchObject({ format: 'npy', samples: 3, task: 'unlabelled' });
    }
    const path = await bench.file(x3);
    await failure('DATASET_LABELS', () => openDataset(path, { task: 'classification' }, bench));
  });
});

describe('which array is which', () => {
  const other = npy('<f4', [3, 4], Buffer.alloc(48));
  const other4 = npy('<f4', [4, 4], Buffer.alloc(64));
  test.each<[string, string[], DatasetConfig, number[]]>([
    ['named', ['labels', 'images'], {}, [2]],
    ['by order', ['first', 'second'], {}, [2]],
    ['labels named', ['stuff', 'labels'], {}, [2]],
    ['split named', ['x_train', 'y_train'], {}, [2]],
    ['camel case', ['trainImages', 'trainLabels'], {}, [2]],
    ['config', ['a', 'b', 'c'], { x: 'a', y: 'b' }, [2]],
    ['config with .npy', ['a', 'b', 'c'], { x: 'a.npy', y: 'b' }, [2]],
    ['one of two splits', ['x_train', 'y_train', 'x_test', 'y_test'], { x: 'x_test' }, [2]],
  ])('%s', async (_, names, config, shape) => {
    const isTarget = (name: string) => /^(labels|second|y_train|y_test|trainLabels|b)$/.test(name);
    const members = Object.fromEntries(names.map((name) => [name, isTarget(name) ? y3 : x3]));
    const { dataset } = await only(members, config);
    expect(dataset.summary.sampleShape).toEqual(shape);
    expect(dataset.task).toBe('classification');
  });

  test('arrays that hold something other than numbers are left out where nothing says that they are meant', async () => {
    const { dataset } = await only({
      images: x3,
      labels: y3,
      names: npy('<U3', [3], Buffer.alloc(36)),
      paths: npy('|O', [3], Buffer.alloc(9)),
    });
    expect(dataset.task).toBe('classification');
    expect(dataset.assumptions.join()).toContain('"names" (<U3), "paths" (|O)');
  });

  test('three arrays without telling names', async () => {
    await failure('DATASET_AMBIGUOUS', () => npz({ a: x3, b: y3, c: other }));
    await failure('DATASET_AMBIGUOUS', () => npz({ x: x3, b: y3, c: other }));
    const { dataset } = await only({ x: x3, b: y3, c: other }, { task: 'unlabelled' });
    expect(dataset.task).toBe('unlabelled');
  });

  test('arrays for the inputs of one model: no model is known yet, and each is told', async () => {
    const ids = npy('<i8', [3, 2], bytesOf(BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n)));
    const { dataset } = await only({ input_ids: ids, attention_mask: x3, labels: y3 });
    expect(dataset.task).toBe('classification');
    expect(dataset.summary.inputs).toMatchObject([
      { name: 'input_ids', sampleShape: [2], dtype: 'int64', range: { min: 1, max: 6 } },
      { name: 'attention_mask', sampleShape: [2] },
    ]);
    const input = (name: string) => ({ name, shape: [2], dtype: 'int64' as const });
    expect(checkAgainstModel(dataset.summary, {}, [input('attention_mask'), input('input_ids')])).toEqual([]);
    expect(checkAgainstModel(dataset.summary, {}, [input('input_ids')])).toEqual([]);
    const error = await failure('DATASET_INPUTS', () => checkAgainstModel(dataset.summary, {}, [input('input_ids'), input('types')]));
    expect(error.message).toContain('nothing for "types"');
    await failure('DATASET_AMBIGUOUS', () => npz({ input_ids: ids, attention_mask: other4, labels: y3 }));
  });

  test('a name that is not there', async () => {
    const error = await failure('DATASET_CONFIG', () => npz({ x: x3 }, { x: 'samples' }));
    expect(error.place.pointer).toBe('/x');
    expect(error.message).toContain('"x"');
  });
});

describe('targets', () => {
  const f4 = (shape: number[], values: number[]) => npy('<f4', shape, bytesOf(Float32Array.from(values)));
  test('whole floats are labels', async () => {
    const { batch } = await only({ x: x3, y: f4([3], [2, 0, 1]) });
    expect(batch.labels).toEqual(Int32Array.of(2, 0, 1));
  });
  test('[n, 1] is squeezed', async () => {
    const { batch } = await only({ x: x3, y: f4([3, 1], [2, 0, 1]) });
    expect(batch.labels).toEqual(Int32Array.of(2, 0, 1));
  });
  test('one-hot rows are labels', async () => {
    const { batch, dataset } = await only({ x: x3, y: f4([3, 4], [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]) });
    expect(batch.labels).toEqual(Int32Array.of(1, 0, 2));
    expect(dataset.classes).toBe(4);
  });
  test('fractions are values', async () => {
    const { batch, dataset } = await only({ x: x3, y: f4([3], [0.5, -1, 2]) });
    expect(dataset.summary).toMatchObject({ task: 'regression', targetShape: [1] });
    expect(batch.values?.shape).toEqual([3, 1]);
    expect(Array.from(batch.values?.data ?? [])).toEqual([0.5, -1, 2]);
  });
  test('several columns are values', async () => {
    const { batch } = await only({ x: x3, y: f4([3, 2], [1, 1, 0, 3, 2, 0]) });
    expect(batch.values?.shape).toEqual([3, 2]);
    expect(batch.labels).toBeUndefined();
  });
  test('the config decides between labels and values', async () => {
    const { dataset } = await only({ x: x3, y: y3 }, { task: 'regression' });
    expect(dataset.task).toBe('regression');
    expect((await only({ x: x3, y: y3 }, { task: 'unlabelled' })).batch.labels).toBeUndefined();
  });
  test.each([
    ['negative', npy('<i4', [3], bytesOf(Int32Array.of(0, 1, -1))), {}, 2],
    ['fraction', f4([3], [0, 1.5, 1]), { task: 'classification' as const }, 1],
    ['huge', npy('<i8', [3], bytesOf(BigInt64Array.of(0n, 9007199254740993n, 1n))), {}, 1],
    ['not one-hot', npy('|u1', [3, 2], Buffer.of(0, 1, 1, 1, 0, 1)), { task: 'classification' as const }, 1],
  ])('%s label is refused with its sample', async (_, y, config, sample) => {
    const error = await failure('DATASET_LABELS', () => npz({ x: x3, y }, config));
    expect(error.place.sample).toBe(sample);
  });
  test('a count that does not match', async () => {
    const error = await failure('DATASET_LABELS', () => npz({ x: x3, y: npy('|u1', [2], Buffer.of(0, 1)) }));
    expect(error.message).toContain('3 samples but 2 targets');
  });
  test('NaN among the targets', async () => {
    const error = await failure('DATASET_NOT_FINITE', () => npz({ x: x3, y: f4([3], [0, Number.NaN, 1]) }));
    expect(error.place.sample).toBe(1);
  });
});

describe('targets that are texts', () => {
  const wide = (width: number, texts: string[], swap = false) => {
    const data = Buffer.alloc(4 * width * texts.length);
    texts.forEach((text, i) => {
      [...text].forEach((character, at) => {
        data.writeUInt32LE(character.codePointAt(0) as number, 4 * (i * width + at));
      });
    });
    return swap ? data.swap32() : data;
  };
  test('in either width and order of bytes', async () => {
    const texts = ['dög', 'ant', 'dög'];
    const narrow = Buffer.concat(texts.map((text) => Buffer.concat([Buffer.from(text), Buffer.alloc(6 - Buffer.byteLength(text))])));
    for (const y of [npy('<U5', [3], wide(5, texts)), npy('>U3', [3, 1], wide(3, texts, true)), npy('|S6', [3], narrow)]) {
      const { dataset, batch } = await only({ x: x3, y });
      expect(dataset.classNames).toEqual(['ant', 'dög']);
      expect(batch.labels).toEqual(Int32Array.of(1, 0, 1));
      expect(dataset.assumptions.join()).toContain('The texts in "y"');
    }
  });
  test('are looked up in the classes of the config', async () => {
    const y = npy('<U3', [3], wide(3, ['dog', 'ant', 'dog']));
    expect((await only({ x: x3, y }, { classes: ['dog', 'cow', 'ant'] })).batch.labels).toEqual(Int32Array.of(0, 2, 0));
    await failure('DATASET_CLASSES', () => npz({ x: x3, y }, { classes: ['dog', 'cow'] }));
  });
  test('whole numbers are numbers', async () => {
    const { dataset, batch } = await only({ x: x3, y: npy('<U2', [3], wide(2, ['2', '10', '0'])) });
    expect(batch.labels).toEqual(Int32Array.of(2, 10, 0));
    expect(dataset.classNames).toBeUndefined();
  });
  test('that cannot be labels', async () => {
    await failure('DATASET_LABELS', () => npz({ x: x3, y: npy('<U1', [3], wide(1, ['a', '', 'b'])) }));
    await failure('DATASET_LABELS', () => npz({ x: x3, y: npy('<U1', [2], wide(1, ['a', 'b'])) }));
    await failure('DATASET_LABELS', () => npz({ x: x3, y: npy('<U1', [3, 2], wide(1, [...'abcdef'])) }));
    await failure('DATASET_LABELS', () => npz({ x: x3, y: npy('<U1', [3], wide(1, [...'abc'])) }, { task: 'regression' }));
    await failure('DATASET_UNREADABLE', () => npz({ x: x3, y: npy('<U1', [3], Buffer.alloc(12, 0xff)) }));
    await failure('DATASET_UNREADABLE', () => npz({ x: x3, y: npy('|S1', [3], Buffer.alloc(3, 0xff)) }));
    await failure('DATASET_UNREADABLE', () => npz({ x: x3, y: npy('<U1', [3], Buffer.alloc(8)) }));
  });
  test.each([
    ['|O', 'object'],
    ['<c8', 'complex64'],
    ['<f16', 'longdouble'],
    ['<M8[ns]', 'datetime64'],
    ['<U3', 'text'],
  ])('an array of %s that is meant is refused by its type', async (descr, name) => {
    const bytes = descr === '<U3' ? 36 : 9;
    const bad = npy(descr, [3], Buffer.alloc(bytes));
    expect((await failure('DATASET_UNREADABLE', () => npz({ x: bad, y: y3 }))).message).toContain(`"x" has dtype ${name} (${descr})`);
    expect((await failure('DATASET_UNREADABLE', () => npz({ a: bad, y: y3 }, { x: 'a' }))).message).toContain('"a" has dtype');
    if (descr === '<U3') return;
    expect((await failure('DATASET_UNREADABLE', () => npz({ x: x3, y: bad }))).message).toContain(`"y" has dtype ${name}`);
    expect((await failure('DATASET_UNREADABLE', () => npz({ x: x3, b: bad }, { y: 'b' }))).message).toContain('"b" has dtype');
  });
});

describe('hostile input', () => {
  test.each([
    ['NaN', Number.NaN],
    ['infinity', Number.POSITIVE_INFINITY],
    ['more than float32 holds', 1e300],
  ])('%s', async (_, value) => {
    const error = await failure('DATASET_NOT_FINITE', () => npz({ x: npy('<f8', [3, 2], bytesOf(Float64Array.of(1, 2, 3, value, 5, 6))) }));
    expect(error.place.sample).toBe(1);
  });
  test('an array of objects', async () => {
    const path = await bench.file(npy('|O', [3], Buffer.alloc(24)));
    const error = await failure('DATASET_UNREADABLE', () => openDataset(path, {}, bench));
    expect(error.message).toContain('|O');
  });
  test.each([
    ['truncated data', x3.subarray(0, -4)],
    ['surplus data', Buffer.concat([x3, Buffer.alloc(4)])],
    ['truncated header', x3.subarray(0, 20)],
    ['a shape that lies', npy('<f4', [1_000_000_000_000, 2], Buffer.alloc(24))],
    ['an impossible shape', npy('<f4', [9_000_000_000_000_000, 9_000_000], Buffer.alloc(24))],
    ['a negative shape', npy('<f4', [], Buffer.alloc(24), { header: "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 2), }" })],
    ['no shape', npy('<f4', [], Buffer.alloc(24), { header: "{'descr': '<f4', 'fortran_order': False, }" })],
    ['a record type', npy('', [], Buffer.alloc(24), { header: "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }" })],
    ['an unknown version', npy('<f4', [3, 2], Buffer.alloc(24), { version: 9 })],
  ])('%s', async (_, data) => {
    const path = await bench.file(data);
    await failure('DATASET_UNREADABLE', () => openDataset(path, {}, bench));
    await failure('DATASET_UNREADABLE', () => npz({ x: data }));
  });
  test('a hostile header length is refused before it is read', async () => {
    const path = await bench.file(Buffer.concat([Buffer.from('\x93NUMPY\x02\x00\xff\xff\xff\x7f', 'latin1'), Buffer.alloc(200)]));
    expect((await failure('DATASET_UNREADABLE', () => openDataset(path, {}, bench))).message).toContain('claims 2147483647 bytes');
  });
  test('truncated gzip', async () => {
    const path = await bench.file(
      gzipSync(npy('<f4', [1000, 2], bytesOf(Float32Array.from({ length: 2000 }, Math.sin)))).subarray(0, -100),
    );
    await failure('DATASET_UNREADABLE', () => openDataset(path, {}, bench));
  });
  test('no samples, no elements, a bare number', async () => {
    await failure('DATASET_EMPTY', () => npz({ x: npy('<f4', [0, 2], Buffer.alloc(0)) }));
    await failure('DATASET_EMPTY', () => npz({ x: npy('<f4', [3, 0], Buffer.alloc(0)) }));
    const path = await bench.file(npy('<f4', [], Buffer.alloc(4), { header: "{'descr': '<f4', 'fortran_order': False, 'shape': (), }" }));
    await failure('DATASET_SHAPE', () => openDataset(path, {}, bench));
  });
  test('limits on samples and on unpacked bytes', async () => {
    const path = await bench.file(x3);
    await failure('DATASET_TOO_LARGE', () => openDataset(path, {}, { ...bench, limits: { ...bench.limits, datasetSamples: 2 } }));
    await failure('DATASET_TOO_LARGE', () => openDataset(path, {}, { ...bench, limits: { ...bench.limits, datasetBytes: 10 } }));
    await failure('DATASET_TOO_LARGE', () => openDataset(path, {}, { ...bench, limits: { ...bench.limits, archiveBytes: 10 } }));
  });
  test('a model of another shape', async () => {
    const path = await bench.file(x3);
    const error = await failure('DATASET_SHAPE', () => openDataset(path, {}, { ...bench, fit: spec(1, 28, 28) }));
    expect(error.message).toContain('[2]');
    expect(error.message).toContain('[1, 28, 28]');
  });
});

test('masks of 0 and 255 are half a mask; beside other classes 255 is what does not count', async () => {
  const mask = (...rows: number[]) => ({ x: x3, y: npy('|u1', [3, 2], Buffer.from(rows)) });
  const error = await failure('DATASET_LABELS', () => npz(mask(0, 255, 255, 0, 0, 0)));
  expect(error.hint).toBe('Write 1 in place of 255.');
  expect((await only(mask(0, 255, 1, 0, 0, 0))).dataset.task).toBe('dense_classification');
});
