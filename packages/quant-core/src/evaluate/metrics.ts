import type { MetricName } from '../choices.js';
import { OctetError } from '../errors.js';
import type { MetricValue } from '../report/schema.js';
import { tasks } from '../tasks/index.js';
import type { Comparison } from './distance.js';
import { errorOf } from './distance.js';
import type { Outputs } from './outputs.js';
import { aucOf, averagePrecisionOf, ranked } from './ranks.js';
import { bootstrapInterval, wilsonInterval } from './statistics.js';

/** Each sample counted so many times; once when left out. */
type SampleWeights = ArrayLike<number>;

/** A metric of some outputs, ready to be taken of any resample of them. */
export interface Measure {
  value(weights?: SampleWeights): number;
  /** Whether each sample is right (1) or wrong (0), where the metric is the share that is right. */
  right?: Float64Array;
  /** Numbers that one evaluation reads for a sample. */
  cost?: number;
}

/** Facts of a metric, and how it is computed. */
interface MetricRule {
  /** `fraction` is shown in percent, its changes in points. */
  unit: 'fraction' | 'value';
  higherIsBetter: boolean;
  label: string;
  /** The measure, or why there is none. */
  measure(outputs: Outputs): Measure | string;
}

const weightOf = (weights: SampleWeights | undefined, i: number) => (weights ? (weights[i] as number) : 1);

/** Mean of a number a sample. */
function meanMeasure(each: Float64Array): Measure {
  return {
    value: (weights) => {
      let [above, below] = [0, 0];
      for (let i = 0; i < each.length; i++) {
        const weight = weightOf(weights, i);
        above += weight * (each[i] as number);
        below += weight;
      }
      return below > 0 ? above / below : Number.NaN;
    },
  };
}

const shareMeasure = (right: Float64Array): Measure => ({ ...meanMeasure(right), right });

/** Σ above / Σ below. */
function ratioMeasure(above: (i: number) => number, below: (i: number) => number, n: number): Measure {
  return {
    value: (weights) => {
      let [a, b] = [0, 0];
      for (let i = 0; i < n; i++) {
        const weight = weightOf(weights, i);
        a += weight * above(i);
        b += weight * below(i);
      }
      return b > 0 ? a / b : Number.NaN;
    },
  };
}

const noLabels = 'the dataset has no class labels, or the model is not a classifier';

function topMeasure({ labels, top, samples }: Outputs, depth: number): Measure | string {
  if (!labels || !top) return noLabels;
  const right = new Float64Array(samples);
  for (let i = 0; i < samples; i++)
    for (let j = 0; j < Math.min(depth, top.k); j++) if (top.labels[i * top.k + j] === labels[i]) right[i] = 1;
  return shareMeasure(right);
}

/** The mean over classes (of those with samples or named ones) of 2·both / (truth + named). */
function macroF1({ labels, top, samples, classes }: Outputs): Measure | string {
  if (!labels || !top) return noLabels;
  return {
    value: (weights) => {
      const [truth, named, both] = [new Float64Array(classes), new Float64Array(classes), new Float64Array(classes)];
      for (let i = 0; i < samples; i++) {
        const weight = weightOf(weights, i);
        const [label, name] = [labels[i] as number, top.labels[i * top.k] as number];
        truth[label]! += weight;
        if (name >= 0) named[name]! += weight;
        if (name === label) both[label]! += weight;
      }
      return meanOverClasses(truth, named, (c) => (2 * both[c]!) / (truth[c]! + named[c]!));
    },
  };
}

function meanOverClasses(truth: Float64Array, named: Float64Array, each: (c: number) => number): number {
  let [sum, count] = [0, 0];
  for (let c = 0; c < truth.length; c++) {
    if (truth[c]! + named[c]! === 0) continue;
    sum += each(c);
    count++;
  }
  return count ? sum / count : Number.NaN;
}

/** The mean over classes of both / (truth + named - both), over the positions of all samples. */
function meanIou({ positions, samples }: Outputs): Measure | string {
  if (!positions) return 'the dataset has no class for every position';
  if (!positions.byClass) return 'there are too many classes and samples to keep their counts';
  const { classes, byClass } = positions;
  return {
    cost: classes,
    value: (weights) => {
      const [truth, named, both] = [new Float64Array(classes), new Float64Array(classes), new Float64Array(classes)];
      for (let i = 0; i < samples; i++) {
        const weight = weightOf(weights, i);
        if (weight === 0) continue;
        for (let c = 0; c < classes; c++) {
          truth[c]! += weight * byClass.truth[i * classes + c]!;
          named[c]! += weight * byClass.named[i * classes + c]!;
          both[c]! += weight * byClass.both[i * classes + c]!;
        }
      }
      return meanOverClasses(truth, named, (c) => both[c]! / (truth[c]! + named[c]! - both[c]!));
    },
  };
}

