import { describe, expect, it } from 'vitest';
import { dequantizeValue } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { unmatchedOverrides } from './presets.js';
import { activationParams, bestWeightClip, gridEnds, quantizeBias, quantizeWeight, weightScales } from './scales.js';
import { recipeWith } from './testing/plans.js';

const symmetric = (qmax: number) => ({ dtype: 'int8' as const, qmin: -qmax, qmax, symmetric: true });
const uint8 = { dtype: 'uint8' as const, qmin: 0, qmax: 255, symmetric: false };

describe('scales of weights', () => {
  const weight = Tensor.float32([2, 3], [1, -2, 3, 10, 20, -40]);

  it('one for each channel of either axis, or one in all', () => {
    const scales = (axis?: number) => [
      ...weightScales(weight.data, weight.shape, { grid: symmetric(127), ...(axis === undefined ? {} : { axis }) }).scale,
    ];
    const of = (...tops: number[]) => tops.map((top) => Math.fround(top / 127));
    expect(scales(0)).toEqual(of(3, 40));
    expect(scales(1)).toEqual(of(10, 20, 40));
    expect(scales()).toEqual(of(40));
  });

  it('of a channel that is all zero is 1, and of a share is the share', () => {
    const point = { grid: symmetric(7), axis: 0 };
    expect([...weightScales(Float32Array.of(0, 0, 1, 7), [2, 2], point).scale]).toEqual([1, 1]);
    expect([...weightScales(Float32Array.of(1, 2, 1, 7), [2, 2], point, { share: Float32Array.of(1, 0.5) }).scale]).toEqual([
      Math.fround(2 / 7),
      0.5,
    ]);
  });

  it('of an axis in the middle take every run of a channel', () => {
    const point = { grid: symmetric(1), axis: 1 };
    expect([...weightScales(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), [2, 2, 2], point).scale]).toEqual([6, 8]);
  });

  it('of many rows with the channels side by side are those of the transposed weight', () => {
    const [rows, channels] = [150, 5];
    const random = new Random(3);
    const wide = Float32Array.from({ length: rows * channels }, () => random.normal());
    const tall = Float32Array.from({ length: rows * channels }, (_, i) => wide[(i % rows) * channels + Math.floor(i / rows)] as number);
    const of = (data: Float32Array, shape: number[], axis: number) =>
      weightScales(data, shape, { grid: { ...uint8, dtype: 'int8' }, axis });
    expect(of(wide, [rows, channels], 1)).toEqual(of(tall, [channels, rows], 0));
  });

  it('integers follow the channel', () => {
    const point = { grid: symmetric(127), axis: 0 };
    const scales = weightScales(weight.data, weight.shape, point);
    expect([...quantizeWeight(weight, point, scales)]).toEqual([42, -85, 127, 32, 64, -127]);
  });
});

describe('the share of a range that is kept', () => {
  it('is all of it where weights are even, less where few stand out, by channel', () => {
    const random = new Random(8);
    const values = Float32Array.from({ length: 2000 }, (_, i) => (i < 1000 ? random.uniform() * 2 - 1 : random.normal() * 0.1));
    values[1500] = 1;
    const tensor = Tensor.float32([2, 1000], values);
    const point = { grid: symmetric(7), axis: 0 };
    const clip = bestWeightClip(tensor, point);
    expect(clip[0]).toBeGreaterThan(0.9);
    expect(clip[1]).toBeLessThan(0.6);
    const error = (share: Float32Array) => {
      const scales = weightScales(values, [2, 1000], point, { share });
      const q = quantizeWeight(tensor, point, scales);
      return values.reduce(
        (sum, v, i) => sum + (v - dequantizeValue(q[i] as number, { scale: scales.scale[i < 1000 ? 0 : 1] as number, zeroPoint: 0 })) ** 2,
        0,
      );
    };
    expect(error(clip)).toBeLessThan(0.95 * error(Float32Array.of(1, 1)));
  });
});

describe('activations', () => {
  it('a group has the range of all its members, and a fixed one its own', () => {
    const groups = [
      { grid: uint8, bits: 8 },
      { grid: uint8, bits: 8, fixed: { scale: 1 / 256, zeroPoint: 0 } },
    ];
    const points = [
      { value: 'a', group: 0 },
      { value: 'b', group: 0 },
      { value: 's', group: 1 },
    ];
    const ranges = new Map([
      ['a', { min: 0, max: 3 }],
      ['b', { min: -1, max: 1 }],
      ['s', { min: -9, max: 9 }],
    ]);
    expect(activationParams(groups, points, ranges)).toEqual([
      { scale: Math.fround(4 / 255), zeroPoint: 64 },
      { scale: 1 / 256, zeroPoint: 0 },
    ]);
  });

  it('the ends of a grid are what its first and last integer mean', () => {
    expect(gridEnds({ scale: 0.5, zeroPoint: 4 }, { ...uint8, qmax: 15 })).toEqual({ min: -2, max: 5.5 });
  });
});

it('a bias is rounded half to even on its own scale, and ends at int32', () => {
  const weight = { scale: Float32Array.of(0.5, 2 ** -20), zeroPoint: new Int8Array(2) };
  const { integers, scale } = quantizeBias(Tensor.float32([2], [0.625, 1e6]), 0.5, weight);
  expect([...scale]).toEqual([0.25, 2 ** -21]);
  expect([...integers]).toEqual([2, 2 ** 31 - 1]);
});

describe('overrides', () => {
  const layers = [
    { name: '/layer1/conv', op: 'Conv' },
    { name: 'head.fc', op: 'Gemm' },
  ];
  const lost = (...overrides: { name?: string; op?: string }[]) => unmatchedOverrides(recipeWith({ layers: overrides }), layers);

  it('match by glob, and by operator', () => {
    expect(lost({ name: '/layer1/*' }, { name: 'head?fc' }, { op: 'Gemm' }, { name: '*', op: 'Conv' })).toEqual([]);
  });

  it('match whole names, and take signs of regular expressions as they are', () => {
    expect(lost({ name: 'layer1' }, { name: 'headxfc' }, { name: 'head.(fc|x)' }, { name: '*', op: 'MatMul' })).toEqual([0, 1, 2, 3]);
  });
});
