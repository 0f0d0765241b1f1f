import type { TaskName } from '../choices.js';
import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import { sizeOf } from '../tensor/tensor.js';
import type { Numbers } from './elements.js';
import { type FlatFile, FlatWriter } from './flat.js';

/** Labels beyond this are taken for values that are not classes. */
const mostClasses = 65_536;

interface ClassTargets {
  task: 'classification';
  labels: Int32Array;
  classes: number;
  counts: number[];
  names?: string[];
}

interface RowTargets {
  /** What the rows look like; the model decides in the end. */
  task: RowTask;
  /** float32, one row for each sample. */
  values: FlatFile;
  shape: number[];
  facts: RowFacts;
}

/** Tasks whose targets are rows of numbers. */
type RowTask = Exclude<TaskName, 'classification' | 'unlabelled'>;

/** What the numbers of all target rows have in common. */
export interface RowFacts {
  /** Every number is whole. */
  whole: boolean;
  min: number;
  max: number;
  /** Every row is a distribution: shares of 0 to 1 that add up to 1 (to 0.001). */
  sumsToOne: boolean;
}

export type Targets = ClassTargets | RowTargets;

/** A growing list of whole numbers. */
export class IntList {
  private data = new Int32Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.data.length) {
      const larger = new Int32Array(this.data.length * 2);
      larger.set(this.data);
      this.data = larger;
    }
    this.data[this.length++] = value;
  }

  toArray(): Int32Array {
    return this.data.slice(0, this.length);
  }
}

/** Labels → class targets with counts. `classes` is at least the largest label + 1. */
export function classTargets(labels: Int32Array, classes: number, names?: string[]): ClassTargets {
  const counts = new Array<number>(classes).fill(0);
  for (const label of labels) counts[label] = (counts[label] as number) + 1;
  return { task: 'classification', labels, classes, counts, ...(names && { names }) };
}

interface TargetSource {
  /** What the array is called in messages. */
  name: string;
  /** Whether its element type is an integer type. */
  integer: boolean;
  /** Shape of one target: [] or [1] for one number. */
  shape: readonly number[];
  task: DatasetConfig['task'];
  /** Where values are written in case they are needed. */
  path: string;
  maxBytes: number;
}

/**
 * Takes targets as they stream by and decides at the end what they are: whole numbers from 0 are class labels (rows with a single 1 among zeros are
 * one-hot labels); other rows are shares of classes, 0/1 answers, a class a position, or values to predict.
 */
export class TargetCollector {
  private readonly width: number;
  private readonly labels = new IntList();
  private largest = -1;
  /** First sample that cannot be a label, and why. */
  private refused: { sample: number; why: string } | undefined;
  private fractional = false;
  private count = 0;
  private hot = -1;
  private rowIsHot = true;
  private rowSum = 0;
  /** Every number is 0 or 255. */
  private onlyExtremes = true;
  private readonly facts: RowFacts = { whole: true, min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY, sumsToOne: true };

  private constructor(
    private readonly source: TargetSource,
    private readonly writer: FlatWriter | undefined,
  ) {
    this.width = sizeOf(source.shape);
  }

  static async create(source: TargetSource): Promise<TargetCollector> {
    const width = sizeOf(source.shape);
    if (width === 0) throw new OctetError('DATASET_LABELS', `The targets "${source.name}" have shape [${source.shape}] and hold nothing.`);
    return new TargetCollector(
      source,
      source.task === 'classification' ? undefined : await FlatWriter.create(source.path, 'float32', width, source.maxBytes),
    );
  }

  /** Targets of whole or broken samples, in order. */
  async add(values: Numbers): Promise<void> {
    for (let i = 0; i < values.length; i++) {
      const value = values[i] as number;
      if (!Number.isFinite(value)) {
        const sample = Math.floor(this.count / this.width);
        throw new OctetError('DATASET_NOT_FINITE', `The target of sample ${sample} in "${this.source.name}" is ${value}.`, { sample });
      }
      this.addFacts(value);
      if (this.width === 1) this.addLabel(value);
      else this.addHot(value);
      this.count++;
    }
    await this.writer?.write(values);
  }

