import type { MetricName } from '../choices.js';
import type { MetricValue } from '../report/schema.js';
import { metricFacts } from './metrics.js';
import { meanLoss, type Outputs, topLabel } from './outputs.js';
import { wilsonInterval } from './statistics.js';

/** Fewer samples do not show that a float model is poor. */
const fewest = 50;
/** What the mean confidence of the class named may exceed the accuracy by. */
const mostOverconfidence = 0.3;
/** Share of the way from chance to perfect below which accuracy is near chance. */
const nearChance = 0.1;

const percent = (share: number) => `${(100 * share).toFixed(2)} %`;

/** Why a float model is poor for its kind, as the end of a sentence that begins "The float model"; null where it is not. */
export function poorness(outputs: Outputs): string | null {
  if (outputs.samples < fewest) return null;
  return outputs.task === 'unlabelled' ? null : checks[outputs.task](outputs);
}

type Check = (outputs: Outputs) => string | null;

const checks: { readonly [T in Exclude<Outputs['task'], 'unlabelled'>]: Check } = {
  classification: poorClasses,
  soft_classification: poorClasses,
  multi_label: (outputs) =>
    meanLoss(outputs) > Math.LN2 ? `has a loss of ${meanLoss(outputs).toPrecision(3)}, more than answers of 50 % would have` : null,
  dense_classification: ({ positions, classes, ...rest }) => {
    if (!positions) return null;
    const sum = (of: Float64Array) => of.reduce((a, b) => a + b, 0);
    const accuracy = sum(positions.right) / sum(positions.counted);
    if (isNearChance(accuracy, classes)) return chanceText(accuracy, classes);
    const loss = meanLoss({ positions, classes, ...rest });
    return loss > Math.log(classes) ? `has a loss of ${loss.toPrecision(3)} a position, more than guessing would have` : null;
  },
  regression: (outputs) => {
    const measure = metricFacts.r2.measure(outputs);
    if (typeof measure === 'string' || !(measure.value() < 0)) return null;
    return `has R² ${measure.value().toPrecision(3)}: the mean of the targets would be the better prediction`;
  },
};

const isNearChance = (accuracy: number, classes: number) => accuracy <= 1 / classes + nearChance * (1 - 1 / classes);
const chanceText = (accuracy: number, classes: number) => `is hardly better than chance (${percent(accuracy)} with ${classes} classes)`;

function poorClasses(outputs: Outputs): string | null {
  const { labels, top, samples, classes } = outputs;
  if (!labels || !top) return null;
  let [right, confidence] = [0, 0];
  for (let i = 0; i < samples; i++) {
    if (topLabel(outputs, i) === labels[i]) right++;
    confidence += top.confidences[i * top.k] as number;
  }
  const accuracy = right / samples;
  if (isNearChance(accuracy, classes) || wilsonInterval(right, samples)[0] <= 1 / classes) return chanceText(accuracy, classes);
  return confidence / samples - accuracy > mostOverconfidence
    ? `is right in ${percent(accuracy)} of the samples, where its own confidence promises ${percent(confidence / samples)}`
    : null;
}

/** Whether a figure is plainly better than another: apart beyond chance, and by ten points, a fifth of R², or half the error. */
export function plainlyBetter(name: MetricName, before: MetricValue, after: MetricValue): boolean {
  const { unit, higherIsBetter } = metricFacts[name];
  const apart = higherIsBetter ? after.ci95[0] > before.ci95[1] : after.ci95[1] < before.ci95[0];
  if (!apart) return false;
  if (!higherIsBetter) return after.value <= before.value / 2;
  return after.value - before.value >= (unit === 'fraction' ? 0.1 : 0.2);
}

/** Whether a stated value lies below, within or above what was measured. */
export function compareExpected(name: MetricName, measured: MetricValue, expected: number): 'worse' | 'as_expected' | 'better' {
  const [low, high] = measured.ci95;
  if (expected >= low && expected <= high) return 'as_expected';
  return expected > high === metricFacts[name].higherIsBetter ? 'worse' : 'better';
}

/** Whether a figure is near a stated one: within its own interval, or at most a tenth of the way from the poor figure away from it. */
export function isNear(name: MetricName, value: MetricValue, expected: number, poor: number): boolean {
  if (compareExpected(name, value, expected) !== 'worse') return true;
  return Math.abs(value.value - expected) <= 0.1 * Math.abs(poor - expected);
}

/** The better of two figures. */
export const betterOf = (name: MetricName, a: number, b: number): boolean => (metricFacts[name].higherIsBetter ? a > b : a < b);
