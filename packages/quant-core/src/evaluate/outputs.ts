import type { TaskName } from '../choices.js';
import type { ModelOutput } from '../tasks/output.js';
import type { Comparison } from './distance.js';
import type { RowStore } from './rowStore.js';

/** Labels and confidences of the best classes of every sample, best first. */
export interface TopClasses {
  /** Classes kept for a sample: 5, or fewer when there are fewer classes. */
  k: number;
  /** [samples, k]; -1 where the outputs of a sample were not numbers. */
  labels: Int32Array;
  /** [samples, k], shares of 1. */
  confidences: Float32Array;
}

/** Counts of every class over the positions of each sample, where a sample has more than one. */
export interface PositionCounts {
  classes: number;
  /** Positions that count, and those whose class was named, of each sample. */
  counted: Float64Array;
  right: Float64Array;
  /** [samples, classes]; null where that would be too many numbers. */
  byClass: { truth: Uint32Array; named: Uint32Array; both: Uint32Array } | null;
}

/** One output of a model for a set of samples, in the order it was asked. */
export interface Outputs {
  /** What the output is, and what is asked of it. */
  output: ModelOutput;
  task: TaskName;
  samples: number;
  /** Output elements of one sample. */
  width: number;
  /** Number of classes; 2 for a single-output binary model, 0 where outputs are values. */
  classes: number;
  kind: 'logits' | 'probabilities' | 'values';
  /** [samples, width] as the model gave them; null when they are not needed, or too many to keep. */
  scores: Float32Array | null;
  /** Where one class is named for a sample. */
  top: TopClasses | null;
  /** Class of every sample, where the dataset tells. */
  labels: Int32Array | null;
  /** [samples, width] wanted values, where the dataset has them and the metric needs them. */
  targets: Float32Array | null;
  /** Loss of every sample: -ln of the confidence in the true class, or the mean squared error; null without truth. */
  losses: Float64Array | null;
  /** Values: mean absolute and squared error of every sample. */
  errors: { absolute: Float64Array; squared: Float64Array } | null;
  positions: PositionCounts | null;
  /** Against the reference; against itself where there is none. */
  comparison: Comparison;
  /** Everything the model gave, where it is kept to compare others with. */
  rows: RowStore | null;
  /** Dataset index of every sample. */
  indices: Uint32Array;
  /** Samples with an output that is NaN or infinite. */
  notFinite: number;
  seconds: number;
  samplesPerSecond: number;
}

/** Outputs of a model, in the order of its tasks: the first is the one that the labels belong to, or that says most. */
export type ModelOutputs = readonly [Outputs, ...Outputs[]];

/** Confidence below which a loss is not followed further: keeps a certain mistake finite. */
export const leastConfidence = 1e-12;

/**
 * Numerically safe softmax of one row (the largest score is subtracted first) into `out`, or, for probabilities,
 * the row divided by its sum, so that rounded int8 probabilities still add up to 1.
 */
export function confidencesOf(row: ArrayLike<number>, kind: 'logits' | 'probabilities', out: Float64Array): void {
  const n = out.length;
  let sum = 0;
  if (kind === 'probabilities') {
    for (let i = 0; i < n; i++) {
      out[i] = Math.max(0, row[i] as number);
      sum += out[i] as number;
    }
    if (sum > 0) for (let i = 0; i < n; i++) out[i]! /= sum;
    else out.fill(1 / n);
    return;
  }
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < n; i++) largest = Math.max(largest, row[i] as number);
  for (let i = 0; i < n; i++) {
    out[i] = Math.exp((row[i] as number) - largest);
    sum += out[i] as number;
  }
  for (let i = 0; i < n; i++) out[i]! /= sum;
}

/** Confidence in class 1 of a single-output binary model. */
export function binaryConfidence(score: number, kind: 'logits' | 'probabilities'): number {
  if (kind === 'probabilities') return Math.min(1, Math.max(0, score));
  return score >= 0 ? 1 / (1 + Math.exp(-score)) : Math.exp(score) / (1 + Math.exp(score));
}

/**
 * Whether rows are probabilities: every element in [0, 1] and, for more than one element, every row adding up to 1
 * (within 0.001). Anything else is taken as logits; log-probabilities are logits too.
 */
export function kindOf(scores: ArrayLike<number>, width: number): 'logits' | 'probabilities' {
  for (let start = 0; start + width <= scores.length; start += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) {
      const score = scores[start + i] as number;
      if (!(score >= -1e-6 && score <= 1 + 1e-6)) return 'logits';
      sum += score;
    }
    if (width > 1 && Math.abs(sum - 1) > 1e-3) return 'logits';
  }
  return 'probabilities';
}

/** One sample's classes by descending score; of equal scores the lower class comes first, as in argmax. */
export function writeTop(scores: ArrayLike<number>, confidences: Float64Array, top: TopClasses, sample: number): void {
  const { k, labels } = top;
  const at = sample * k;
  let held = 0;
  for (let c = 0; c < confidences.length; c++) {
    const score = scores[c] as number;
    if (held === k && score <= (scores[labels[at + k - 1] as number] as number)) continue;
    let place = held < k ? held++ : k - 1;
    while (place > 0 && score > (scores[labels[at + place - 1] as number] as number)) {
      labels[at + place] = labels[at + place - 1] as number;
      place--;
    }
    labels[at + place] = c;
  }
  for (let i = 0; i < k; i++) top.confidences[at + i] = confidences[labels[at + i] as number] as number;
}

export function allFinite(row: ArrayLike<number>): boolean {
  for (let i = 0; i < row.length; i++) if (!Number.isFinite(row[i])) return false;
  return true;
}

/** Confidence of `outputs` in `label` for sample `i`; 0 when scores were dropped and the class is not among the best. */
export function confidenceIn(outputs: Outputs, i: number, label: number): number {
  const { top } = outputs;
  if (!top || label < 0) return 0;
  for (let j = 0; j < top.k; j++) if (top.labels[i * top.k + j] === label) return top.confidences[i * top.k + j] as number;
  if (!outputs.scores || outputs.width === 1 || top.labels[i * top.k] === -1) return 0;
  const out = new Float64Array(outputs.width);
  confidencesOf(
    outputs.scores.subarray(i * outputs.width, (i + 1) * outputs.width),
    outputs.kind === 'probabilities' ? 'probabilities' : 'logits',
    out,
  );
  return out[label] ?? 0;
}

/** Top class of sample `i`; -1 when its outputs are not numbers. */
export function topLabel(outputs: Outputs, i: number): number {
  return outputs.top ? (outputs.top.labels[i * outputs.top.k] as number) : -1;
}

/** Mean loss; NaN without truth. */
export function meanLoss(outputs: Outputs): number {
  if (!outputs.losses || outputs.losses.length === 0) return Number.NaN;
  return outputs.losses.reduce((sum, loss) => sum + loss, 0) / outputs.losses.length;
}
