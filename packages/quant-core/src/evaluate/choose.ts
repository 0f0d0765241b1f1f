import type { MetricName } from '../choices.js';
import { measureOf, metricFacts } from './metrics.js';
import { type ModelOutputs, meanLoss } from './outputs.js';

/** A candidate's figures on the held-out split of the training data. */
export interface HoldoutFigures {
  metric: number;
  /** Mean loss, which decides between equal metrics; NaN where there is none. */
  loss: number;
}

export interface Choice {
  from: 'ptq' | 'qat';
  why: string;
}

/**
 * Figures of a candidate on the holdout. The loss is that of the labels; without labels it is how far its outputs are from the float model's, in
 * squares of their spread, all outputs weighing the same.
 */
export function holdoutFigures(name: MetricName, candidate: ModelOutputs): HoldoutFigures {
  const [first] = candidate;
  const distances = candidate.map((outputs) => measureOf('relative_error', outputs).value() ** 2);
  const loss = first.losses ? meanLoss(first) : distances.reduce((a, b) => a + b, 0) / distances.length;
  return { metric: measureOf(name, first).value(), loss };
}

/** A proportion and the number of samples it was measured on. */
export interface Measured {
  metric: number;
  samples: number;
}

/** Share of what the float model remembers that training forgets (measured: docs/decisions/0006). */
const forgotten = 1 / 6;

/**
 * The advantage that PTQ may have from a float model that was trained on the held-out samples: that model has learned them, and QAT, which does not
 * train on them, forgets some of that without being worse on new ones. A sixth of what the float model has more on the
 * held-out split than on the evaluation set; 0 where chance explains that (two proportions, 99 %).
 */
export function memoryAllowance(name: MetricName, holdout: Measured, evaluation: Measured): number {
  if (name !== 'top1' && name !== 'top5') return 0;
  const variance = ({ metric, samples }: Measured) => (metric * (1 - metric)) / samples;
  const gap = holdout.metric - evaluation.metric;
  return gap > 2.576 * Math.sqrt(variance(holdout) + variance(evaluation)) ? forgotten * gap : 0;
}

/** How to write two figures: with as many digits as it takes to tell them apart, where they differ. */
function apart(a: number, b: number, text: (value: number, digits: number) => string): (value: number) => string {
  let digits = 2;
  while (a !== b && digits < 12 && text(a, digits) === text(b, digits)) digits++;
  return (value) => text(value, digits);
}

/**
 * PTQ or QAT, decided on the held-out split and never on how the two do on the evaluation set: the better metric wins, PTQ only when it
 * is better by more than `allowance`; between equal metrics the lower loss, and when both are equal the untrained model, which
 * changes less.
 */
export function chooseBetter(name: MetricName, ptq: HoldoutFigures, qat: HoldoutFigures | null, allowance = 0): Choice {
  if (!qat) return { from: 'ptq', why: 'The method is PTQ: nothing was trained.' };
  const { higherIsBetter, label, unit } = metricFacts[name];
  const show = apart(ptq.metric, qat.metric, (value, digits) =>
    unit === 'fraction' ? `${(100 * value).toFixed(digits)} %` : value.toPrecision(digits + 3),
  );
  const showLoss = apart(ptq.loss, qat.loss, (value, digits) => value.toPrecision(digits + 2));
  const [a, b] = higherIsBetter ? [qat.metric, ptq.metric] : [ptq.metric, qat.metric];
  if (Number.isNaN(qat.metric)) return { from: 'ptq', why: 'The outputs of the trained model are not finite on the held-out split.' };
  if (a > b)
    return { from: 'qat', why: `QAT has the better ${label} on the held-out split (${show(qat.metric)} against ${show(ptq.metric)}).` };
  if (a < b && b - a <= allowance)
    return {
      from: 'qat',
      why: `PTQ has the better ${label} on the held-out split (${show(ptq.metric)} against ${show(qat.metric)}), but the float model was trained on these samples (it does significantly better on them than on the evaluation set), and ${(100 * allowance).toFixed(2)} points of PTQ's lead may be memory.`,
    };
  if (a < b)
    return {
      from: 'ptq',
      why: `PTQ has the better ${label} on the held-out split (${show(ptq.metric)} against ${show(qat.metric)}); training did not help.`,
    };
  const same = `Both have the same ${label} on the held-out split (${show(ptq.metric)})`;
  if (qat.loss < ptq.loss)
    return { from: 'qat', why: `${same}; QAT has the lower loss (${showLoss(qat.loss)} against ${showLoss(ptq.loss)}).` };
  if (ptq.loss < qat.loss)
    return { from: 'ptq', why: `${same}; PTQ has the lower loss (${showLoss(ptq.loss)} against ${showLoss(qat.loss)}).` };
  return { from: 'ptq', why: `${same}; the untrained weights are kept.` };
}
