import type { TaskName } from '../choices.js';
import { OctetError } from '../errors.js';
import { tasks } from '../tasks/index.js';
import type { ModelOutput } from '../tasks/output.js';
import { type ClassLayout, type Collected, isIgnored, layoutOf, type Truth } from '../tasks/task.js';
import { Comparer, errorOf, largestClass } from './distance.js';
import {
  allFinite,
  binaryConfidence,
  confidencesOf,
  kindOf,
  leastConfidence,
  type Outputs,
  type PositionCounts,
  type TopClasses,
  writeTop,
} from './outputs.js';
import { RowStore } from './rowStore.js';

/** Targets of some samples, and which samples they are. */
export interface CollectedTruth extends Truth {
  indices: ArrayLike<number>;
}

export interface CollectorOptions {
  /** How scores are to be read; found out from the scores when left out. */
  kind?: Outputs['kind'] | undefined;
  /** What is compared with, in the order of the samples; its rows must be kept. */
  reference?: Outputs | undefined;
  /** Folder for rows that are kept to compare others with. */
  keepRowsIn?: string | undefined;
  /** A label a position that counts for nothing. */
  ignoreIndex?: number | undefined;
  /** Scores of classes are dropped, and only the top classes kept, above this many elements (16 Mi). */
  keepElements?: number | undefined;
}

/** What a task keeps of each batch, beside the comparison. */
interface Part {
  add(scores: Float32Array, n: number, truth: Truth): void;
  finish(): Partial<Outputs>;
}

/** Collects one output of a model, batch by batch, and derives what its task asks for on the way. */
export class OutputCollector {
  private samples = 0;
  private width = 0;
  private seen: Started | undefined;
  private readonly indices: number[] = [];
  private notFinite = 0;

  constructor(
    private readonly output: ModelOutput,
    private readonly task: TaskName,
    private readonly options: CollectorOptions = {},
  ) {}

  /** Add `scores` [n, …shape] with the truth that belongs to them. */
  add(scores: Float32Array, shape: readonly number[], truth: CollectedTruth): void {
    const n = truth.indices.length;
    if (n === 0) return;
    const width = scores.length / n;
    this.seen ??= this.start(scores, shape, width);
    if (width !== this.width)
      throw new OctetError('MODEL_SHAPE', `the model gave ${this.width} outputs a sample for one batch and ${width} for another`);
    const { comparer, part, rows } = this.seen;
    const { reference } = this.options;
    comparer.add(scores, reference ? kept(reference).read(this.samples, n) : scores);
    rows?.append(scores);
    for (let i = 0; i < n; i++) if (!allFinite(scores.subarray(i * width, (i + 1) * width))) this.notFinite++;
    part.add(scores, n, truth);
    for (let i = 0; i < n; i++) this.indices.push(truth.indices[i] ?? this.samples + i);
    this.samples += n;
  }

  private start(scores: Float32Array, shape: readonly number[], width: number): Started {
    const { output, task, options } = this;
    this.width = width;
    const valued = output.kind !== 'classes' && output.kind !== 'binary';
    const told = output.form === 'logits' ? kindOf(scores, width) : output.form === 'probabilities' ? 'probabilities' : 'logits';
    // A single score can only be told apart over all samples: a sigmoid is seen in the graph, and there is no other evidence.
    const kind = valued
      ? 'values'
      : (options.kind ?? options.reference?.kind ?? (width === 1 && output.form === 'logits' ? 'logits' : told));
    const context: PartContext = { output, shape, width, kind, samples: () => this.samples, options };
    return {
      kind,
      part: parts[tasks[task].collects](context),
      comparer: new Comparer(output, width, shape, kind === 'probabilities' ? 0.5 : 0),
      rows: options.keepRowsIn === undefined ? undefined : new RowStore(width, options.keepRowsIn),
    };
  }

  /** The whole. `seconds` is the time the model itself took. */
  finish(seconds: number): Outputs {
    const { samples, width, seen, output, task } = this;
    if (!seen) throw new OctetError('DATASET_EMPTY', 'there is no sample to evaluate');
    return {
      output,
      task,
      samples,
      width,
      classes: 0,
      kind: seen.kind,
      scores: null,
      top: null,
      labels: null,
      targets: null,
      losses: null,
      errors: null,
      positions: null,
      comparison: seen.comparer.finish(),
      rows: seen.rows ?? null,
      indices: Uint32Array.from(this.indices),
      notFinite: this.notFinite,
      seconds,
      samplesPerSecond: seconds > 0 ? samples / seconds : 0,
      ...seen.part.finish(),
    };
  }
}

