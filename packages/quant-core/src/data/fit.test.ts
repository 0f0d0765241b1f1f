import { describe, expect, test } from 'vitest';
import type { DatasetConfig } from '../recipe.js';
import { fitSamples } from './fit.js';
import type { Stored } from './reading.js';
import { converter } from './scaling.js';
import { failure, spec } from './testing/files.js';

const stored = (sampleShape: number[], dtype = 'float32', range = { min: 0, max: 1 }): Stored => ({
  format: 'npz',
  sampleShape,
  dtype,
  range,
});
const apply = (from: Stored, config: DatasetConfig, wanted: (number | undefined)[], source: Float32Array | Uint8Array | Int8Array) => {
  const reading = fitSamples(from, config, spec(...wanted));
  const target = new Float32Array(source.length);
  converter(reading, source.length)(source, target, 1);
  return { reading, values: Array.from(target) };
};

describe('layout', () => {
  test.each<[number[], (number | undefined)[], DatasetConfig['layout'], number[], string]>([
    [[3, 32, 32], [3, 32, 32], undefined, [3, 32, 32], 'same'],
    [[32, 32, 3], [32, 32, 3], undefined, [32, 32, 3], 'same'],
    [[32, 32, 3], [3, 32, 32], undefined, [3, 32, 32], 'lastToFirst'],
    [[3, 32, 32], [32, 32, 3], undefined, [32, 32, 3], 'firstToLast'],
    [[28, 28], [1, 28, 28], undefined, [1, 28, 28], 'same'],
    [[28, 28, 1], [1, 28, 28], undefined, [1, 28, 28], 'same'],
    [[28, 28], [28, 28, 1], undefined, [28, 28, 1], 'same'],
    [[1, 28, 28], [28, 28], undefined, [28, 28], 'same'],
    [[784], [1, 28, 28], undefined, [1, 28, 28], 'same'],
    [[784], [784], undefined, [784], 'same'],
    [[28, 28], [784], undefined, [784], 'same'],
    [[490], [49, 10], undefined, [49, 10], 'same'],
    [[49, 10, 1], [49, 10, 1], undefined, [49, 10, 1], 'same'],
    [[3072], [3, 32, 32], 'NHWC', [3, 32, 32], 'lastToFirst'],
    [[3072], [3, 32, 32], 'NCHW', [3, 32, 32], 'same'],
    [[3072], [32, 32, 3], 'NCHW', [32, 32, 3], 'firstToLast'],
    [[3072], [32, 32, 3], 'NHWC', [32, 32, 3], 'same'],
    [[32, 24, 3], [3, undefined, undefined], undefined, [3, 32, 24], 'lastToFirst'],
    [[5], [undefined], undefined, [5], 'same'],
    [[7, 5], [undefined], undefined, [35], 'same'],
    [[64, 8], [8, 64], 'NHWC', [8, 64], 'lastToFirst'],
    [[32, 32, 3], [undefined, undefined, undefined], 'NHWC', [3, 32, 32], 'lastToFirst'],
    [[3, 32, 32], [undefined, undefined, undefined], 'NCHW', [3, 32, 32], 'same'],
    [[4, 4, 4], [4, 4, 4], undefined, [4, 4, 4], 'same'],
    [[4, 4, 4], [4, 4, 4], 'NHWC', [4, 4, 4], 'lastToFirst'],
  ])('%j to %j (%s)', (from, wanted, layout, shape, order) => {
    expect(fitSamples(stored(from), { layout }, spec(...wanted))).toMatchObject({ shape, order });
  });

  test.each<[number[], (number | undefined)[], DatasetConfig['layout']]>([
    [[3072], [3, 32, 32], undefined],
    [[3, 32, 3], [3, undefined, undefined], undefined],
    [[28, 28], [undefined, undefined, undefined], undefined],
  ])('%j to %j is ambiguous', async (from, wanted, layout) => {
    expect((await failure('DATASET_AMBIGUOUS', () => fitSamples(stored(from), { layout }, spec(...wanted)))).hint).toContain('layout');
  });

  test.each<[number[], (number | undefined)[], DatasetConfig['layout']]>([
    [[28, 28], [1, 32, 32], undefined],
    [[32, 32, 3], [3, 32, 32], 'NCHW'],
    [[10, 49], [49, 10], undefined],
    [[783], [1, 28, 28], undefined],
    [[3, 32, 32], [1, 32, 32], undefined],
  ])('%j to %j (%s) is refused', async (from, wanted, layout) => {
    const error = await failure('DATASET_SHAPE', () => fitSamples(stored(from), { layout }, spec(...wanted)));
    expect(error.message).toContain(from.join(', '));
    expect(error.message).toContain(wanted.join(', '));
  });

  test('elements move to where the layout has them', () => {
    const source = Float32Array.from({ length: 12 }, (_, i) => i);
    expect(apply(stored([2, 2, 3]), {}, [3, 2, 2], source).values).toEqual([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
    expect(apply(stored([3, 2, 2]), {}, [2, 2, 3], source).values).toEqual([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    expect(apply(stored([12]), { layout: 'NHWC' }, [3, 2, 2], source).values).toEqual([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
  });
});

describe('scaling', () => {
  const f = Math.fround;
  test('the formula, rounded to float32 once', () => {
    const { values } = apply(stored([3], 'int8'), { offset: -83, scale: 0.5847029, mean: 0.25, std: 3 }, [3], Int8Array.of(-128, 0, 127));
    expect(values).toEqual([-128, 0, 127].map((x) => f(((x - 83) * 0.5847029 - 0.25) / 3)));
  });
  test('per channel, bytes by table, moved at the same time', () => {
    const config = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    const source = Uint8Array.of(0, 10, 20, 255, 254, 253);
    const expected = (x: number, c: number) => f((x * (1 / 255) - (config.mean[c] as number)) / (config.std[c] as number));
    const first = apply(stored([1, 2, 3], 'uint8'), config, [3, 1, 2], source);
    expect(first.values).toEqual([expected(0, 0), expected(255, 0), expected(10, 1), expected(254, 1), expected(20, 2), expected(253, 2)]);
    const last = apply(stored([1, 2, 3], 'uint8'), config, [1, 2, 3], source);
    expect(last.values).toEqual(Array.from(source, (x, i) => expected(x, i % 3)));
    expect(first.reading.assumptions.join()).toContain('1/255 before mean');
  });
  test('per feature', () => {
    expect(apply(stored([2]), { mean: [1, 2], std: [2, 4] }, [2], Float32Array.of(3, 6)).values).toEqual([1, 1]);
  });
  test.each<[string, string, DatasetConfig, number, number]>([
    ['bytes, nothing said', 'uint8', {}, 1 / 255, 1],
    ['bytes, scale said', 'uint8', { scale: 1 }, 1, 0],
    ['bytes, mean in bytes', 'uint8', { mean: 127.5, std: 127.5 }, 1, 1],
    ['bytes, offset only', 'uint8', { offset: -128 }, 1, 0],
    ['floats', 'float32', {}, 1, 0],
    ['whole numbers', 'int16', {}, 1, 1],
  ])('%s', (_, dtype, config, scale, said) => {
    const { scaling, assumptions } = fitSamples(stored([4], dtype), config, spec(4));
    expect(scaling.scale).toBe(scale);
    expect(assumptions).toHaveLength(said);
  });
  test('floats from 0 to 255 are pointed out', () => {
    expect(fitSamples(stored([4], 'float32', { min: 0, max: 255 }), {}, spec(4)).assumptions).toHaveLength(1);
  });
  test('what cannot be meant is refused', async () => {
    await failure('DATASET_CONFIG', () => fitSamples(stored([3, 4, 4]), { mean: [1, 2] }, undefined));
    await failure('DATASET_CONFIG', () => fitSamples(stored([3]), { mean: [1, 2, 3], std: [1, 2] }, undefined));
    await failure('DATASET_CONFIG', () => fitSamples(stored([3]), { std: 0 }, undefined));
    await failure('DATASET_CONFIG', () => fitSamples(stored([3]), { scale: 0 }, undefined));
    await failure('DATASET_AMBIGUOUS', () => fitSamples(stored([3, 4, 3]), { mean: [1, 2, 3] }, undefined));
    expect(fitSamples(stored([3, 4, 3]), { mean: [1, 2, 3], layout: 'NHWC' }, undefined).scaling.axis).toBe('last');
  });
});
