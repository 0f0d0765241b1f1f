import { OctetError } from '../errors.js';

/** Labels and confidences of the best classes of every sample, best first. */
export interface TopClasses {
  /** Classes kept for a sample: 5, or fewer when there are fewer classes. */
  k: number;
  /** [samples, k]; -1 where the outputs of a sample were not numbers. */
  labels: Int32Array;
  /** [samples, k], shares of 1. */
  confidences: Float32Array;
}

/** What a model said about a set of samples, in the order it was asked. */
export interface Outputs {
  samples: number;
  /** Output elements of one sample. */
  width: number;
  /** Number of classes; 2 for a single-output binary model, 0 where outputs are values. */
  classes: number;
  kind: 'logits' | 'probabilities' | 'values';
  /** [samples, width] as the model gave them; null when there were too many to keep. */
  scores: Float32Array | null;
  top: TopClasses | null;
  /** Class of every sample, where the dataset tells. */
  labels: Int32Array | null;
  /** [samples, width] wanted values, where the dataset tells and scores are kept. */
  targets: Float32Array | null;
  /** Loss of every sample: -ln of the confidence in the true class, or the mean squared error; null without truth. */
  losses: Float64Array | null;
  /** Regression: mean absolute error, squared error and squared distance of the target from 0 of every sample. */
  errors: { absolute: Float64Array; squared: Float64Array } | null;
  /** Dataset index of every sample. */
  indices: Uint32Array;
  /** Samples with an output that is NaN or infinite. */
  notFinite: number;
  seconds: number;
  samplesPerSecond: number;
}

/** Error of a value that is NaN or infinite: as wrong as can be, and still a number, so that sums and JSON hold it. */
const lostError = 1e18;

/** Prediction less target; an output that is no number counts as an error of 1e18. */
export function errorOf(score: number, target: number): number {
  return Number.isFinite(score) ? score - target : lostError;
}

