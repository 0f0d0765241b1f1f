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

interface ValueTargets {
  task: 'regression';
  /** float32, one row for each sample. */
  values: FlatFile;
  shape: number[];
}

export type Targets = ClassTargets | ValueTargets;

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
 * Takes targets as they stream by and decides at the end what they are: whole numbers from 0 are class labels
 * (rows with a single 1 among zeros are one-hot labels), other numbers are values to regress.
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
      if (this.width === 1) this.addLabel(value);
      else this.addHot(value);
      this.count++;
    }
    await this.writer?.write(values);
  }

  /** @throws OctetError DATASET_LABELS */
  async finish(): Promise<Targets> {
    const { task, name, integer } = this.source;
    const values = await this.writer?.finish();
    if (task !== 'regression' && !this.refused) {
      return classTargets(this.labels.toArray(), this.width === 1 ? this.largest + 1 : this.width);
    }
    if (values && (task === 'regression' || this.looksLikeValues(integer))) {
      const shape = this.source.shape.length === 0 ? [1] : [...this.source.shape];
      return { task: 'regression', values, shape };
    }
    const { sample, why } = this.refused ?? { sample: 0, why: 'is not a label' };
    throw new OctetError(
      'DATASET_LABELS',
      `The target of sample ${sample} in "${name}" ${why}.`,
      { sample },
      {
        hint: 'Class labels are whole numbers from 0, or one-hot rows. For numbers to predict, set "task": "regression" in the config of the dataset; to leave targets aside, "task": "unlabelled".',
      },
    );
  }

  async abandon(): Promise<void> {
    await this.writer?.abandon();
  }

  private looksLikeValues(integer: boolean): boolean {
    return !integer && (this.width > 1 || this.fractional);
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