interface Started {
  kind: Outputs['kind'];
  part: Part;
  comparer: Comparer;
  rows: RowStore | undefined;
}

function kept({ rows, output }: Outputs): RowStore {
  if (!rows) throw new OctetError('INTERNAL', `the rows of "${output.name}" were not kept to compare with`);
  return rows;
}

interface PartContext {
  output: ModelOutput;
  /** Of one sample. */
  shape: readonly number[];
  width: number;
  kind: Outputs['kind'];
  /** Samples so far, for messages. */
  samples: () => number;
  options: CollectorOptions;
}

const parts: { readonly [C in Collected]: (context: PartContext) => Part } = {
  classes: (context) => (context.width === 1 ? new BinaryClasses(context) : new Classes(context)),
  soft: (context) => new SoftClasses(context),
  binary: (context) => new Answers(context),
  positions: (context) => new Positions(context),
  values: (context) => new Values(context),
  // One class a sample can still be named, and shown where it flips.
  nothing: (context) => {
    const { output, width, shape } = context;
    const row = shape.filter((dim) => dim !== 1).length <= 1;
    return output.kind === 'classes' && row && width > 1 ? new Classes(context) : new Nothing();
  },
};

class Nothing implements Part {
  add(): void {}
  finish(): Partial<Outputs> {
    return {};
  }
}

/** Scores of classes that are kept, in elements. */
const keptScores = 16 * 2 ** 20;

/** One class for each sample. */
class Classes implements Part {
  private readonly rows: Float32Array[] = [];
  private held = 0;
  private readonly topLabels: Int32Array[] = [];
  private readonly topConfidences: Float32Array[] = [];
  protected readonly labels: number[] = [];
  protected readonly losses: number[] = [];

  constructor(protected readonly context: PartContext) {}

  add(scores: Float32Array, n: number, truth: Truth): void {
    const { width, kind, options } = this.context;
    const { labels } = truth;
    if (labels) this.addLabels(labels, n, width);
    this.held += scores.length;
    if (this.held > (options.keepElements ?? keptScores)) this.rows.length = 0;
    else this.rows.push(scores);
    const k = Math.min(5, width);
    const top: TopClasses = { k, labels: new Int32Array(n * k), confidences: new Float32Array(n * k) };
    const confidences = new Float64Array(width);
    for (let i = 0; i < n; i++) {
      const row = scores.subarray(i * width, (i + 1) * width);
      if (allFinite(row)) {
        confidencesOf(row, kind === 'probabilities' ? 'probabilities' : 'logits', confidences);
        writeTop(row, confidences, top, i);
      } else {
        confidences.fill(0);
        top.labels.fill(-1, i * k, (i + 1) * k);
      }
      this.addLoss(confidences, i, truth);
    }
    this.topLabels.push(top.labels);
    this.topConfidences.push(top.confidences);
  }

  protected addLabels(labels: ArrayLike<number>, n: number, classes: number): void {
    for (let i = 0; i < n; i++) {
      const label = labels[i] as number;
      if (!Number.isInteger(label) || label < 0 || label >= classes) {
        throw new OctetError('DATASET_CLASSES', `label ${label} does not fit the ${classes} classes of the model`, {
          sample: this.context.samples() + i,
        });
      }
      this.labels.push(label);
    }
  }

  protected addLoss(confidences: Float64Array, i: number, { labels }: Truth): void {
    if (labels) this.losses.push(-Math.log(Math.max(leastConfidence, confidences[labels[i] as number] as number)));
  }

  finish(): Partial<Outputs> {
    const { width } = this.context;
    const k = Math.min(5, width);
    return {
      classes: width,
      scores: this.rows.length ? joinFloats(this.rows) : null,
      top: { k, labels: joinInts(this.topLabels), confidences: joinFloats(this.topConfidences) },
      labels: this.labels.length > 0 ? Int32Array.from(this.labels) : null,
      losses: this.losses.length > 0 ? Float64Array.from(this.losses) : null,
    };
  }
}

/** A distribution over the classes for each sample; the class with the largest share is taken. */
class SoftClasses extends Classes {
  override add(scores: Float32Array, n: number, truth: Truth): void {
    const { width } = this.context;
    const values = truth.values?.data;
    if (values) for (let i = 0; i < n; i++) this.labels.push(largestClass(values, i * width, 1, width));
    super.add(scores, n, truth);
  }

