import type { Recipe } from '../recipe.js';
import { affineFromRange, dequantizeValue, type QuantGrid, quantizeValue, type Range } from '../tensor/affine.js';

/** Watches the values of one activation, batch by batch, and says which range to quantize. */
export interface RangeObserver {
  /** Whether the values are looked at, or their range alone. */
  readonly wantsValues: boolean;
  /** Take in a batch: some of its values, in parts, and the range of all of them. */
  observe(values: readonly Float32Array[], batch: Range): void;
  range(grid: QuantGrid): Range;
}

/** Range of everything seen. */
class MinMaxObserver implements RangeObserver {
  readonly wantsValues = false;
  private seen: Range = { min: 0, max: 0 };

  observe(_values: readonly Float32Array[], { min, max }: Range): void {
    this.seen = { min: Math.min(this.seen.min, min), max: Math.max(this.seen.max, max) };
  }

  range(): Range {
    return this.seen;
  }
}

/** Share of a new batch in the moving average of a range, as in PyTorch's fused observers. */
export const averagingConstant = 0.01;

/** The range of a batch as it is averaged: with 0, which every grid holds, so that no end crosses it. */
export const withZero = (batch: Range): Range => ({ min: Math.min(batch.min, 0), max: Math.max(batch.max, 0) });

/** `r ← r + c·(batch - r)`; the first batches count fully (c = 1/n until it reaches the averaging constant). */
export class MovingAverage {
  private batches = 0;
  value: Range = { min: 0, max: 0 };

  update(batch: Range): void {
    this.batches++;
    const c = Math.max(1 / this.batches, averagingConstant);
    const { min, max } = withZero(batch);
    this.value = { min: this.value.min + c * (min - this.value.min), max: this.value.max + c * (max - this.value.max) };
  }
}

class MovingAverageObserver implements RangeObserver {
  readonly wantsValues = false;
  private readonly average = new MovingAverage();

  observe(_values: readonly Float32Array[], batch: Range): void {
    this.average.update(batch);
  }

  range(): Range {
    return this.average.value;
  }
}

const binCount = 2048;

/**
 * Counts over equal bins symmetric around 0. When a value falls outside, the width doubles and neighbouring bins are merged,
 * so that one pass suffices and the result does not depend on the order of batches beyond their maximum.
 */
export class Histogram {
  readonly counts = new Float64Array(2 * binCount);
  /** Bins cover `-limit … limit`. */
  limit = 2 ** -40;
  total = 0;
  seen: Range = { min: 0, max: 0 };

  /** Count `values`, which lie in the range given; it may be that of more values than are counted. */
  add(values: Float32Array, { min, max }: Range): void {
    this.seen = { min: Math.min(this.seen.min, min), max: Math.max(this.seen.max, max) };
    while (Math.max(-min, max) >= this.limit) this.widen();
    const perUnit = binCount / this.limit;
    const { counts } = this;
    for (let i = 0; i < values.length; i++) {
      const bin = Math.floor((values[i] as number) * perUnit) + binCount;
      counts[bin] = (counts[bin] as number) + 1;
    }
    this.total += values.length;
  }

  private widen(): void {
    const { counts } = this;
    const merged = new Float64Array(2 * binCount);
    for (let bin = 0; bin < 2 * binCount; bin++) {
      const to = Math.floor((bin - binCount) / 2) + binCount;
      merged[to] = (merged[to] as number) + (counts[bin] as number);
    }
    counts.set(merged);
    this.limit *= 2;
  }

  /** Lower end of a bin as a real value. */
  edge(bin: number): number {
    return ((bin - binCount) * this.limit) / binCount;
  }

  /** Middle of a bin as a real value. */
  centre(bin: number): number {
    return this.edge(bin + 0.5);
  }

  /** Bins that hold anything, as [first, last]. */
  occupied(): [number, number] {
    let first = 0;
    let last = this.counts.length - 1;
    while (first < last && !this.counts[first]) first++;
    while (last > first && !this.counts[last]) last--;
    return [first, last];
  }

  /** All bins that hold anything, in their order. */
  distribution(): Distribution {
    const bins = Array.from(this.counts.keys()).filter((bin) => this.counts[bin]);
    return {
      centre: Float64Array.from(bins, (bin) => this.centre(bin)),
      count: Float64Array.from(bins, (bin) => this.counts[bin] as number),
    };
  }
}

/** Bins that hold anything: the middle of each, and how much it holds. */
interface Distribution {
  centre: Float64Array;
  count: Float64Array;
}

/** Expected squared error of quantizing a distribution with a range; any number from `enough` on where it is no less than that. */
function squaredError({ centre, count }: Distribution, range: Range, grid: QuantGrid, enough = Number.POSITIVE_INFINITY): number {
  const params = affineFromRange(range.min, range.max, grid);
  let sum = 0;
  for (let bin = 0; bin < centre.length && sum < enough; bin++) {
    const x = centre[bin] as number;
    const d = x - dequantizeValue(quantizeValue(x, params, grid.qmin, grid.qmax), params);
    sum += (count[bin] as number) * d * d;
  }
  return sum;
}

/** Counts a part of the values of every batch; what range follows from the counts is left open. */
abstract class DistributionObserver implements RangeObserver {
  readonly wantsValues = true;
  protected readonly histogram = new Histogram();

