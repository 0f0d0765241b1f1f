import type { MetricName } from '../choices.js';
import { OctetError } from '../errors.js';
import type { PairedChange } from '../report/schema.js';
import { measureOf, metricFacts } from './metrics.js';
import type { Outputs } from './outputs.js';
import { bootstrapInterval, mcnemarExact, pairedProportionInterval } from './statistics.js';

/**
 * Float against a candidate on the same samples. `points` is positive when the candidate is better, whatever the
 * direction of the metric: hundredths for proportions, metric units otherwise.
 * Proportions: 2×2 table, exact McNemar p, Agresti-Min interval. Others: paired bootstrap of the difference.
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
    return {
      points: change(),
      ci95: bootstrapInterval(n, change, seed, after.cost),
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

/**
 * Whether a change can be told from chance: its 95 % interval leaves out 0 and, where there is one, McNemar's p is below 0.05.
 * Everything else is called noise.
 */
export function isReal(change: PairedChange): boolean {
  const leavesOutZero = change.ci95[0] > 0 || change.ci95[1] < 0;
  return leavesOutZero && (change.mcnemarP === null || change.mcnemarP < 0.05);
}

/** Share of PTQ's loss that training won back, `(QAT - PTQ) / (float - PTQ)`; null when PTQ lost nothing beyond chance. */
export function recoveredShare(ptq: PairedChange, qat: PairedChange): number | null {
  return isReal(ptq) && ptq.points < 0 ? (qat.points - ptq.points) / -ptq.points : null;
}