  /** KL(target ‖ output) of each sample. */
  protected override addLoss(confidences: Float64Array, i: number, { values }: Truth): void {
    if (!values) return;
    const { width } = this.context;
    let divergence = 0;
    for (let c = 0; c < width; c++) {
      const wanted = values.data[i * width + c] as number;
      if (wanted > 0) divergence += wanted * (Math.log(wanted) - Math.log(Math.max(leastConfidence, confidences[c] as number)));
    }
    this.losses.push(divergence);
  }
}

/** A single score: of class 1, against class 0. */
class BinaryClasses implements Part {
  private readonly rows: Float32Array[] = [];
  private readonly labels: number[] = [];

  constructor(private readonly context: PartContext) {}

  add(scores: Float32Array, n: number, { labels }: Truth): void {
    this.rows.push(scores);
    for (let i = 0; labels && i < n; i++) {
      const label = labels[i] as number;
      if (label !== 0 && label !== 1)
        throw new OctetError('DATASET_CLASSES', `label ${label} does not fit the 2 classes of the model`, {
          sample: this.context.samples() + i,
        });
      this.labels.push(label);
    }
  }

  finish(): Partial<Outputs> {
    const scores = joinFloats(this.rows);
    const kind = this.context.kind === 'probabilities' ? 'probabilities' : 'logits';
    const labels = new Int32Array(scores.length * 2);
    const confidences = new Float32Array(scores.length * 2);
    const losses: number[] = [];
    for (let i = 0; i < scores.length; i++) {
      const p = binaryConfidence(scores[i] as number, kind);
      // At the threshold itself class 1 is named, as `p >= 0.5` does.
      const first = p >= 0.5 ? 1 : 0;
      const finite = Number.isFinite(scores[i]);
      labels.set(finite ? [first, 1 - first] : [-1, -1], i * 2);
      confidences.set(finite ? [Math.max(p, 1 - p), Math.min(p, 1 - p)] : [0, 0], i * 2);
      if (this.labels.length > 0) losses.push(-Math.log(Math.max(leastConfidence, finite ? (this.labels[i] === 1 ? p : 1 - p) : 0)));
    }
    return {
      classes: 2,
      scores,
      top: { k: 2, labels, confidences },
      labels: this.labels.length > 0 ? Int32Array.from(this.labels) : null,
      losses: losses.length > 0 ? Float64Array.from(losses) : null,
    };
  }
}

/** Independent yes/no answers: scores and truth are kept, since ranks are asked for. */
class Answers implements Part {
  private readonly rows: Float32Array[] = [];
  private readonly truths: Float32Array[] = [];
  private readonly losses: number[] = [];
  private held = 0;

  constructor(private readonly context: PartContext) {}

  add(scores: Float32Array, n: number, { values }: Truth): void {
    const { width, kind, options } = this.context;
    if (!values) return;
    for (let i = 0; i < n; i++) {
      let loss = 0;
      for (let j = i * width; j < (i + 1) * width; j++) {
        const p = Number.isFinite(scores[j])
          ? binaryConfidence(scores[j] as number, kind === 'probabilities' ? 'probabilities' : 'logits')
          : 0.5;
        loss -= Math.log(Math.max(leastConfidence, (values.data[j] as number) > 0.5 ? p : 1 - p));
      }
      this.losses.push(loss / width);
    }
    this.held += scores.length;
    if (this.held > (options.keepElements ?? 64 * 1024 * 1024))
      throw new OctetError(
        'DATASET_TOO_LARGE',
        `The evaluation has more than ${this.held} answers: their ranks do not fit into memory`,
        {},
        {
          hint: 'Evaluate on fewer samples.',
        },
      );
    this.rows.push(scores);
    this.truths.push(values.data.slice(0, n * width));
  }

  finish(): Partial<Outputs> {
    return {
      scores: joinFloats(this.rows),
      targets: this.truths.length ? joinFloats(this.truths) : null,
      losses: Float64Array.from(this.losses),
    };
  }
}

/** Counts of classes are kept for each sample up to this many numbers. */
const mostCounts = 16 * 2 ** 20;

/** A class for every position. */
class Positions implements Part {
  private readonly layout: ClassLayout;
  private readonly counted: number[] = [];
  private readonly right: number[] = [];
  private readonly losses: number[] = [];
  private readonly byClass: { truth: Uint32Array; named: Uint32Array; both: Uint32Array }[] = [];