/** The mean over columns that have both answers. */
function rankMeasure(outputs: Outputs, of: typeof aucOf): Measure | string {
  const { scores, targets, width, samples } = outputs;
  if (!scores || !targets) return 'the dataset has no 0/1 answers for the outputs';
  const columns = Array.from({ length: width }, (_, column) => ranked(scores, targets, width, column, samples));
  return {
    cost: width,
    value: (weights) => {
      const values = columns.map((column) => of(column, weights)).filter((value) => !Number.isNaN(value));
      return values.length ? values.reduce((a, b) => a + b, 0) / values.length : Number.NaN;
    },
  };
}

function binaryAccuracy({ scores, targets, width, samples, kind }: Outputs): Measure | string {
  if (!scores || !targets) return 'the dataset has no 0/1 answers for the outputs';
  const threshold = kind === 'probabilities' ? 0.5 : 0;
  const share = new Float64Array(samples);
  for (let i = 0; i < samples * width; i++)
    if (Number.isFinite(scores[i]) && (scores[i] as number) >= threshold === (targets[i] as number) > 0.5)
      share[Math.floor(i / width)]! += 1 / width;
  return meanMeasure(share);
}

/** Absolute or squared error of each sample: from the targets, or from the float model's values where there are none. */
function errorMeasure(outputs: Outputs, which: 'absolute' | 'squared'): Measure {
  const { errors, comparison } = outputs;
  if (errors) return meanMeasure(errors[which]);
  const each = which === 'absolute' ? comparison.absolute : comparison.noise;
  return meanMeasure(each.map((sum) => sum / comparison.width));
}

/** R² pooled over outputs: `1 - Σ(y - ŷ)² / Σ(y - ȳ)²` with the mean of each output over all samples. */
function r2({ targets, scores, errors, comparison, samples, width }: Outputs): Measure | string {
  if (!errors) {
    const spread = spreadOf(comparison);
    return { value: (weights) => 1 - spread.relative(weights) ** 2 };
  }
  if (!targets || !scores) return 'there are too many values to keep';
  const means = new Float64Array(width);
  for (let i = 0; i < samples * width; i++) means[i % width]! += (targets[i] as number) / samples;
  const [off, spread] = [new Float64Array(samples), new Float64Array(samples)];
  for (let i = 0; i < samples * width; i++) {
    const sample = Math.floor(i / width);
    off[sample]! += errorOf(scores[i] as number, targets[i] as number) ** 2;
    spread[sample]! += ((targets[i] as number) - (means[i % width] as number)) ** 2;
  }
  const left = ratioMeasure(
    (i) => off[i]!,
    (i) => spread[i]!,
    samples,
  );
  return {
    value: (weights) => {
      const share = left.value(weights);
      return Number.isNaN(share) ? (off.every((one) => one === 0) ? 1 : 0) : 1 - share;
    },
  };
}

/** RMS error over the standard deviation of the reference (its RMS where it does not vary). */
function spreadOf({ total, signal, noise, width }: Comparison): { relative(weights?: SampleWeights): number } {
  const n = total.length;
  return {
    relative: (weights) => {
      let [count, sum, squares, errors] = [0, 0, 0, 0];
      for (let i = 0; i < n; i++) {
        const weight = weightOf(weights, i);
        count += weight * width;
        sum += weight * total[i]!;
        squares += weight * signal[i]!;
        errors += weight * noise[i]!;
      }
      const variance = squares / count - (sum / count) ** 2;
      const scale = variance > 1e-12 * (squares / count) ? variance : squares / count;
      return errors === 0 ? 0 : scale > 0 ? Math.sqrt(errors / count / scale) : 1;
    },
  };
}

function agreementMeasure({ comparison }: Outputs): Measure | string {
  const { agreed, positions } = comparison;
  if (positions === 0) return 'the outputs of the model are not classes';
  const share = agreed.map((count) => count / positions);
  return positions === 1 ? shareMeasure(share) : meanMeasure(share);
}

function cosineOf({ signal, own, dot }: Comparison): Float64Array {
  return signal.map((x2, i) => {
    const length = Math.sqrt(x2 * own[i]!);
    return length > 0 ? Math.min(1, dot[i]! / length) : x2 === own[i] ? 1 : 0;
  });
}

