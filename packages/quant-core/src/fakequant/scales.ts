import {
  type AffineParams,
  affineFromRange,
  dequantizeValue,
  type QuantGrid,
  quantizeValue,
  type Range,
  roundHalfEven,
} from '../tensor/affine.js';
import { stridesOf, Tensor } from '../tensor/tensor.js';
import type { ActivationGroup, ActivationPoint, WeightPoint } from './plan.js';

/** Scales and zero points of one weight: one entry for each channel, or one in all. */
export interface WeightScales {
  scale: Float32Array;
  zeroPoint: Int8Array;
}

/** Calls `visit(channel, start, length)` for every contiguous run of elements that belongs to one channel of `axis`. */
export function forEachChannelRun(
  shape: readonly number[],
  axis: number | undefined,
  visit: (channel: number, start: number, length: number) => void,
): void {
  const size = shape.reduce((a, b) => a * b, 1);
  if (axis === undefined) {
    visit(0, 0, size);
    return;
  }
  const run = stridesOf(shape)[axis] as number;
  const channels = shape[axis] as number;
  for (let start = 0, at = 0; start < size; start += run, at++) visit(at % channels, start, run);
}

/** Number of scales a weight of `shape` has. */
export const channelCount = (shape: readonly number[], axis: number | undefined): number =>
  axis === undefined ? 1 : (shape[axis] as number);

/** Rows that are looked at together where channels lie side by side: what stays in the cache while every channel takes its turn. */
const rowsAtOnce = 64;

/** Smallest and largest value of every channel of a weight. */
export interface ChannelRanges {
  min: ArrayLike<number>;
  max: ArrayLike<number>;
}

function channelRanges(data: Float32Array, shape: readonly number[], axis: number | undefined): ChannelRanges {
  const channels = channelCount(shape, axis);
  const min = new Float64Array(channels).fill(Number.POSITIVE_INFINITY);
  const max = new Float64Array(channels).fill(Number.NEGATIVE_INFINITY);
  const widen = (channel: number, start: number, end: number, stride: number) => {
    let low = min[channel] as number;
    let high = max[channel] as number;
    for (let i = start; i < end; i += stride) {
      const v = data[i] as number;
      if (v < low) low = v;
      if (v > high) high = v;
    }
    min[channel] = low;
    max[channel] = high;
  };
  if (axis !== undefined && axis === shape.length - 1) {
    // Channels side by side, as in the weights of a MatMul: runs of one element would cost a call each.
    const block = rowsAtOnce * channels;
    for (let start = 0; start < data.length; start += block) {
      const end = Math.min(data.length, start + block);
      for (let channel = 0; channel < channels; channel++) widen(channel, start + channel, end, channels);
    }
  } else forEachChannelRun(shape, axis, (channel, start, length) => widen(channel, start, start + length, 1));
  return { min, max };
}

/**
 * Where the range of a weight comes from, other than from all of its values: for each channel the share of its range that is kept
 * (1 = all of it), or a scale (and zero point) that was found before.
 */
export type WeightRange = { share: Float32Array } | { scale: Float32Array; zeroPoint?: Int8Array };

/** The one way weights get their scales: during training, for PTQ and at conversion. `found` are the ranges of the channels, where they are known. */
export function weightScales(
  data: Float32Array,
  shape: readonly number[],
  point: Pick<WeightPoint, 'grid' | 'axis'>,
  range?: WeightRange,
  found?: ChannelRanges,
): WeightScales {
  if (range && 'scale' in range) return { scale: range.scale, zeroPoint: range.zeroPoint ?? new Int8Array(range.scale.length) };
  const { min, max } = found ?? channelRanges(data, shape, point.axis);
  const scale = new Float32Array(min.length);
  const zeroPoint = new Int8Array(min.length);
  for (let channel = 0; channel < min.length; channel++) {
    const share = range?.share[channel] ?? 1;
    const params = affineFromRange((min[channel] as number) * share, (max[channel] as number) * share, point.grid);
    scale[channel] = params.scale;
    zeroPoint[channel] = params.zeroPoint;
  }
  return { scale, zeroPoint };
}