  constructor(private readonly context: PartContext) {
    this.layout = layoutOf(context.shape, context.output.axis ?? 1);
  }

  add(scores: Float32Array, n: number, { values }: Truth): void {
    if (!values) return;
    for (let i = 0; i < n; i++) this.addSample(scores, i, values.data);
  }

  private addSample(scores: Float32Array, sample: number, truth: Float32Array): void {
    const { width, kind, options, samples } = this.context;
    const { outer, classes, inner } = this.layout;
    const counts = { truth: new Uint32Array(classes), named: new Uint32Array(classes), both: new Uint32Array(classes) };
    let [counted, right, loss] = [0, 0, 0];
    const confidences = new Float64Array(classes);
    const position = new Float32Array(classes);
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const label = truth[sample * outer * inner + o * inner + i] as number;
        if (isIgnored(label, classes, options.ignoreIndex)) continue;
        if (label >= classes || !Number.isInteger(label)) {
          throw new OctetError(
            'DATASET_CLASSES',
            `label ${label} at position ${o * inner + i} does not fit the ${classes} classes of the model`,
            {
              sample: samples() + sample,
            },
          );
        }
        const at = sample * width + o * classes * inner + i;
        const named = largestClass(scores, at, inner, classes);
        for (let c = 0; c < classes; c++) position[c] = scores[at + c * inner] as number;
        confidencesOf(position, kind === 'probabilities' ? 'probabilities' : 'logits', confidences);
        counted++;
        counts.truth[label]!++;
        if (named >= 0) counts.named[named]!++;
        if (named === label) {
          counts.both[label]!++;
          right++;
        }
        loss -= Math.log(Math.max(leastConfidence, named < 0 ? 0 : (confidences[label] as number)));
      }
    }
    this.counted.push(counted);
    this.right.push(right);
    this.losses.push(counted ? loss / counted : 0);
    if (this.byClass.length * classes < mostCounts) this.byClass.push(counts);
  }

  finish(): Partial<Outputs> {
    const { classes } = this.layout;
    const whole = this.counted.length > 0 && this.byClass.length === this.counted.length;
    const joined = (name: keyof (typeof this.byClass)[number]) => {
      const all = new Uint32Array(this.byClass.length * classes);
      for (const [i, one] of this.byClass.entries()) all.set(one[name], i * classes);
      return all;
    };
    const positions: PositionCounts = {
      classes,
      counted: Float64Array.from(this.counted),
      right: Float64Array.from(this.right),
      byClass: whole ? { truth: joined('truth'), named: joined('named'), both: joined('both') } : null,
    };
    return {
      classes,
      positions: this.counted.length ? positions : null,
      losses: this.losses.length ? Float64Array.from(this.losses) : null,
    };
  }
}

/** Numbers to predict. */
class Values implements Part {
  private readonly rows: Float32Array[] = [];
  private readonly truths: Float32Array[] = [];
  private readonly absolute: number[] = [];
  private readonly squared: number[] = [];
  private held = 0;

  constructor(private readonly context: PartContext) {}

  add(scores: Float32Array, n: number, { values }: Truth): void {
    const { width, options } = this.context;
    if (!values) return;
    const truth = values.data;
    if (truth.length !== n * width) {
      throw new OctetError(
        'DATASET_SHAPE',
        `the model gives ${width} values a sample, the dataset has ${truth.length / n} targets a sample`,
      );
    }
    for (let i = 0; i < n; i++) {
      let [absolute, squared] = [0, 0];
      for (let j = i * width; j < (i + 1) * width; j++) {
        const error = errorOf(scores[j] as number, truth[j] as number);
        absolute += Math.abs(error);
        squared += error * error;
      }
      this.absolute.push(absolute / width);
      this.squared.push(squared / width);
    }
    this.held += scores.length;
    if (this.held > (options.keepElements ?? 64 * 1024 * 1024)) {
      this.rows.length = 0;
      this.truths.length = 0;
      return;
    }
    this.rows.push(scores);
    this.truths.push(truth.slice());
  }

  finish(): Partial<Outputs> {
    if (!this.squared.length) return {};
    const squared = Float64Array.from(this.squared);
    return {
      scores: this.rows.length ? joinFloats(this.rows) : null,
      targets: this.truths.length ? joinFloats(this.truths) : null,
      losses: squared,
      errors: { absolute: Float64Array.from(this.absolute), squared },
    };
  }
}

function joinFloats(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function joinInts(parts: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
