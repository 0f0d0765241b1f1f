import { OctetError } from '../errors.js';
import type { MetricValue } from '../report/schema.js';
import type { Outputs } from './outputs.js';
import { errorOf, topLabel } from './outputs.js';
import { bootstrapInterval, wilsonInterval } from './statistics.js';

export const metricNames = ['top1', 'top5', 'mae', 'rmse', 'r2', 'agreement'] as const;
export type MetricName = (typeof metricNames)[number];

/** Facts of each metric. A proportion is a share of samples that are right or wrong. */
export const metricFacts: Record<MetricName, { unit: 'fraction' | 'value'; higherIsBetter: boolean; proportion: boolean; label: string }> =
  {
    top1: { unit: 'fraction', higherIsBetter: true, proportion: true, label: 'top-1 accuracy' },
    top5: { unit: 'fraction', higherIsBetter: true, proportion: true, label: 'top-5 accuracy' },
    agreement: { unit: 'fraction', higherIsBetter: true, proportion: true, label: 'agreement with the float model' },
    mae: { unit: 'value', higherIsBetter: false, proportion: false, label: 'mean absolute error' },
    rmse: { unit: 'value', higherIsBetter: false, proportion: false, label: 'root mean square error' },
    r2: { unit: 'value', higherIsBetter: true, proportion: false, label: 'R²' },
  };

/** The metric meant by `auto`: top1 with labels, mae with values, agreement without either (mae where outputs are values). */
export function resolveMetric(
  wanted: MetricName | 'auto',
  task: 'classification' | 'regression' | 'unlabelled',
  outputs: Outputs,
): MetricName {
  if (wanted !== 'auto') return wanted;
  if (task === 'classification') return 'top1';
  if (task === 'regression') return 'mae';
  return outputs.top ? 'agreement' : 'mae';
}

/** What each sample adds to a metric: a numerator, and for R² a denominator. */
export interface SampleTerms {
  numerator: Float64Array;
  denominator: Float64Array | null;
}

function impossible(name: MetricName, reason: string): never {
  throw new OctetError('CONFIG_IMPOSSIBLE', `metric "${name}" cannot be computed: ${reason}`, { pointer: '/evaluation/metric' });
}

/**
 * Terms of `name` for every sample. `reference` is the float model's outputs: what `agreement` compares with, and what
 * stands in for the truth of `mae`, `rmse` and `r2` when the dataset has none.
 * Throws CONFIG_IMPOSSIBLE when the outputs do not hold what the metric needs.
 */
export function sampleTerms(name: MetricName, outputs: Outputs, reference?: Outputs): SampleTerms {
  const n = outputs.samples;
  const numerator = new Float64Array(n);
  switch (name) {
    case 'top1':
    case 'top5': {
      const { labels, top } = outputs;
      if (!labels || !top) return impossible(name, 'the dataset has no class labels, or the model is no classifier');
      const depth = name === 'top1' ? 1 : top.k;
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < depth; j++) if (top.labels[i * top.k + j] === labels[i]) numerator[i] = 1;
      }
      return { numerator, denominator: null };
    }
    case 'agreement': {
      if (!reference?.top || !outputs.top) return impossible(name, 'the outputs of the model are not classes');
      for (let i = 0; i < n; i++) numerator[i] = topLabel(outputs, i) === topLabel(reference, i) && topLabel(outputs, i) >= 0 ? 1 : 0;
      return { numerator, denominator: null };
    }
    case 'mae':
    case 'rmse':
    case 'r2':
      return valueTerms(name, outputs, reference);
  }
}

function valueTerms(name: 'mae' | 'rmse' | 'r2', outputs: Outputs, reference: Outputs | undefined): SampleTerms {
  const { samples, width, scores } = outputs;
  if (outputs.errors && name !== 'r2') {
    return { numerator: name === 'mae' ? outputs.errors.absolute : outputs.errors.squared, denominator: null };
  }
  const wanted = outputs.targets ?? (outputs.errors ? null : (reference?.scores ?? null));
  if (!wanted || !scores) return impossible(name, 'the dataset has no target values, or there are too many to keep');
  const numerator = new Float64Array(samples);
  const means = new Float64Array(width);
  for (let i = 0; i < samples * width; i++) means[i % width]! += (wanted[i] as number) / samples;
  const denominator = name === 'r2' ? new Float64Array(samples) : null;
  for (let i = 0; i < samples; i++) {
    for (let j = 0; j < width; j++) {
      const target = wanted[i * width + j] as number;
      const error = errorOf(scores[i * width + j] as number, target);
      numerator[i]! += (name === 'mae' ? Math.abs(error) : error * error) / width;
      if (denominator) denominator[i]! += (target - (means[j] as number)) ** 2 / width;
    }
  }
  return { numerator, denominator };
}

/**
 * The metric from its terms, each sample counted `weights[i]` times (once when left out). R² is pooled over outputs,
 * `1 - Σ(y - ŷ)² / Σ(y - ȳ)²` with the mean of each output over all samples.
 */
export function combineTerms(name: MetricName, terms: SampleTerms, weights?: ArrayLike<number>): number {
  const { numerator, denominator } = terms;
  let above = 0;
  let below = 0;
  for (let i = 0; i < numerator.length; i++) {
    const weight = weights ? (weights[i] as number) : 1;
    above += weight * (numerator[i] as number);
    below += weight * (denominator ? (denominator[i] as number) : 1);
  }
  if (name === 'r2') return below > 0 ? 1 - above / below : above === 0 ? 1 : 0;
  const mean = below > 0 ? above / below : Number.NaN;
  return name === 'rmse' ? Math.sqrt(mean) : mean;
}

/** A metric with its 95 % interval: Wilson for proportions, seeded bootstrap over samples otherwise. */
export function metricValue(name: MetricName, outputs: Outputs, options: { reference?: Outputs; seed: number }): MetricValue {
  const terms = sampleTerms(name, outputs, options.reference);
  const value = combineTerms(name, terms);
  if (metricFacts[name].proportion) {
    const right = terms.numerator.reduce((sum, one) => sum + one, 0);
    return { value, ci95: wilsonInterval(right, outputs.samples) };
  }
  return { value, ci95: bootstrapInterval(outputs.samples, (weights) => combineTerms(name, terms, weights), options.seed) };
}
