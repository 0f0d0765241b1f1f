import { describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { graphOf, linesOf, runGraph } from '../normalise/testing/oracle.js';
import { defaultRecipe, type Observer } from '../recipe.js';
import type { QuantGrid } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { calibrate } from './calibrate.js';
import { observed, observingGraph, stepOver } from './observe.js';

const grid: QuantGrid = { dtype: 'uint8', qmin: 0, qmax: 255, symmetric: false };

const net = () =>
  graphOf(`graph g (x: float32[N, 2, 3]) opset 18
    a = Neg(x)
    r = Relu(a)
    s = Sigmoid(r)
    return s`);

describe('the observing graph', () => {
  const watched = ['x', 'a', 'r'].map((value) => ({ value, step: value === 'a' ? 5 : 1 }));
  const x = Tensor.float32([2, 2, 3], [3, -1, 2, 8, -4, 0, 1, 1, 1, 1, 1, -9]);

  it('gives ranges over all elements and every step-th of them', async () => {
    const results = await runGraph(observingGraph(net(), watched, { values: true }), { x });
    expect(results[observed.minimum]?.data).toEqual(Float32Array.from([-9, -8, 0]));
    expect(results[observed.maximum]?.data).toEqual(Float32Array.from([8, 9, 9]));
    expect(results[observed.values(0)]?.data).toEqual(Float32Array.from([...x.data]));
    expect(results[observed.values(1)]?.data).toEqual(Float32Array.from([-3, -0, -1]));
  });

  it('leaves the graph alone, and asks for no values where none are wanted', async () => {
    const graph = net();
    const before = linesOf(graph);
    const results = await runGraph(observingGraph(graph, watched, { values: false }), { x });
    expect(Object.keys(results)).toEqual([observed.minimum, observed.maximum, observed.sum]);
    expect(linesOf(graph)).toEqual(before);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('has no finite sum where an element is %s', async (bad) => {
    for (let at = 0; at < x.size; at++) {
      const data = x.data.slice();
      data[at] = bad;
      const results = await runGraph(observingGraph(net(), watched, { values: false }), { x: Tensor.float32(x.shape, data) });
      expect(Number.isFinite(results[observed.sum]?.data[0] as number)).toBe(false);
    }
  });
});

describe('the step over an activation', () => {
  it('is one while there are few elements', () => {
    expect(stepOver([64, 32], 512)).toBe(1);
    expect(stepOver([], 100_000)).toBe(1);
  });

  it.each([
    [[16, 32, 32], 512],
    [[96, 112, 112], 512],
    [[7, 7, 11], 100_000],
  ])('over %j of %s samples leaves about a million, and is in step with no dimension', (shape, samples) => {
    const step = stepOver(shape, samples);
    const size = shape.reduce((a, b) => a * b, 1);
    expect((size * samples) / step).toBeGreaterThan(2 ** 19);
    expect((size * samples) / step).toBeLessThan(2 ** 21);
    for (const dim of shape) expect(dim % step).not.toBe(0);
    expect(step === 1 || size % step !== 0).toBe(true);
  });
});

describe('ranges', () => {
  const random = new Random(4);
  const all = Float32Array.from({ length: 40 * 60_000 }, () => random.normal());
  const wide = () =>
    graphOf(`graph g (x: float32[N, 60000]) opset 18
      y = Identity(x)
      return y`);
  async function* rows() {
    for (let at = 0; at < all.length; at += 10 * 60_000) yield { x: Tensor.float32([10, 60_000], all.subarray(at, at + 10 * 60_000)) };
  }
  const rangeBy = async (observer: Observer, samples: number, threads = 1) => {
    const base = defaultRecipe();
    const recipe = { ...base, calibration: { ...base.calibration, observer } };
    const taps = [{ value: 'y', grid }];
    return (await calibrate(wide(), taps, rows(), { recipe, engine: new OrtEngine(), threads, samples })).get('y')?.range;
  };

  it.each(['histogram', 'percentile'] as const)(
    'by %s of some elements are those of all of them but for a few per cent',
    async (observer) => {
      // Told of one sample, calibration takes every element it sees.
      const [some, whole] = [await rangeBy(observer, 40), await rangeBy(observer, 1)];
      expect(some).not.toEqual(whole);
      for (const side of ['min', 'max'] as const) expect(Math.abs((some?.[side] ?? 0) / (whole?.[side] ?? 1) - 1)).toBeLessThan(0.08);
    },
  );

  it('do not depend on the number of threads', async () => {
    expect(await rangeBy('histogram', 40, 2)).toEqual(await rangeBy('histogram', 40, 1));
  });

  it('by min-max are exact', async () => {
    expect(await rangeBy('minmax', 40)).toEqual({
      min: all.reduce((a, b) => Math.min(a, b)),
      max: all.reduce((a, b) => Math.max(a, b)),
    });
  });
});
