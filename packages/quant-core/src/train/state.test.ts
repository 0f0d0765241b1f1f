import { describe, expect, it } from 'vitest';
import type { QuantPlan } from '../fakequant/plan.js';
import { loadArrays } from './arrays.js';
import { feedNames } from './forward.js';
import { QuantState } from './state.js';

const grid = { dtype: 'uint8' as const, qmin: 0, qmax: 255, symmetric: false };
const plan: QuantPlan = {
  activations: [{ value: 'a', group: 0 }],
  groups: [{ grid, bits: 8 }],
  weights: [
    { node: 'one', op: 'Gemm', value: 'w', port: 1, bits: 4, grid: { dtype: 'int8', qmin: -7, qmax: 7, symmetric: true }, axis: 0 },
    { node: 'two', op: 'Gemm', value: 'v', port: 1, bits: 8, grid: { dtype: 'int8', qmin: -127, qmax: 127, symmetric: true } },
  ],
  biases: [],
  integer: ['one', 'two'],
  float: [],
};
const layout = {
  slots: [
    { name: 'w', shape: [2, 2], offset: 0, size: 4 },
    { name: 'v', shape: [2], offset: 4, size: 2 },
  ],
  size: 6,
};
const range = (min: number, max: number) => ({ min, max });
const state = (chosen: { min: number; max: number }, average: { min: number; max: number }) =>
  new QuantState(plan, layout, ['a'], new Map([['a', { range: chosen, average }]]), new Map([['w', { share: Float32Array.of(1, 0.5) }]]));

describe('ranges while training', () => {
  it('start where calibration ended', () => {
    const { min, max } = state(range(-0.5, 2), range(-1, 4)).ranges().get('a')!;
    expect([min, max]).toEqual([-0.5, 2]);
  });

  it('follow what is seen by a hundredth, and keep the share that calibration kept', () => {
    const quant = state(range(-0.5, 2), range(-1, 4));
    quant.observe(Float32Array.of(-3), Float32Array.of(8));
    const { min, max } = quant.ranges().get('a')!;
    expect(min).toBeCloseTo(0.5 * (-1 - 0.02), 12);
    expect(max).toBeCloseTo(0.5 * (4 + 0.04), 12);
  });

  it('never exceed what is seen', () => {
    expect(state(range(-2, 12), range(-1, 6)).ranges().get('a')).toEqual(range(-1, 6));
  });

  it('hold 0, whatever is seen', () => {
    const quant = state(range(0, 2), range(0, 2));
    quant.observe(Float32Array.of(1), Float32Array.of(2));
    expect(quant.ranges().get('a')?.min).toBe(0);
  });

  it('come back from a checkpoint', () => {
    const quant = state(range(-0.5, 2), range(-1, 4));
    quant.observe(Float32Array.of(-3), Float32Array.of(8));
    const other = state(range(-0.5, 2), range(-1, 4));
    loadArrays(other.arrays, quant.arrays);
    expect(other.activationFeeds()).toEqual(quant.activationFeeds());
  });
});

describe('feeds', () => {
  it('hold scale, zero point and the ends of the grid of every group', () => {
    const feeds = state(range(-1, 3), range(-1, 3)).activationFeeds();
    expect([...(feeds[feedNames.activationScale]!.data as Float32Array)]).toEqual([Math.fround(4 / 255)]);
    expect([...(feeds[feedNames.activationZeroPoint]!.data as Uint8Array)]).toEqual([64]);
    expect((feeds[feedNames.activationLow]!.data as Float32Array)[0]).toBeCloseTo((-64 * 4) / 255, 6);
    expect((feeds[feedNames.activationHigh]!.data as Float32Array)[0]).toBeCloseTo((191 * 4) / 255, 6);
  });

  it('hold the scales of all weights one after the other, from the parameters as they are, clipped where they are', () => {
    const feeds = state(range(0, 1), range(0, 1)).weightFeeds(Float32Array.of(1, -7, 14, 0, 3, -127));
    expect([...(feeds[feedNames.weightScale]!.data as Float32Array)]).toEqual([1, 1, 1]);
    expect(feeds[feedNames.weightZeroPoint]).toMatchObject({ dtype: 'int8', shape: [3] });
  });
});