  observe(values: readonly Float32Array[], batch: Range): void {
    for (const part of values) this.histogram.add(part, batch);
  }

  abstract range(grid: QuantGrid): Range;
}

/** The range with the least squared error: each side shrunk in steps of 1/64 in turn. */
class HistogramObserver extends DistributionObserver {
  range(grid: QuantGrid): Range {
    const distribution = this.histogram.distribution();
    let best = this.histogram.seen;
    let least = squaredError(distribution, best, grid);
    for (const side of ['max', 'min', 'max'] as const) {
      const whole = this.histogram.seen[side];
      if (whole === 0) continue;
      for (let step = 1; step < 56; step++) {
        const candidate = { ...best, [side]: whole * (1 - step / 64) };
        const error = squaredError(distribution, candidate, grid, least);
        if (error < least) {
          least = error;
          best = candidate;
        }
      }
    }
    return best;
  }
}

/** Cuts off `100 - percentile` per cent of the values, shared by both ends. */
class PercentileObserver extends DistributionObserver {
  constructor(private readonly percentile: number) {
    super();
  }

  range(): Range {
    const { histogram } = this;
    const oneSided = histogram.seen.min >= 0 || histogram.seen.max <= 0;
    const cut = histogram.total * (1 - this.percentile / 100) * (oneSided ? 1 : 0.5);
    const cutFrom = (from: number, direction: 1 | -1) => {
      let left = cut;
      let bin = from;
      while (left >= (histogram.counts[bin] as number) && bin + direction >= 0 && bin + direction < histogram.counts.length) {
        left -= histogram.counts[bin] as number;
        bin += direction;
      }
      return histogram.edge(direction > 0 ? bin : bin + 1);
    };
    const [first, last] = histogram.occupied();
    return {
      min: histogram.seen.min >= 0 ? 0 : Math.max(histogram.seen.min, Math.min(0, cutFrom(first, 1))),
      max: histogram.seen.max <= 0 ? 0 : Math.min(histogram.seen.max, Math.max(0, cutFrom(last, -1))),
    };
  }
}

/**
 * The threshold whose quantized distribution is closest to the original in Kullback-Leibler divergence
 * (Migacz, "8-bit inference with TensorRT", 2017), over |x|.
 */
class EntropyObserver extends DistributionObserver {
  range(grid: QuantGrid): Range {
    const { histogram } = this;
    const oneSided = histogram.seen.min >= 0 || histogram.seen.max <= 0;
    const levels = oneSided ? grid.qmax - grid.qmin + 1 : Math.ceil((grid.qmax - grid.qmin + 1) / 2);
    const magnitude = new Float64Array(binCount);
    for (let bin = 0; bin < binCount; bin++)
      magnitude[bin] = (histogram.counts[binCount + bin] as number) + (histogram.counts[binCount - 1 - bin] as number);
    let bestBins = binCount;
    let least = Number.POSITIVE_INFINITY;
    for (let bins = Math.max(levels, 64); bins <= binCount; bins += 16) {
      const divergence = divergenceOf(magnitude, bins, levels);
      if (divergence < least) {
        least = divergence;
        bestBins = bins;
      }
    }
    const threshold = (bestBins * histogram.limit) / binCount;
    return { min: Math.max(histogram.seen.min, -threshold), max: Math.min(histogram.seen.max, threshold) };
  }
}

/** KL divergence of the first `bins` bins (the rest added to the last) from their rendering in `levels` steps. */
function divergenceOf(counts: Float64Array, bins: number, levels: number): number {
  let outside = 0;
  for (let bin = bins; bin < counts.length; bin++) outside += counts[bin] as number;
  const reference = counts.slice(0, bins);
  reference[bins - 1] = (reference[bins - 1] as number) + outside;
  const rendered = new Float64Array(bins);
  for (let level = 0; level < levels; level++) {
    const start = Math.floor((level * bins) / levels);
    const end = Math.floor(((level + 1) * bins) / levels);
    let sum = 0;
    let occupied = 0;
    for (let bin = start; bin < end; bin++) {
      sum += counts[bin] as number;
      if (counts[bin]) occupied++;
    }
    for (let bin = start; bin < end; bin++) if (counts[bin]) rendered[bin] = sum / occupied;
  }
  const p = reference.reduce((a, v) => a + v, 0);
  const q = rendered.reduce((a, v) => a + v, 0);
  if (!p || !q) return Number.POSITIVE_INFINITY;
  let divergence = 0;
  for (let bin = 0; bin < bins; bin++) {
    const mass = (reference[bin] as number) / p;
    // A bin that only clipped values fill has no counterpart: smoothed, as KL would be infinite.
    if (mass > 0) divergence += mass * Math.log(mass / Math.max((rendered[bin] as number) / q, 1e-9));
  }
  return divergence;
}

/** The observer a recipe asks for. */
export function createObserver(recipe: Recipe): RangeObserver {
  switch (recipe.calibration.observer) {
    case 'minmax':
      return new MinMaxObserver();
    case 'moving_average_minmax':
      return new MovingAverageObserver();
    case 'histogram':
      return new HistogramObserver();
    case 'percentile':
      return new PercentileObserver(recipe.calibration.percentile);
    case 'entropy':
      return new EntropyObserver();
  }
}
