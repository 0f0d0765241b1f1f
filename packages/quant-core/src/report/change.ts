import { judgeChange } from '../evaluate/paired.js';
import type { PairedChange, Report } from './schema.js';

/** Losses from here on are not small: points for proportions, share of the float value otherwise. */
export const lossLimits = { fraction: { inspect: 0.5, refuse: 2 }, value: { inspect: 0.01, refuse: 0.1 } };

/** Loss in the unit of `lossLimits`; positive is a loss. */
export function lossOf(change: number, { metric, float }: Pick<Report, 'metric' | 'float'>): number {
  return metric.unit === 'fraction' ? -change : -change / Math.max(Math.abs(float.value), 1e-12);
}

/**
 * What a change is, in the words that every part of a report uses. What cannot be told from chance is called noise only where the interval
 * is narrow; a wide one says that the samples are too few.
 */
export function changeWords(change: Pick<PairedChange, 'points' | 'ci95'>, report: Pick<Report, 'metric' | 'float'>): string {
  const judged = judgeChange(change);
  if (judged === 'loss') return 'a real loss';
  if (judged === 'gain') return 'a real gain';
  if (judged === 'none') return 'no difference';
  const widest = Math.max(...change.ci95.map((end) => Math.abs(lossOf(end, report))));
  return widest <= lossLimits[report.metric.unit].refuse ? 'noise, not a difference' : 'too few samples to tell it from chance';
}
