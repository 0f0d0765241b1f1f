import { describe, expect, it } from 'vitest';
import type { QuantPlan } from '../fakequant/plan.js';
import { activationParams, bestWeightClip, weightScales } from '../fakequant/scales.js';
import { dequantizeValue, type QuantGrid, quantizeValue } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { LearnedScales, learnedScales } from './learnedScales.js';

const fourBits = { dtype: 'int8', qmin: -7, qmax: 7, symmetric: true } as const;
const narrow: QuantGrid = { dtype: 'uint8', qmin: 0, qmax: 15, symmetric: false };
const wide: QuantGrid = { dtype: 'uint8', qmin: 0, qmax: 255, symmetric: false };
const plan: QuantPlan = {
  activations: [
    { value: 'a', group: 0 },
    { value: 'b', group: 1 },
    { value: 'c', group: 2 },
  ],
  groups: [
    { grid: narrow, bits: 4 },
    { grid: wide, bits: 8 },
    { grid: narrow, bits: 4, fixed: { scale: 1 / 16, zeroPoint: 0 } },
  ],
  weights: [
    { node: 'one', op: 'Gemm', value: 'v', port: 1, bits: 8, grid: { dtype: 'int8', qmin: -127, qmax: 127, symmetric: true } },
    { node: 'two', op: 'Gemm', value: 'w', port: 1, bits: 4, grid: fourBits, axis: 0 },
  ],
  biases: [],
  integer: ['one', 'two'],
  float: [],
};
const perChannel = 500;
const layout = {
  slots: [
    { name: 'v', shape: [2], offset: 0, size: 2 },
    { name: 'w', shape: [2, perChannel], offset: 2, size: 2 * perChannel },
  ],
  size: 2 + 2 * perChannel,
};
const range = (min: number, max: number) => ({ min, max });

function parameters(): Float32Array {
  const random = new Random(5);
  return Float32Array.from({ length: layout.size }, (_, i) => (i < 2 + perChannel ? 1 : 0.01) * random.normal());
}

const calibrated = (average: number) =>
  new Map([
    ['a', { range: range(-1, 3), average: range(-1, average) }],
    ['b', { range: range(0, 1), average: range(0, 1) }],
  ]);

const learnedOf = (average = 3) =>
  new LearnedScales(plan, layout, learnedScales(plan, 'auto'), parameters(), calibrated(average), new Map());

describe('which scales are learned', () => {
  it('those below 8 bits, all, or none, but never a range that is known', () => {
    const of = (scales: 'auto' | 'learned' | 'observed') => {
      const { weights, groups } = learnedScales(plan, scales);
      return [[...weights], [...groups]];
    };
    expect(of('auto')).toEqual([[1], [0]]);
    expect(of('learned')).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(of('observed')).toEqual([[], []]);
  });
});

describe('learned scales', () => {
  it('start where calibration and the weights put them', () => {
    const learned = learnedOf();
    const slot = parameters().subarray(2);
    const given = learned.weightRanges().get('w') as { scale: Float32Array };
    const start = weightScales(slot, [2, perChannel], { grid: fourBits, axis: 0 });
    given.scale.forEach((scale, channel) => {
      expect(scale / (start.scale[channel] as number)).toBeCloseTo(1, 6);
    });
    const found = learned.groupRanges().get(0)!;
    const [params] = activationParams(plan.groups, plan.activations, new Map([['a', found]]));
    expect(params!.zeroPoint).toBe(4);
    expect(params!.scale).toBeCloseTo(4 / 15, 6);
  });

  it('give the ranges of a symmetric grid back as they are', () => {
    const symmetric: QuantPlan = { ...plan, groups: [{ grid: { ...narrow, symmetric: true }, bits: 4 }, ...plan.groups.slice(1)] };
    const learned = new LearnedScales(symmetric, layout, learnedScales(symmetric, 'auto'), parameters(), calibrated(3), new Map());
    const [params] = activationParams(symmetric.groups, symmetric.activations, new Map([['a', learned.groupRanges().get(0)!]]));
    expect(params).toEqual({ scale: Math.fround(3 / 7), zeroPoint: 8 });
  });

  it('never span more than was seen', () => {
    const learned = learnedOf(3);
    for (let step = 1; step <= 50; step++) learned.update(Float32Array.of(0, 0, -1), 1, step);
    expect(learned.groupRanges().get(0)!.max).toBeLessThanOrEqual(3 + 1e-9);
  });

  it('go to the least squared error of the weights, whatever their size', () => {
    const flat = parameters();
    const learned = learnedOf();
    const error = (channel: number, scale: number) => {
      let [sum, slope] = [0, 0];
      for (let i = 0; i < perChannel; i++) {
        const x = flat[2 + channel * perChannel + i] as number;
        const back = dequantizeValue(quantizeValue(x, { scale, zeroPoint: 0 }, -7, 7), { scale, zeroPoint: 0 });
        sum += (back - x) ** 2;
        slope += (2 * (back - x) * (Math.abs(x) <= 7 * scale ? back - x : back)) / scale;
      }
      return { sum, slope };
    };
    const scales = () => (learned.weightRanges().get('w') as { scale: Float32Array }).scale;
    const start = [...scales()].map((scale, channel) => error(channel, scale).sum);
    for (let step = 1; step <= 400; step++) {
      const [first, second] = scales();
      learned.update(Float32Array.of(error(0, first!).slope, error(1, second!).slope, 0), 1, step);
    }
    const tensor = Tensor.float32([2, perChannel], flat.slice(2));
    const best = weightScales(
      tensor.data,
      tensor.shape,
      { grid: fourBits, axis: 0 },
      { share: bestWeightClip(tensor, { grid: fourBits, axis: 0 }) },
    );
    [...scales()].forEach((scale, channel) => {
      const reached = error(channel, scale).sum;
      expect(reached).toBeLessThan(0.9 * (start[channel] as number));
      expect(reached).toBeLessThan(1.05 * error(channel, best.scale[channel] as number).sum);
    });
  });
});