/** Confidence below which a loss is not followed further: keeps a certain mistake finite. */
const leastConfidence = 1e-12;

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
function binaryConfidence(score: number, kind: 'logits' | 'probabilities'): number {
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
function writeTop(scores: ArrayLike<number>, confidences: Float64Array, top: TopClasses, sample: number): void {
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

function allFinite(row: ArrayLike<number>): boolean {
  for (let i = 0; i < row.length; i++) if (!Number.isFinite(row[i])) return false;
  return true;
}

/** Collects what a model says, batch by batch, and derives top classes, losses and errors on the way. */
export class OutputCollector {
  private samples = 0;
  private width = 0;
  private capacity = 0;
  private kind: Outputs['kind'] | undefined;
  private readonly rows: Float32Array[] = [];
  private readonly truths: Float32Array[] = [];
  private readonly topLabels: Int32Array[] = [];
  private readonly topConfidences: Float32Array[] = [];
  private readonly labels: number[] = [];
  private readonly losses: number[] = [];
  private readonly absolute: number[] = [];
  private readonly squared: number[] = [];
  private readonly indices: number[] = [];
  private notFinite = 0;
  private keeps = true;

  /**
   * @param task what the outputs mean; `unlabelled` models of more than one output are compared as classifiers
   * @param options.kind how scores are to be read; found out from the scores when left out
   * @param options.keepElements scores are dropped, and only the top classes kept, above this many elements
   */
  constructor(
    private readonly task: 'classification' | 'regression' | 'unlabelled',
    private readonly options: { kind?: Outputs['kind']; keepElements?: number } = {},
  ) {
    this.kind = task === 'regression' ? 'values' : options.kind;
  }

  /** Add `scores` [n, width] with the truth that belongs to them. */
  add(
    scores: Float32Array,
    n: number,
    truth: { indices: ArrayLike<number>; labels?: ArrayLike<number>; values?: ArrayLike<number> },
  ): void {
    if (n === 0) return;
    const width = scores.length / n;
    if (this.samples === 0) this.width = width;
    else if (width !== this.width) {
      throw new OctetError('MODEL_SHAPE', `the model gave ${this.width} outputs a sample for one batch and ${width} for another`);
    }
    if (this.task === 'unlabelled' && width === 1) this.kind = 'values';
    // A single output can only be told apart over all samples, so those rows wait for finish().
    if (this.kind === undefined && width > 1) this.kind = kindOf(scores, width);
    this.capacity += scores.length;
    if (this.capacity > (this.options.keepElements ?? 64 * 1024 * 1024) && width > 1) this.drop();
    if (this.keeps) this.rows.push(scores);
    if (this.task === 'regression') this.addValues(scores, n, truth.values);
    else if (width > 1) this.addClasses(scores, n, truth.labels);
    else this.addLabels(n, truth.labels, 2);
    for (let i = 0; i < n; i++) this.indices.push(truth.indices[i] ?? this.samples + i);
    this.samples += n;
  }

  private drop(): void {
    this.keeps = false;
    this.rows.length = 0;
    this.truths.length = 0;
  }

  private addLabels(n: number, labels: ArrayLike<number> | undefined, classes: number): void {
    if (!labels) return;
    for (let i = 0; i < n; i++) {
      const label = labels[i] as number;
      if (!Number.isInteger(label) || label < 0 || label >= classes) {
        throw new OctetError('DATASET_CLASSES', `label ${label} does not fit the ${classes} classes of the model`, {
          sample: this.samples + i,
        });
      }
      this.labels.push(label);
    }
  }

  private addClasses(scores: Float32Array, n: number, labels: ArrayLike<number> | undefined): void {
    const width = this.width;
    this.addLabels(n, labels, width);
    const k = Math.min(5, width);
    const top: TopClasses = { k, labels: new Int32Array(n * k), confidences: new Float32Array(n * k) };
    const confidences = new Float64Array(width);
    for (let i = 0; i < n; i++) {
      const row = scores.subarray(i * width, (i + 1) * width);
      if (allFinite(row)) {
        confidencesOf(row, this.kind === 'probabilities' ? 'probabilities' : 'logits', confidences);
        writeTop(row, confidences, top, i);
      } else {
        this.notFinite++;
        confidences.fill(0);
        top.labels.fill(-1, i * k, (i + 1) * k);
      }
      if (labels) this.losses.push(-Math.log(Math.max(leastConfidence, confidences[labels[i] as number] as number)));
    }
    this.topLabels.push(top.labels);
    this.topConfidences.push(top.confidences);
  }

  private addValues(scores: Float32Array, n: number, values: ArrayLike<number> | undefined): void {
    const width = this.width;
    if (values && values.length !== n * width) {
      throw new OctetError(
        'DATASET_SHAPE',
        `the model gives ${width} values a sample, the dataset has ${values.length / n} targets a sample`,
      );
    }
    for (let i = 0; i < n; i++) {
      let absolute = 0;
      let squared = 0;
      let finite = true;
      for (let j = i * width; j < (i + 1) * width; j++) {
        finite &&= Number.isFinite(scores[j]);
        if (!values) continue;
        const error = errorOf(scores[j] as number, values[j] as number);
        absolute += Math.abs(error);
        squared += error * error;
      }
      if (!finite) this.notFinite++;
      if (!values) continue;
      this.absolute.push(absolute / width);
      this.squared.push(squared / width);
    }
    if (values && this.keeps) this.truths.push(Float32Array.from(values));
  }

  /** The whole. `seconds` is the time the model itself took. */
  finish(seconds: number): Outputs {
    const { samples, width } = this;
    const scores = this.keeps ? joinFloats(this.rows, samples * width) : null;
    const binary = width === 1 && this.task === 'classification';
    if (binary && scores) this.finishBinary(scores);
    const kind = this.kind ?? 'logits';
    const known = kind !== 'values';
    const k = binary ? 2 : Math.min(5, width);
    const squared = Float64Array.from(this.squared);
    return {
      samples,
      width,
      classes: known ? (binary ? 2 : width) : 0,
      kind,
      scores,
      top: known ? { k, labels: joinInts(this.topLabels, samples * k), confidences: joinFloats(this.topConfidences, samples * k) } : null,
      labels: this.labels.length > 0 ? Int32Array.from(this.labels) : null,
      targets: this.truths.length > 0 ? joinFloats(this.truths, samples * width) : null,
      losses: this.losses.length > 0 ? Float64Array.from(this.losses) : squared.length > 0 ? squared : null,
      errors: squared.length > 0 ? { absolute: Float64Array.from(this.absolute), squared } : null,
      indices: Uint32Array.from(this.indices),
      notFinite: this.notFinite,
      seconds,
      samplesPerSecond: seconds > 0 ? samples / seconds : 0,
    };
  }

  private finishBinary(scores: Float32Array): void {
    const kind = this.kind === 'probabilities' || this.kind === 'logits' ? this.kind : kindOf(scores, 1);
    this.kind = kind;
    const labels = new Int32Array(scores.length * 2);
    const confidences = new Float32Array(scores.length * 2);
    for (let i = 0; i < scores.length; i++) {
      const p = binaryConfidence(scores[i] as number, kind);
      // At the threshold itself class 1 is named, as `p >= 0.5` does.
      const first = p >= 0.5 ? 1 : 0;
      const finite = Number.isFinite(scores[i]);
      if (!finite) this.notFinite++;
      labels.set(finite ? [first, 1 - first] : [-1, -1], i * 2);
      confidences.set(finite ? [Math.max(p, 1 - p), Math.min(p, 1 - p)] : [0, 0], i * 2);
      if (this.labels.length > 0) this.losses.push(-Math.log(Math.max(leastConfidence, finite ? (this.labels[i] === 1 ? p : 1 - p) : 0)));
    }
    this.topLabels.push(labels);
    this.topConfidences.push(confidences);
  }
}

function joinFloats(parts: readonly Float32Array[], length: number): Float32Array {
  const whole = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function joinInts(parts: readonly Int32Array[], length: number): Int32Array {
  const whole = new Int32Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
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
