import { describe, expect, it } from 'vitest';
import { Random } from '../tensor/random.js';
import { chooseBetter, holdoutFigures, memoryAllowance } from './choose.js';
import { confusion, flips, perClass } from './classes.js';
import type { Outputs } from './outputs.js';
import { isReal, pairedChange, recoveredShare } from './paired.js';
import { parityIsBroken, parityOf } from './parity.js';
import { classOutputs, naming, only, valueOutputs } from './testing/outputs.js';

/** Float right for the first `right`, int8 right except `lost` of those, and `won` of the others. */
function pair(n: number, right: number, lost: number, won: number) {
  const labels = new Array<number>(n).fill(0);
  const float = naming(
    labels.map((_, i) => (i < right ? 0 : 1)),
    labels,
    2,
  );
  const int8 = naming(
    labels.map((_, i) => (i < right ? (i < lost ? 1 : 0) : i < right + won ? 0 : 1)),
    labels,
    2,
  );
  return { float, int8 };
}

describe('paired change of a proportion', () => {
  it('counts the four cells, and its figures are those of the published tables', () => {
    // Agresti, "Categorical Data Analysis", table 10.1: 794, 150, 86, 570
    const { float, int8 } = pair(1600, 944, 150, 86);
    const change = pairedChange('top1', float, int8, 0);
    expect(change).toMatchObject({ bothRight: 794, onlyFloat: 150, onlyInt8: 86, bothWrong: 570, points: -4 });
    expect(change.mcnemarP).toBeCloseTo(3.7159361395713866e-5, 12);
    expect(change.ci95[0]).toBeCloseTo(-5.868293572597246, 10);
    expect(change.ci95[1]).toBeCloseTo(-2.121718911797262, 10);
    expect(isReal(change)).toBe(true);
  });

  it('a handful of samples either way is noise', () => {
    const { float, int8 } = pair(1000, 915, 6, 3);
    expect(isReal(pairedChange('top1', float, int8, 0))).toBe(false);
  });

  it('samples that do not match are refused', () => {
    expect(() => pairedChange('top1', pair(4, 2, 0, 0).float, pair(5, 2, 0, 0).int8, 0)).toThrow('cannot be paired');
  });
});

describe('paired change of a value', () => {
  const random = new Random(3);
  const targets = Array.from({ length: 300 }, () => [random.normal()]);
  const float = valueOutputs(
    targets.map(([t]) => [t! + 0.1 * random.normal()]),
    targets,
  );

  it('is negative when errors grow, whatever the direction of the metric', () => {
    const worse = valueOutputs(
      targets.map(([t]) => [t! + 0.3 * random.normal()]),
      targets,
    );
    for (const metric of ['mae', 'rmse', 'r2'] as const) {
      const change = pairedChange(metric, float, worse, 0);
      expect(change.points).toBeLessThan(0);
      expect(change.ci95[1]).toBeLessThan(0);
      expect(change.mcnemarP).toBeNull();
      expect(isReal(change)).toBe(true);
    }
  });

  it('is exactly 0 against itself', () => {
    expect(pairedChange('rmse', float, float, 0)).toMatchObject({ points: 0, ci95: [0, 0] });
  });
});

it('recovered share of the loss of PTQ', () => {
  const change = (lost: number, won: number) => {
    const { float, int8 } = pair(1000, 900, lost, won);
    return pairedChange('top1', float, int8, 1);
  };
  expect(recoveredShare(change(40, 0), change(10, 0))).toBeCloseTo(0.75, 12);
  expect(recoveredShare(change(40, 0), change(50, 0))).toBeCloseTo(-0.25, 12);
  // A loss that chance explains, and a gain.
  expect(recoveredShare(change(2, 0), change(10, 0))).toBeNull();
  expect(recoveredShare(change(0, 40), change(10, 0))).toBeNull();
});