/** What models are compared by. One row a metric. */
export const metricFacts: { readonly [M in MetricName]: MetricRule } = {
  top1: { unit: 'fraction', higherIsBetter: true, label: 'top-1 accuracy', measure: (outputs) => topMeasure(outputs, 1) },
  top5: { unit: 'fraction', higherIsBetter: true, label: 'top-5 accuracy', measure: (outputs) => topMeasure(outputs, 5) },
  macro_f1: { unit: 'fraction', higherIsBetter: true, label: 'macro F1', measure: macroF1 },
  kl: {
    unit: 'value',
    higherIsBetter: false,
    label: 'KL divergence from the labels',
    measure: ({ losses, task }) => (losses && task === 'soft_classification' ? meanMeasure(losses) : 'the labels are not distributions'),
  },
  auc: { unit: 'fraction', higherIsBetter: true, label: 'area under the ROC curve', measure: (outputs) => rankMeasure(outputs, aucOf) },
  average_precision: {
    unit: 'fraction',
    higherIsBetter: true,
    label: 'average precision',
    measure: (outputs) => rankMeasure(outputs, averagePrecisionOf),
  },
  binary_accuracy: { unit: 'fraction', higherIsBetter: true, label: 'accuracy at 0.5', measure: binaryAccuracy },
  mean_iou: { unit: 'fraction', higherIsBetter: true, label: 'mean IoU', measure: meanIou },
  position_accuracy: {
    unit: 'fraction',
    higherIsBetter: true,
    label: 'accuracy of positions',
    measure: ({ positions, samples }) =>
      positions
        ? ratioMeasure(
            (i) => positions.right[i]!,
            (i) => positions.counted[i]!,
            samples,
          )
        : 'the dataset has no class for every position',
  },
  mae: { unit: 'value', higherIsBetter: false, label: 'mean absolute error', measure: (outputs) => errorMeasure(outputs, 'absolute') },
  rmse: {
    unit: 'value',
    higherIsBetter: false,
    label: 'root mean square error',
    measure: (outputs) => {
      const squared = errorMeasure(outputs, 'squared');
      return { value: (weights) => Math.sqrt(squared.value(weights)) };
    },
  },
  r2: { unit: 'value', higherIsBetter: true, label: 'R²', measure: r2 },
  agreement: { unit: 'fraction', higherIsBetter: true, label: 'agreement with the float model', measure: agreementMeasure },
  relative_error: {
    unit: 'fraction',
    higherIsBetter: false,
    label: 'error relative to the spread of the float output',
    measure: ({ comparison }) => ({ value: spreadOf(comparison).relative }),
  },
  cosine: {
    unit: 'value',
    higherIsBetter: true,
    label: 'cosine similarity with the float model',
    measure: ({ comparison }) => meanMeasure(cosineOf(comparison)),
  },
};

/** `10 · log10(Σx² / Σ(x − y)²)` of an output against the float model's, dB; null where nothing differs. */
export function sqnrOf({ comparison: { signal, noise } }: Outputs): number | null {
  const sum = (of: Float64Array) => of.reduce((a, b) => a + b, 0);
  const [power, error] = [sum(signal), sum(noise)];
  return error > 0 ? 10 * Math.log10(Math.max(power, Number.MIN_VALUE) / error) : null;
}

/** The metric meant by `auto`: the first one of the task that is a number here. The rank of answers is none where every sample has the same answer. */
export function resolveMetric(wanted: MetricName | 'auto', outputs: Pick<Outputs, 'task' | 'output'> & Partial<Outputs>): MetricName {
  if (wanted !== 'auto') return wanted;
  const [first, ...others] = tasks[outputs.task].metrics(outputs.output) as [MetricName, ...MetricName[]];
  const isNumber = (name: MetricName) => {
    const measure = metricFacts[name].measure(outputs as Outputs);
    return typeof measure !== 'string' && !Number.isNaN(measure.value());
  };
  const ranks = first === 'auc' && outputs.scores !== undefined;
  return ranks && !isNumber(first) ? (others.find(isNumber) ?? first) : first;
}

/** The measure of a metric. Throws CONFIG_IMPOSSIBLE when the outputs do not hold what it needs. */
export function measureOf(name: MetricName, outputs: Outputs): Measure {
  const measure = metricFacts[name].measure(outputs);
  if (typeof measure !== 'string') return measure;
  throw new OctetError('CONFIG_IMPOSSIBLE', `metric "${name}" cannot be computed: ${measure}`, { pointer: '/evaluation/metric' });
}

/** A metric with its 95 % interval: Wilson for shares of samples, seeded bootstrap over samples otherwise. */
export function metricValue(name: MetricName, outputs: Outputs, seed: number): MetricValue {
  const measure = measureOf(name, outputs);
  const value = measure.value();
  if (measure.right)
    return {
      value,
      ci95: wilsonInterval(
        measure.right.reduce((sum, one) => sum + one, 0),
        outputs.samples,
      ),
    };
  return { value, ci95: bootstrapInterval(outputs.samples, measure.value, seed, measure.cost) };
}
