import { describe, expect, it } from 'vitest';
import type { TaskName } from '../choices.js';
import type { Batch } from '../data/dataset.js';
import { defaultRecipe } from '../recipe.js';
import type { Augmentation } from '../tasks/augmentation.js';
import { lossFeeds } from '../tasks/loss.js';
import type { LossKind } from '../tasks/task.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { augmented } from './augment.js';
import { type BatchFeedSpec, shardFeeds } from './batch.js';

const off = defaultRecipe().training.augment;
const having = (settings: Partial<Augmentation>): Augmentation => ({ ...off, ...settings });
const dataOf = (batch: Batch) => Array.from(batch.x.as('float32').data);

/** A batch of `count` images, in which every value is another. */
function ramp(count: number, sample: readonly number[]): Batch {
  const shape = [count, ...sample];
  const size = shape.reduce((a, b) => a * b, 1);
  return {
    x: Tensor.float32(
      shape,
      Float32Array.from({ length: size }, (_, i) => i + 1),
    ),
    labels: Int32Array.from({ length: count }, (_, i) => i % 3),
  };
}

const all = having({ flip: true, shift: 2, padding: 'reflect', brightness: 0.3, contrast: 0.4, mixup: 0.5 });

describe('what is drawn', () => {
  it('leaves the batch alone when everything is off', () => {
    const batch = ramp(4, [3, 5, 6]);
    expect(augmented(batch, off, 0, 0)).toBe(batch);
  });

  it('depends on seed and step alone', () => {
    const once = augmented(ramp(8, [3, 5, 6]), all, 7, 12);
    expect(augmented(ramp(8, [3, 5, 6]), all, 7, 12)).toEqual(once);
    expect(dataOf(augmented(ramp(8, [3, 5, 6]), all, 7, 13))).not.toEqual(dataOf(once));
    expect(dataOf(augmented(ramp(8, [3, 5, 6]), all, 8, 12))).not.toEqual(dataOf(once));
  });

  it('does not touch what it is given, and stays finite and in range', () => {
    const batch = ramp(8, [3, 5, 6]);
    const before = dataOf(batch);
    for (let step = 0; step < 50; step++) {
      const { x, mix } = augmented(batch, all, 1, step);
      expect(x.shape).toEqual(batch.x.shape);
      expect(Array.from(x.as('float32').data).every((v) => Number.isFinite(v) && v >= 0 && v <= 720)).toBe(true);
      expect(mix?.share).toBeGreaterThanOrEqual(0);
      expect(mix?.share).toBeLessThanOrEqual(1);
    }
    expect(dataOf(batch)).toEqual(before);
  });

  it('random numbers for a step do not come from another purpose', () => {
    expect(Random.for(0, 'augmentation of step 0').next()).not.toBe(Random.for(0, 'augmentation of step 1').next());
  });
});

/** All versions of a single image that 200 steps give. */
function versions(sample: readonly number[], settings: Partial<Augmentation>): string[] {
  const seen = Array.from({ length: 200 }, (_, step) => dataOf(augmented(ramp(1, sample), having(settings), 3, step)).join(' '));
  return [...new Set(seen)].sort();
}

describe('flip and shift', () => {
  it('mirrors in either layout, whole pixels at a time', () => {
    expect(versions([1, 2, 3], { flip: true })).toEqual(['1 2 3 4 5 6', '3 2 1 6 5 4']);
    // [h, w, c]: five rows would be channels otherwise.
    expect(versions([5, 2, 2], { flip: true })[1]?.slice(0, 7)).toBe('3 4 1 2');
    expect(versions([2, 1, 3], { flip: true })[0]).toBe('1 2 3 4 5 6');
  });

  it.each([
    ['zero', ['0 0 0', '0 0 1', '0 1 2', '1 2 3', '2 3 0', '3 0 0']],
    ['edge', ['1 1 1', '1 1 2', '1 2 3', '2 3 3', '3 3 3']],
    ['reflect', ['1 2 3', '2 1 2', '2 3 2', '3 2 1']],
  ] as const)('pads with %s', (padding, wanted) => {
    // Of a single row no shift down can be seen but by zeros.
    const seen = versions([1, 1, 3], { shift: 2, padding });
    if (padding === 'zero') expect(seen).toEqual(wanted);
    else expect(new Set(seen)).toEqual(new Set(wanted));
  });

  it('moves by every distance in both directions', () => {
    const image = (data: string) => data.split(' ').map(Number);
    const moved = versions([1, 5, 5], { shift: 1 });
    expect(moved).toHaveLength(9);
    const places = moved.map((data) => image(data).indexOf(13)).sort((a, b) => a - b);
    expect(places).toEqual([6, 7, 8, 11, 12, 13, 16, 17, 18]);
  });
});

