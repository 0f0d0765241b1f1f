import { combineTerms, type MetricName, metricFacts, sampleTerms } from './metrics.js';
import { meanLoss, type Outputs } from './outputs.js';

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

/** Figures of `candidate` on the holdout; `float` are the float model's outputs on the same samples. */
export function holdoutFigures(name: MetricName, candidate: Outputs, float: Outputs): HoldoutFigures {
  return { metric: combineTerms(name, sampleTerms(name, candidate, float)), loss: meanLoss(candidate) };
}

/**
 * PTQ or QAT, decided on the held-out split and never on the evaluation set: the better metric wins, between equal
 * metrics the lower loss, and when both are equal the untrained model, which changes less.
 */
export function chooseBetter(name: MetricName, ptq: HoldoutFigures, qat: HoldoutFigures | null): Choice {
  if (!qat) return { from: 'ptq', why: 'The method is PTQ: nothing was trained.' };
  const { higherIsBetter, label, unit } = metricFacts[name];
  const show = (value: number) => (unit === 'fraction' ? `${(100 * value).toFixed(2)} %` : value.toPrecision(5));
  const [a, b] = higherIsBetter ? [qat.metric, ptq.metric] : [ptq.metric, qat.metric];
  if (Number.isNaN(qat.metric)) return { from: 'ptq', why: 'The trained model gives no numbers on the held-out split.' };
  if (a > b)
    return { from: 'qat', why: `QAT has the better ${label} on the held-out split (${show(qat.metric)} against ${show(ptq.metric)}).` };
  if (a < b)
    return {
      from: 'ptq',
      why: `PTQ has the better ${label} on the held-out split (${show(ptq.metric)} against ${show(qat.metric)}); training did not help.`,
    };
  const same = `Both have the same ${label} on the held-out split (${show(ptq.metric)})`;
  if (qat.loss < ptq.loss)
    return { from: 'qat', why: `${same}; QAT has the lower loss (${qat.loss.toPrecision(4)} against ${ptq.loss.toPrecision(4)}).` };
  if (ptq.loss < qat.loss)
    return { from: 'ptq', why: `${same}; PTQ has the lower loss (${ptq.loss.toPrecision(4)} against ${qat.loss.toPrecision(4)}).` };
  return { from: 'ptq', why: `${same}; the untrained weights are kept.` };
}
