import { describe, expect, it } from 'vitest';
import { modelOutput } from '../tasks/testing/specs.js';
import { compareExpected, isNear, plainlyBetter, poorness } from './floatCheck.js';
import { classOutputs, collected, valueOutputs } from './testing/outputs.js';

/** 100 samples of ten classes, of which every `wrong`-th is named wrongly; `scale` makes the model sure. */
function classes(right: number, scale: number) {
  const truth = Array.from({ length: 100 }, (_, i) => i % 10);
  const rows = truth.map((label, i) =>
    Array.from({ length: 10 }, (_, c) => (c === (i < right ? label : (label + 1 + (i % 3)) % 10) ? scale : 0)),
  );
  return classOutputs(rows, truth);
}

describe('poorness', () => {
  it('of a classifier: near chance, or far below what its confidence promises', () => {
    expect(poorness(classes(12, 3))).toContain('hardly better than chance (12.00 % with 10 classes)');
    expect(poorness(classes(60, 9))).toMatch(/is right in 60\.00 % of the samples, where its own confidence promises 9\d/);
    expect(poorness(classes(60, 2.5))).toBeNull();
    expect(poorness(classes(95, 9))).toBeNull();
  });

  it('of values: worse than their mean', () => {
    const targets = Array.from({ length: 100 }, (_, i) => [Math.sin(i)]);
    const off = (by: number) =>
      valueOutputs(
        targets.map(([t]) => [(t as number) + by]),
        targets,
      );
    expect(poorness(off(3))).toContain('R²');
    expect(poorness(off(0.1))).toBeNull();
  });

  it('of answers and of positions: a loss above that of guessing', () => {
    const answers = Array.from({ length: 60 }, (_, i) => [i % 2, (i + 1) % 2]);
    const binary = (sign: number) =>
      collected(
        modelOutput('y', 'binary', [2]),
        'multi_label',
        answers.map((row) => row.map((one) => sign * (one ? 4 : -4))),
        { values: answers },
      );
    expect(poorness(binary(1))).toBeNull();
    expect(poorness(binary(-1))).toContain('more than answers of 50 % would have');
    const labels = Array.from({ length: 60 }, () => [0, 1, 2]);
    // [classes 3, positions 3]: class `named` of every position.
    const dense = (shift: number) =>
      collected(
        modelOutput('y', 'classes', [3, 3]),
        'dense_classification',
        labels.map((row) => [0, 1, 2].flatMap((c) => row.map((label) => (c === (label + shift) % 3 ? 5 : 0)))),
        { values: labels },
      );
    expect(poorness(dense(0))).toBeNull();
    expect(poorness(dense(1))).toContain('chance');
  });

  it('is not said of a handful of samples', () => {
    expect(poorness(classOutputs([[0, 9]], [0]))).toBeNull();
  });
});

describe('a stated value', () => {
  const at = (value: number, half: number) => ({ value, ci95: [value - half, value + half] as [number, number] });
  it('is compared with the interval, in the direction of the metric', () => {
    expect(compareExpected('top1', at(0.9, 0.02), 0.91)).toBe('as_expected');
    expect(compareExpected('top1', at(0.9, 0.02), 0.93)).toBe('worse');
    expect(compareExpected('top1', at(0.9, 0.02), 0.8)).toBe('better');
    expect(compareExpected('rmse', at(2, 0.1), 1)).toBe('worse');
    expect(compareExpected('rmse', at(2, 0.1), 3)).toBe('better');
  });
  it('is near where most of the way to it is made', () => {
    expect(isNear('top1', at(0.9, 0.005), 0.93, 0.1)).toBe(true);
    expect(isNear('top1', at(0.6, 0.005), 0.93, 0.1)).toBe(false);
  });
  it('plainly better is apart beyond chance, and by much', () => {
    expect(plainlyBetter('top1', at(0.1, 0.02), at(0.9, 0.02))).toBe(true);
    expect(plainlyBetter('top1', at(0.88, 0.005), at(0.9, 0.005))).toBe(false);
    expect(plainlyBetter('top1', at(0.5, 0.2), at(0.8, 0.2))).toBe(false);
    expect(plainlyBetter('mae', at(4, 0.2), at(1, 0.2))).toBe(true);
    expect(plainlyBetter('mae', at(1, 0.02), at(4, 0.02))).toBe(false);
  });
});