describe('contrast and brightness', () => {
  const batch = (): Batch => ({ x: Tensor.float32([2, 1, 1, 3], Float32Array.of(4, 5, 6, 0, 5, 10)) });
  it('moves values away from the mean of their image, or towards it', () => {
    for (let step = 0; step < 20; step++) {
      const [a, b, c] = dataOf(augmented(batch(), having({ contrast: 0.5 }), 0, step)) as [number, number, number];
      expect(b).toBeCloseTo(5, 5);
      expect(c - b).toBeCloseTo(b - a, 5);
      expect(c - b).toBeGreaterThanOrEqual(0.5);
      expect(c - b).toBeLessThanOrEqual(1.5);
    }
  });

  it('adds a share of the range, and keeps within the range of the batch', () => {
    const seen = Array.from({ length: 50 }, (_, step) => dataOf(augmented(batch(), having({ brightness: 0.5 }), 0, step)));
    for (const [a, b, c, ...rest] of seen as [number, number, number, ...number[]][]) {
      expect(c - b).toBeCloseTo(1, 5);
      expect(b - a).toBeCloseTo(1, 5);
      expect(Math.abs(b - 5)).toBeLessThanOrEqual(1);
      expect(Math.min(...rest)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...rest)).toBeLessThanOrEqual(10);
    }
    expect(new Set(seen.map(String)).size).toBe(50);
  });
});

describe('mixup', () => {
  const classes = 3;
  const spec = (task: TaskName, kind: LossKind, width: number): BatchFeedSpec => ({
    input: 'x',
    loss: { terms: [{ output: 'y', kind, axis: kind === 'cross_entropy' ? 1 : null, distillationWeight: 0, weight: 1 }], temperature: 1 },
    heads: [{ name: 'y', width, layout: { outer: 1, classes: width, inner: 1 }, row: [width] }],
    task,
  });
  const targetsOf = (...args: Parameters<typeof shardFeeds>) =>
    shardFeeds(...args).flatMap((feeds) => Array.from(feeds[lossFeeds.target]?.data as Float32Array));

  it('mixes samples and one-hot labels in the same share, over the parts of a batch', () => {
    const batch = ramp(8, [1, 2, 2]);
    const result = augmented(batch, having({ mixup: 1 }), 5, 3);
    const { partner, share } = result.mix!;
    expect(Array.from(partner).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const plain = dataOf(batch);
    dataOf(result).forEach((value, i) => {
      const other = plain[(partner[i >> 2] as number) * 4 + (i % 4)] as number;
      expect(value).toBeCloseTo(share * (plain[i] as number) + (1 - share) * other, 4);
    });
    const targets = targetsOf(spec('classification', 'cross_entropy', classes), result, [], 2);
    const labels = batch.labels as Int32Array;
    for (let row = 0; row < 8; row++) {
      const wanted = [0, 0, 0];
      (wanted[labels[row] as number] as number) += share;
      (wanted[labels[partner[row] as number] as number] as number) += 1 - share;
      for (const [c, value] of wanted.entries()) expect(targets[row * classes + c]).toBeCloseTo(value, 6);
    }
  });

  it.each([
    ['regression', 'mse'],
    ['soft_classification', 'cross_entropy'],
    ['multi_label', 'binary_cross_entropy'],
  ] as const)('mixes rows of %s likewise', (task, kind) => {
    const values = Tensor.float32([8, 2], Float32Array.of(0, 1, 1, 0, 0.5, 0.5, 1, 0, 0, 1, 0, 1, 0.25, 0.75, 1, 0));
    const result = augmented({ x: ramp(8, [1, 2, 2]).x, values }, having({ mixup: 0.4 }), 2, 9);
    const { partner, share } = result.mix!;
    const mixed = targetsOf(spec(task, kind, 2), result, [], 2);
    expect(mixed).toHaveLength(16);
    values.data.forEach((value, i) => {
      expect(mixed[i]).toBeCloseTo(share * value + (1 - share) * (values.data[(partner[i >> 1] as number) * 2 + (i % 2)] as number), 5);
    });
  });

  it.each([0.2, 1, 3])('draws shares from Beta(%d, %d)', (alpha) => {
    const batch = ramp(2, [1, 1, 1]);
    const shares = Array.from({ length: 4000 }, (_, step) => augmented(batch, having({ mixup: alpha }), 0, step).mix?.share as number);
    const mean = shares.reduce((a, b) => a + b) / shares.length;
    const variance = shares.reduce((a, b) => a + (b - mean) ** 2, 0) / shares.length;
    expect(mean).toBeCloseTo(0.5, 1);
    expect(variance / (1 / (4 * (2 * alpha + 1)))).toBeGreaterThan(0.9);
    expect(variance / (1 / (4 * (2 * alpha + 1)))).toBeLessThan(1.1);
  });
});