/** Quantize a weight to the integers that are stored. */
export function quantizeWeight(tensor: Tensor<'float32'>, point: Pick<WeightPoint, 'grid' | 'axis'>, scales: WeightScales): Int8Array {
  const out = new Int8Array(tensor.size);
  forEachChannelRun(tensor.shape, point.axis, (channel, start, length) => {
    const params = { scale: scales.scale[channel] as number, zeroPoint: scales.zeroPoint[channel] as number };
    for (let i = start; i < start + length; i++) out[i] = quantizeValue(tensor.data[i] as number, params, point.grid.qmin, point.grid.qmax);
  });
  return out;
}

/** Largest magnitude of a stored bias. */
export const int32Max = 2 ** 31 - 1;

/** A bias as int32, with the scales `s_in · s_w` of its channels (one in all where the weight has one). */
export function quantizeBias(
  bias: Tensor<'float32'>,
  inputScale: number,
  weight: WeightScales,
): { integers: Int32Array; scale: Float32Array } {
  const scale = Float32Array.from(weight.scale, (s) => s * inputScale);
  const integers = Int32Array.from(bias.data, (value, channel) => {
    const q = roundHalfEven(value / (scale[scale.length === 1 ? 0 : channel] as number));
    return Math.max(-int32Max, Math.min(int32Max, q));
  });
  return { integers, scale };
}

/** The bias that the int8 model adds. */
export function roundedBias(bias: Tensor<'float32'>, inputScale: number, weight: WeightScales): Tensor<'float32'> {
  const { integers, scale } = quantizeBias(bias, inputScale, weight);
  return Tensor.float32(
    bias.shape,
    Float32Array.from(integers, (q, channel) => q * (scale[scale.length === 1 ? 0 : channel] as number)),
  );
}

/**
 * The share of each channel's range that gives the least squared rounding error (grid search in steps of 1/50 down to 0.3).
 * Worth it below 8 bits, where the range decides between clipping and coarse steps.
 */
export function bestWeightClip(tensor: Tensor<'float32'>, point: Pick<WeightPoint, 'grid' | 'axis'>): Float32Array {
  const channels = channelCount(tensor.shape, point.axis);
  const best = new Float32Array(channels).fill(1);
  const least = new Float64Array(channels).fill(Number.POSITIVE_INFINITY);
  for (let step = 0; step <= 35; step++) {
    const share = 1 - step / 50;
    const scales = weightScales(tensor.data, tensor.shape, point, { share: new Float32Array(channels).fill(share) });
    const error = new Float64Array(channels);
    forEachChannelRun(tensor.shape, point.axis, (channel, start, length) => {
      const params = { scale: scales.scale[channel] as number, zeroPoint: scales.zeroPoint[channel] as number };
      let sum = 0;
      for (let i = start; i < start + length; i++) {
        const x = tensor.data[i] as number;
        const d = x - dequantizeValue(quantizeValue(x, params, point.grid.qmin, point.grid.qmax), params);
        sum += d * d;
      }
      error[channel] = (error[channel] as number) + sum;
    });
    for (let channel = 0; channel < channels; channel++) {
      if ((error[channel] as number) < (least[channel] as number)) {
        least[channel] = error[channel] as number;
        best[channel] = share;
      }
    }
  }
  return best;
}

/** Scale and zero point of every activation group, from the ranges of its points. */
export function activationParams(
  groups: readonly ActivationGroup[],
  points: readonly ActivationPoint[],
  ranges: ReadonlyMap<string, Range>,
): AffineParams[] {
  return groups.map((group, index) => {
    if (group.fixed) return group.fixed;
    let min = 0;
    let max = 0;
    for (const point of points) {
      const range = point.group === index ? ranges.get(point.value) : undefined;
      if (range) {
        min = Math.min(min, range.min);
        max = Math.max(max, range.max);
      }
    }
    return affineFromRange(min, max, group.grid);
  });
}

/** The real values at the two ends of a grid: what lies between them passes the straight-through estimator. */
export function gridEnds(params: AffineParams, grid: QuantGrid): Range {
  return {
    min: Math.fround((grid.qmin - params.zeroPoint) * params.scale),
    max: Math.fround((grid.qmax - params.zeroPoint) * params.scale),
  };
}