describe('classes', () => {
  const labels = [0, 0, 1, 1, 2];
  const float = naming([0, 0, 1, 2, 2], labels, 4);
  const int8 = naming([0, 1, 1, 1, 2], labels, 4);

  it('worst change first, classes without samples left out', () => {
    expect(perClass(float, int8, ['a', 'b', 'c', 'd'])).toEqual([
      { label: 0, name: 'a', samples: 2, float: 1, int8: 0.5, changePoints: -50 },
      { label: 2, name: 'c', samples: 1, float: 1, int8: 1, changePoints: 0 },
      { label: 1, name: 'b', samples: 2, float: 0.5, int8: 1, changePoints: 50 },
    ]);
  });

  it('confusion has the truth in rows', () => {
    expect(confusion(float, int8)).toEqual({
      labels: 4,
      float: [
        [2, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
      ],
      int8: [
        [1, 1, 0, 0],
        [0, 2, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
      ],
    });
  });
});

it('flips stand by margin lost, with the top three of both', () => {
  const rows = (shift: number) => [
    [2, 1, 0, -1],
    [0, 3 - shift, 0, 2.5 + shift],
    [1, 0.9, 0.2 + 8 * shift, 0],
  ];
  const found = flips(classOutputs(rows(0), [0, 1, 2]), classOutputs(rows(1), [0, 1, 2]));
  expect(found.map(({ index, truth }) => [index, truth])).toEqual([
    [2, 2],
    [1, 1],
  ]);
  expect(found[0]!.float.map(({ label }) => label)).toEqual([0, 1, 2]);
  expect(found[0]!.int8[0]!.label).toBe(2);
  expect(found[0]!.int8[0]!.confidence).toBeGreaterThan(0.99);
  expect(found[0]!.marginLost).toBeGreaterThan(found[1]!.marginLost);
  // Sample 1: p(1) - p(3) of both models, from the softmax of [0, 3, 0, 2.5] and [0, 2, 0, 3.5].
  const sum = (a: number, b: number) => 2 + Math.exp(a) + Math.exp(b);
  const margin = (a: number, b: number) => (Math.exp(a) - Math.exp(b)) / sum(a, b);
  expect(found[1]!.marginLost).toBeCloseTo(margin(3, 2.5) - margin(2, 3.5), 6);
});

describe('parity', () => {
  const parity = (simulate: (artifact: Outputs) => Outputs, artifact: Outputs, step: number | null = null) =>
    parityOf(only(simulate(artifact)), only(artifact), [step]);
  const classes = (rows: number[][]) => (artifact: Outputs) => classOutputs(rows, undefined, artifact);
  const values = (rows: number[][]) => (artifact: Outputs) => valueOutputs(rows, undefined, artifact);

  it('counts equal classes and the largest difference', () => {
    const artifact = classOutputs([
      [1, 0.25],
      [0.5, 0.25],
    ]);
    const found = parity(
      classes([
        [1, 0],
        [0, 1],
      ]),
      artifact,
    );
    expect(found).toMatchObject({ agreement: 0.5, top1Agreement: 0.5, maxAbsDifference: 0.75, samples: 2 });
  });

  it('a change of the class by one step is a tie that fell the other way', () => {
    const artifact = classOutputs([[0.5, 0.25]]);
    expect(parity(classes([[0.25, 0.5]]), artifact, 0.25)).toMatchObject({ agreement: 1, top1Agreement: 0, maxSteps: 1 });
    expect(parity(classes([[0.25, 0.5]]), artifact, 0.125)).toMatchObject({ agreement: 0, maxSteps: 2 });
  });

  it('values agree within two and a half steps, those of outputs that are not quantized within one hundredth of their range', () => {
    const artifact = valueOutputs([[0], [10], [5]]);
    const found = parity(values([[0.05], [10.2], [5]]), artifact);
    expect(found.agreement).toBeCloseTo(2 / 3, 12);
    expect(found.top1Agreement).toBeNull();
    expect(found.maxAbsDifference).toBeCloseTo(0.2, 5);
    expect(parity(values([[0.05], [10.2], [5]]), artifact, 0.1).agreement).toBe(1);
  });

  it('an artifact whose outputs are not finite differs without limit', () => {
    expect(parity(classes([[1, 0]]), classOutputs([[Number.NaN, 0]]))).toMatchObject({
      agreement: 0,
      top1Agreement: 0,
      maxAbsDifference: 1e18,
    });
  });
});

describe('broken parity', () => {
  it.each([
    [1, 100, false],
    [1, 500, false],
    [2, 100, true],
    [15, 10_000, false],
    [25, 10_000, true],
    [0, 0, false],
  ])('%d flips in %d samples: %s', (flips, samples, broken) => {
    expect(parityIsBroken({ agreement: samples ? 1 - flips / samples : 1, samples })).toBe(broken);
  });
});

describe('choice between PTQ and QAT', () => {
  const at = (metric: number, loss: number) => ({ metric, loss });

  it('the better metric wins, then the lower loss, then PTQ', () => {
    expect(chooseBetter('top1', at(0.9, 0.1), at(0.91, 0.5))).toEqual({
      from: 'qat',
      why: 'QAT has the better top-1 accuracy on the held-out split (91.00 % against 90.00 %).',
    });
    expect(chooseBetter('top1', at(0.91, 0.5), at(0.9, 0.1)).from).toBe('ptq');
    expect(chooseBetter('top1', at(0.9, 0.5), at(0.9, 0.4)).from).toBe('qat');
    expect(chooseBetter('top1', at(0.9, 0.4), at(0.9, 0.5)).from).toBe('ptq');
    expect(chooseBetter('top1', at(0.9, 0.4), at(0.9, 0.4)).from).toBe('ptq');
    expect(chooseBetter('top1', at(0.9, Number.NaN), at(0.9, Number.NaN)).from).toBe('ptq');
    expect(chooseBetter('mae', at(2, 1), at(1, 1)).from).toBe('qat');
    expect(chooseBetter('mae', at(1, 1), at(Number.NaN, 1)).from).toBe('ptq');
    expect(chooseBetter('top1', at(0.9, 0.4), null).from).toBe('ptq');
  });

  it('PTQ has to lead by more than it may owe to memory', () => {
    expect(chooseBetter('top1', at(0.94, 0.1), at(0.936, 0.2), 0.005)).toMatchObject({
      from: 'qat',
      why: expect.stringContaining('0.50 points'),
    });
    expect(chooseBetter('top1', at(0.94, 0.1), at(0.934, 0.2), 0.005).from).toBe('ptq');
    expect(chooseBetter('top1', at(0.94, 0.1), at(Number.NaN, 0.2), 0.005).from).toBe('ptq');
  });

  it('memory is a quarter of what float has more on the held-out split, unless chance explains it', () => {
    const of = (metric: number, samples: number) => ({ metric, samples });
    expect(memoryAllowance('top1', of(0.94, 6000), of(0.92, 10000))).toBeCloseTo(0.02 / 6, 6);
    expect(memoryAllowance('top1', of(0.94, 200), of(0.92, 10000))).toBe(0);
    expect(memoryAllowance('top1', of(0.9, 6000), of(0.92, 10000))).toBe(0);
    expect(memoryAllowance('mae', of(9, 6000), of(3, 10000))).toBe(0);
  });

  it('figures come from the outputs', () => {
    const outputs = naming([0, 1], [0, 0], 2);
    expect(holdoutFigures('top1', only(outputs))).toEqual({
      metric: 0.5,
      loss: expect.closeTo((Math.log1p(Math.exp(-2)) + Math.log1p(Math.exp(2))) / 2, 6),
    });
  });
});
