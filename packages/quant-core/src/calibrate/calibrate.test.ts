import { describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { defaultRecipe } from '../recipe.js';
import type { QuantGrid } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import { calibrate, calibrationBatch, withTaps } from './calibrate.js';

const engine = new OrtEngine();
const grid: QuantGrid = { dtype: 'uint8', qmin: 0, qmax: 255, symmetric: false };
const recipe = { ...defaultRecipe(), calibration: { ...defaultRecipe().calibration, observer: 'minmax' as const } };

const graph = () =>
  graphOf(`graph g (x: float32[N, 2]) opset 18
    a = Mul(x, two=float32[]{2})
    b = Log(a)
    y = Relu(b)
    return y`);

async function* rows(...batches: number[][]) {
  for (const batch of batches) yield { x: Tensor.float32([batch.length / 2, 2], batch) };
}

const observe = (names: readonly string[], ...batches: number[][]) => {
  const seen: number[] = [];
  const taps = names.map((value) => ({ value, grid }));
  const samples = batches.reduce((sum, batch) => sum + batch.length / 2, 0);
  const calibration = { recipe, engine, threads: 1, samples, onProgress: (done: number) => seen.push(done) };
  return calibrate(graph(), taps, rows(...batches), calibration).then((ranges) => ({ ranges, seen }));
};

describe('calibrate', () => {
  it('observes inputs, inner values and outputs over batches of any size', async () => {
    const { ranges, seen } = await observe(['x', 'a', 'y'], [1, 4], [2, 8, 1, 3]);
    expect(ranges.get('x')).toEqual({ range: { min: 0, max: 8 }, average: { min: 0, max: 6 } });
    expect(ranges.get('a')).toEqual({ range: { min: 0, max: 16 }, average: { min: 0, max: 12 } });
    expect(ranges.get('y')?.range.max).toBeCloseTo(Math.log(16), 6);
    expect(seen).toEqual([1, 3]);
  });

  it('observes the input alone, where a model has one layer', async () => {
    const { ranges } = await observe(['x'], [1, 4]);
    expect(ranges.get('x')?.range).toEqual({ min: 0, max: 4 });
  });

  it.each([
    ['infinite', [0, 1]],
    ['not a number, between numbers that are', [-1, 1]],
  ])('names the activation that is %s', async (_what, bad) => {
    const error = await failure('DATASET_NOT_FINITE', () => observe(['a', 'b'], [1, 1, 1, 1], [1, 1, ...bad]));
    expect(error.place).toEqual({ tensor: 'b', sample: 2 });
    expect(error.message).toContain('samples 2 to 3');
  });
});

it('withTaps leaves the graph alone', () => {
  const whole = graph();
  expect(withTaps(whole, ['a', 'y']).outputs.map((value) => value.name)).toEqual(['a', 'y']);
  expect(whole.outputs.map((value) => value.name)).toEqual(['y']);
});

it('calibrationBatch bounds what one batch holds, and takes one sample at least', () => {
  expect(calibrationBatch(64, 1000)).toBe(64);
  expect(calibrationBatch(64, 2 ** 23)).toBe(4);
  expect(calibrationBatch(64, 2 ** 30)).toBe(1);
  expect(calibrationBatch(64, 0)).toBe(64);
});
