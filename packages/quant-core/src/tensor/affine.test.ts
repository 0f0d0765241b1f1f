import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { info, modelBytes, node } from '../testing/onnx.js';
import { affineFromRange, dequantizeValue, minScale, type QuantGrid, quantizeValue, roundHalfEven } from './affine.js';
import { Random } from './random.js';
import { Tensor } from './tensor.js';

const uint8: QuantGrid = { dtype: 'uint8', qmin: 0, qmax: 255, symmetric: false };
const int8: QuantGrid = { dtype: 'int8', qmin: -127, qmax: 127, symmetric: true };

it('rounds halves to the even neighbour', () => {
  const halves = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 126.5, 127.5];
  expect(halves.map((x) => roundHalfEven(x) + 0)).toEqual([-4, -2, -2, 0, 0, 2, 2, 4, 126, 128]);
  expect([0.49999997, 0.50000003, -0.50000003, 2.0000002, -7, 1e15].map((x) => roundHalfEven(x) + 0)).toEqual([0, 1, -1, 2, -7, 1e15]);
});

describe('affineFromRange', () => {
  it.each([
    ['both signs', -1, 3, Math.fround(4 / 255), 64],
    ['around zero', -2.55, 2.55, Math.fround(5.1 / 255), 128],
    ['above zero only: zero stays representable', 2, 5, Math.fround(5 / 255), 0],
    ['below zero only', -5, -2, Math.fround(5 / 255), 255],
    ['almost all below', -1, 1e-9, Math.fround(1 / 255), 255],
  ])('affine, %s', (_what, min, max, scale, zeroPoint) => {
    expect(affineFromRange(min, max, uint8)).toEqual({ scale, zeroPoint });
  });

  it('affine on seven bits and on signed integers', () => {
    expect(affineFromRange(-1, 1, { ...uint8, qmax: 127 })).toEqual({ scale: Math.fround(2 / 127), zeroPoint: 64 });
    expect(affineFromRange(-1, 3, { dtype: 'int8', qmin: -128, qmax: 127, symmetric: false })).toEqual({
      scale: Math.fround(4 / 255),
      zeroPoint: -64,
    });
  });

  it('symmetric: the largest magnitude over the largest integer, zero point in the middle', () => {
    expect(affineFromRange(-2, 1, int8)).toEqual({ scale: Math.fround(2 / 127), zeroPoint: 0 });
    expect(affineFromRange(-1, 2, { ...int8, qmin: -7, qmax: 7 })).toEqual({ scale: Math.fround(2 / 7), zeroPoint: 0 });
    expect(affineFromRange(0, 2, { ...uint8, symmetric: true })).toEqual({ scale: Math.fround(2 / 127), zeroPoint: 128 });
  });

  it.each([
    ['all zero', 0, 0],
    ['too small for float32', -1e-45, 1e-40],
    ['not a number', Number.NaN, Number.NaN],
  ])('a range that is %s has the scale 1', (_what, min, max) => {
    expect(affineFromRange(min, max, uint8)).toEqual({ scale: 1, zeroPoint: 0 });
    expect(affineFromRange(min, max, int8)).toEqual({ scale: 1, zeroPoint: 0 });
  });

  it('takes ranges down to the smallest scale', () => {
    expect(affineFromRange(0, 255 * minScale, uint8)).toEqual({ scale: minScale, zeroPoint: 0 });
    expect(affineFromRange(0, 254 * minScale, uint8).scale).toBe(1);
  });

  it('holds 0 exactly, and both ends to half a step, whatever the range', () => {
    const random = new Random(3);
    for (let i = 0; i < 500; i++) {
      const low = -random.uniform() * 10 ** (random.below(9) - 4);
      const high = random.uniform() * 10 ** (random.below(9) - 4);
      const params = affineFromRange(low, high, uint8);
      const back = (x: number) => dequantizeValue(quantizeValue(x, params, 0, 255), params);
      expect(back(0)).toBe(0);
      expect(Math.abs(back(low) - low)).toBeLessThanOrEqual(params.scale * 0.501);
      expect(Math.abs(back(high) - high)).toBeLessThanOrEqual(params.scale * 0.501);
    }
  });
});

/** QuantizeLinear and DequantizeLinear of the real runtime. */
async function runtime(
  values: Float32Array,
  scale: number,
  zeroPoint: number,
  dtype: 'uint8' | 'int8',
): Promise<{ q: number[]; x: number[] }> {
  const zero = dtype === 'uint8' ? new Tensor('uint8', [], Uint8Array.of(zeroPoint)) : new Tensor('int8', [], Int8Array.of(zeroPoint));
  const bytes = modelBytes({
    nodes: [node('QuantizeLinear', ['x', 's', 'z'], ['q']), node('DequantizeLinear', ['q', 's', 'z'], ['y'])],
    inputs: [info('x', ['N'])],
    outputs: [info('q', ['N'], dtype === 'uint8' ? 2 : 3), info('y', ['N'])],
    initializers: { s: Tensor.scalar(scale), z: zero },
  });
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 });
  const { q, y } = await session.run({ x: new ort.Tensor('float32', values, [values.length]) });
  await session.release();
  return { q: Array.from(q?.data as Uint8Array), x: Array.from(y?.data as Float32Array) };
}

describe('quantizeValue and dequantizeValue compute what ONNX Runtime computes', () => {
  const random = new Random(11);
  it.each([
    ['a power of two: every half is exact', 0.25, 7, 'uint8'],
    ['affine', affineFromRange(-1.3, 2.9, uint8).scale, 79, 'uint8'],
    ['symmetric', affineFromRange(-3.1, 2.9, int8).scale, 0, 'int8'],
    ['tiny', 3e-30, 0, 'int8'],
    ['large', 12345.678, 200, 'uint8'],
  ] as const)('%s', async (_what, scale, zeroPoint, dtype) => {
    const single = Math.fround(scale);
    const [qmin, qmax] = dtype === 'uint8' ? [0, 255] : [-128, 127];
    const values = Float32Array.from({ length: 4000 }, (_, i) => {
      // A third exactly between two integers, a third right beside, a third anywhere and beyond the ends.
      const middle = (random.below(400) - 200 + 0.5) * single;
      return i % 3 === 0 ? middle : i % 3 === 1 ? middle * (1 + (random.below(5) - 2) * 2 ** -23) : random.normal() * 150 * single;
    });
    const params = { scale: single, zeroPoint };
    const wanted = await runtime(values, single, zeroPoint, dtype);
    const q = Array.from(values, (x) => quantizeValue(x, params, qmin, qmax));
    expect(q.map((v) => v + 0)).toEqual(wanted.q);
    expect(q.map((v) => dequantizeValue(v, params) + 0)).toEqual(wanted.x.map((v) => v + 0));
  });
});
