import type { MetricName } from '../choices.js';
import { OctetError } from '../errors.js';
import type { PairedChange } from '../report/schema.js';
import { measureOf, metricFacts } from './metrics.js';
import type { Outputs } from './outputs.js';
import { bootstrapInterval, holding, mcnemarExact, pairedProportionInterval } from './statistics.js';

/**
 * Float against a candidate on the same samples. `points` is positive when the candidate is better, whatever the
 * direction of the metric: hundredths for proportions, metric units otherwise.
 * Proportions: 2×2 table, exact McNemar p, and an interval that leaves out 0 only where p < 0.05. Others: paired bootstrap of the
 * difference, widened to hold the difference that was measured.
 */
export function pairedChange(name: MetricName, float: Outputs, candidate: Outputs, seed: number): PairedChange {
  const n = float.samples;
  if (candidate.samples !== n) throw new OctetError('INTERNAL', `${n} float samples cannot be paired with ${candidate.samples}`);
  const before = measureOf(name, float);
  const after = measureOf(name, candidate);
  const { unit, higherIsBetter } = metricFacts[name];
  if (!before.right || !after.right) {
    const scale = (higherIsBetter ? 1 : -1) * (unit === 'fraction' ? 100 : 1);
    const change = (weights?: Uint16Array) => scale * (after.value(weights) - before.value(weights)) + 0;
    const points = change();
    return {
      points,
      ci95: holding(bootstrapInterval(n, change, seed, after.cost), points),
      mcnemarP: null,
      bothRight: 0,
      onlyFloat: 0,
      onlyInt8: 0,
      bothWrong: 0,
    };
  }
  let bothRight = 0;
  let onlyFloat = 0;
  let onlyInt8 = 0;
  for (let i = 0; i < n; i++) {
    const first = before.right[i] === 1;
    const second = after.right[i] === 1;
    if (first && second) bothRight++;
    else if (first) onlyFloat++;
    else if (second) onlyInt8++;
  }
  const [low, high] = pairedProportionInterval(onlyFloat, onlyInt8, n);
  return {
    points: n > 0 ? (100 * (onlyInt8 - onlyFloat)) / n : 0,
    ci95: [100 * low, 100 * high],
    mcnemarP: mcnemarExact(onlyFloat, onlyInt8),
    bothRight,
    onlyFloat,
    onlyInt8,
    bothWrong: n - bothRight - onlyFloat - onlyInt8,
  };
}

/** What a change is, beyond chance: `none` is no change at all, `unclear` one that chance may explain. */
export type ChangeJudgement = 'loss' | 'gain' | 'none' | 'unclear';

/**
 * The one judgement of a change that every text follows: it is a loss or a gain where its 95 % interval leaves out 0. McNemar's p, where
 * there is one, says the same (`pairedProportionInterval`).
 */
export function judgeChange({ points, ci95: [low, high] }: Pick<PairedChange, 'points' | 'ci95'>): ChangeJudgement {
  if (high < 0) return 'loss';
  if (low > 0) return 'gain';
  return points === 0 ? 'none' : 'unclear';
}

/** Whether a change can be told from chance. */
export function isReal(change: Pick<PairedChange, 'points' | 'ci95'>): boolean {
  const judged = judgeChange(change);
  return judged === 'loss' || judged === 'gain';
}

/** Share of PTQ's loss that training won back, `(QAT - PTQ) / (float - PTQ)`; null when PTQ lost nothing beyond chance. */
export function recoveredShare(ptq: PairedChange, qat: PairedChange): number | null {
  return judgeChange(ptq) === 'loss' ? (qat.points - ptq.points) / -ptq.points : null;
}