  /** @throws OctetError DATASET_LABELS */
  async finish(): Promise<Targets> {
    const { task, name, shape } = this.source;
    const values = await this.writer?.finish();
    if ((task === undefined || task === 'classification') && !this.refused) {
      return classTargets(this.labels.toArray(), this.width === 1 ? this.largest + 1 : this.width);
    }
    const rows = values && this.rowTask();
    if (rows === 'dense_classification' && this.onlyExtremes && this.facts.max === 255) throw this.halfAMask();
    if (values && rows) return { task: rows, values, shape: shape.length === 0 ? [1] : [...shape], facts: this.facts };
    const { sample, why } = this.refused ?? { sample: 0, why: `is not what "task": "${task}" wants (${wanted[task as RowTask]})` };
    throw new OctetError(
      'DATASET_LABELS',
      `The target of sample ${sample} in "${name}" ${why}.`,
      { sample },
      {
        hint: 'Class labels are whole numbers from 0, or one-hot rows; labels −1 and 1 are to be written as 0 and 1. For numbers to predict, set "task": "regression" in the config of the dataset; to leave targets aside, "task": "unlabelled".',
      },
    );
  }

  /** 255 marks positions that count for nothing, so that such a mask would hold one class. */
  private halfAMask(): OctetError {
    return new OctetError(
      'DATASET_LABELS',
      `The targets "${this.source.name}" hold 0 and 255 only, and 255 marks positions that count for nothing.`,
      {},
      { hint: 'Write 1 in place of 255.' },
    );
  }

  /** What the rows are: as the config says, where they can be that. */
  private rowTask(): RowTask | undefined {
    const { task, integer } = this.source;
    const { whole, min, max, sumsToOne } = this.facts;
    const binary = whole && min >= 0 && max <= 1;
    if (task === 'regression') return task;
    if (task === 'soft_classification') return sumsToOne ? task : undefined;
    if (task === 'multi_label') return binary ? task : undefined;
    if (task === 'dense_classification') return whole ? task : undefined;
    if (task !== undefined) return undefined;
    if (this.width === 1) return !integer && this.fractional ? 'regression' : undefined;
    if (sumsToOne) return 'soft_classification';
    if (binary) return 'multi_label';
    return whole ? 'dense_classification' : 'regression';
  }

  async abandon(): Promise<void> {
    await this.writer?.abandon();
  }

  private addFacts(value: number): void {
    const { facts } = this;
    if (value < facts.min) facts.min = value;
    if (value > facts.max) facts.max = value;
    if (facts.whole && !Number.isInteger(value)) facts.whole = false;
    if (value !== 0 && value !== 255) this.onlyExtremes = false;
    this.rowSum += value;
    if ((this.count + 1) % this.width !== 0) return;
    if (Math.abs(this.rowSum - 1) > 1e-3 || facts.min < 0 || this.width === 1) facts.sumsToOne = false;
    this.rowSum = 0;
  }

  private addLabel(value: number): void {
    if (!Number.isInteger(value)) {
      this.fractional = true;
      this.refuse(`is ${value}, not a whole number`);
    } else if (value < 0) this.refuse(`is ${value}, below 0`);
    else if (value >= mostClasses) this.refuse(`is ${value}, beyond ${mostClasses} classes`);
    else if (!this.refused) {
      this.labels.push(value);
      if (value > this.largest) this.largest = value;
    }
  }

  private addHot(value: number): void {
    const column = this.count % this.width;
    if (column === 0) {
      this.hot = -1;
      this.rowIsHot = true;
    }
    if (value === 1 && this.hot < 0) this.hot = column;
    else if (value !== 0) this.rowIsHot = false;
    if (column < this.width - 1 || this.refused) return;
    if (this.rowIsHot && this.hot >= 0 && this.source.shape.filter((dim) => dim !== 1).length === 1) this.labels.push(this.hot);
    else this.refuse(`is not one number and not one-hot (shape [${this.source.shape}])`);
  }

  private refuse(why: string): void {
    this.refused ??= { sample: Math.floor(this.count / this.width), why };
  }
}

const wanted: { readonly [T in RowTask]: string } = {
  soft_classification: 'rows of shares that add up to 1',
  multi_label: 'numbers that are all 0 or 1',
  dense_classification: 'whole numbers, one a position',
  regression: 'numbers',
};
