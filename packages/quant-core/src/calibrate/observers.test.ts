import { describe, expect, it } from 'vitest';
import { defaultRecipe, type Observer } from '../recipe.js';
import { affineFromRange, dequantizeValue, type QuantGrid, quantizeValue } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { createObserver, Histogram, MovingAverage, type RangeObserver } from './observers.js';
import { rangeOf } from './testing/range.js';

const grid = (bits: number): QuantGrid => ({ dtype: 'uint8', qmin: 0, qmax: 2 ** bits - 1, symmetric: false });

/** An observer of the kind named that has seen `batches`. */
function watched(observer: Observer, batches: readonly Float32Array[], percentile = 99.99): RangeObserver {
  const recipe = defaultRecipe();
  const watcher = createObserver({ ...recipe, calibration: { ...recipe.calibration, observer, percentile } });
  for (const batch of batches) watcher.observe([batch], rangeOf(batch));
  return watcher;
}

/** 10,007 numbers from -20 to 19.9 that numpy can make again: u / (1.05 - |u|) for u = (i·7919 mod 10007) / 10007 · 2 - 1. */
const numbers = Float32Array.from({ length: 10_007 }, (_, i) => {
  const u = (((i * 7919) % 10_007) / 10_007) * 2 - 1;
  return u / (1.05 - Math.abs(u));
});
const batches = [numbers.subarray(0, 1000), numbers.subarray(1000, 1500), numbers.subarray(1500, 4000)];

/** Standard normal, with three values far out. */
const tailed = (() => {
  const random = new Random(5);
  const values = Float32Array.from({ length: 20_000 }, () => random.normal());
  values.set([40, -38, 42], 777);
  return values;
})();

/** Mean squared error of quantizing `values` with the range an observer chose. */
function error(values: Float32Array, observer: Observer, bits: number): number {
  const { min, max } = watched(observer, [values]).range(grid(bits));
  const params = affineFromRange(min, max, grid(bits));
  const { qmin, qmax } = grid(bits);
  return values.reduce((sum, x) => sum + (x - dequantizeValue(quantizeValue(x, params, qmin, qmax), params)) ** 2, 0) / values.length;
}

it('the first number is the one numpy makes', () => {
  expect(numbers[0]).toBe(-20);
  expect(numbers[17]).toBe(-0.09859530627727509);
});

describe('min-max', () => {
  it('is the range of all batches, with 0', () => {
    // numpy 1.24: x.min(), x.max()
    expect(watched('minmax', [numbers]).range(grid(8))).toEqual({ min: -20, max: Math.fround(19.916393) });
    expect(watched('minmax', [Float32Array.of(2, 3), Float32Array.of(1, 5)]).range(grid(8))).toEqual({ min: 0, max: 5 });
  });
});

describe('moving average', () => {
  it('is the mean of the extremes of the first batches', () => {
    // numpy 1.24: np.mean([b.min() for b in batches]), np.mean([b.max() …])
    const { min, max } = watched('moving_average_minmax', batches).range(grid(8));
    expect(min).toBeCloseTo(-19.366207122802734, 10);
    expect(max).toBeCloseTo(19.647563934326172, 10);
  });

  it('takes in a hundredth of a batch once there were a hundred', () => {
    const average = new MovingAverage();
    for (let i = 0; i < 150; i++) average.update({ min: -1, max: 1 });
    average.update({ min: -11, max: 101 });
    expect(average.value.min).toBeCloseTo(-1.1, 12);
    expect(average.value.max).toBeCloseTo(2, 12);
  });

  it('counts 0 as seen, so that an end never crosses it', () => {
    const average = new MovingAverage();
    for (const min of [5, 5, -1]) average.update({ min, max: 6 });
    expect(average.value.min).toBeCloseTo(-1 / 3, 12);
  });
});

describe('Histogram', () => {
  it('keeps every count when it widens', () => {
    const histogram = new Histogram();
    for (const batch of [numbers.map((x) => x / 1000), numbers, numbers.map((x) => x * 100)]) histogram.add(batch, rangeOf(batch));
    expect(histogram.total).toBe(3 * numbers.length);
    expect(histogram.counts.reduce((a, b) => a + b)).toBe(3 * numbers.length);
    expect(histogram.limit).toBe(2 ** 31 / 2 ** 20);
    const positive = histogram.counts.subarray(2048).reduce((a, b) => a + b);
    expect(positive).toBe(3 * numbers.filter((x) => x >= 0).length);
  });
});

describe('percentile', () => {
  /** Bins are 1/64 wide here. */
  const bin = 1 / 64;

  // numpy 1.24: np.percentile(x, (100 - p) / 2), np.percentile(x, 100 - (100 - p) / 2)
  it.each([
    [99, -16.500297470092775, 16.44219593048092],
    [99.9, -19.588277032852197, 19.507908960342505],
  ])('%s cuts both tails where numpy cuts them', (percentile, min, max) => {
    const range = watched('percentile', [numbers.subarray(0, 5000), numbers.subarray(5000)], percentile).range(grid(8));
    expect(Math.abs(range.min - min)).toBeLessThan(1.5 * bin);
    expect(Math.abs(range.max - max)).toBeLessThan(1.5 * bin);
  });

  it('cuts the one tail there is', () => {
    // numpy 1.24: np.percentile(np.abs(x), 99)
    const range = watched('percentile', [numbers.map(Math.abs)], 99).range(grid(8));
    expect(range.min).toBe(0);
    expect(Math.abs(range.max - 16.498554077148466)).toBeLessThan(1.5 * bin);
  });

  it('100 is min-max', () => {
    expect(watched('percentile', [numbers], 100).range(grid(8))).toEqual(watched('minmax', [numbers]).range(grid(8)));
  });
});

describe('histogram (least squared error)', () => {
  it('beats min-max on a heavy-tailed sample at 4 bits, and is no worse at 8', () => {
    expect(error(tailed, 'histogram', 4)).toBeLessThan(0.25 * error(tailed, 'minmax', 4));
    expect(error(tailed, 'histogram', 8)).toBeLessThanOrEqual(error(tailed, 'minmax', 8) * 1.001);
  });

  it('keeps the whole range where cutting does not pay', () => {
    const even = Float32Array.from({ length: 4096 }, (_, i) => i / 4096);
    const { min, max } = watched('histogram', [even]).range(grid(8));
    expect(min).toBe(0);
    expect(max).toBeGreaterThan(0.98);
  });

  it('does not depend on the order of the batches', () => {
    const there = watched('histogram', batches).range(grid(4));
    expect(watched('histogram', [...batches].reverse()).range(grid(4))).toEqual(there);
  });
});

describe('entropy', () => {
  it('cuts far outliers and keeps the body', () => {
    const { min, max } = watched('entropy', [tailed]).range(grid(8));
    expect(max).toBeGreaterThan(3);
    expect(max).toBeLessThan(20);
    expect(min).toBe(-max);
  });

  it('stays in what was seen', () => {
    const { min, max } = watched('entropy', [Float32Array.from({ length: 4096 }, (_, i) => i / 4096)]).range(grid(8));
    expect(min).toBe(0);
    expect(max).toBeGreaterThan(0.9);
    expect(max).toBeLessThanOrEqual(1);
  });
});

it.each(['minmax', 'moving_average_minmax', 'histogram', 'percentile', 'entropy'] as const)(
  '%s of nothing but zeros is zero',
  (observer) => {
    const { min, max } = watched(observer, [new Float32Array(100)]).range(grid(8));
    expect([min + 0, max + 0]).toEqual([0, 0]);
  },
);
