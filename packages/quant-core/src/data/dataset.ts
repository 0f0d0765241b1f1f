import { rm } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import { Tensor } from '../tensor/tensor.js';
import { nameLabels } from './class-names.js';
import { Column } from './column.js';
import type { StoreArray } from './elements.js';
import { fitSamples } from './fit.js';
import { FlatReader } from './flat.js';
import { labelOffsetOf, offsetAssumption, shiftLabels } from './label-offset.js';
import type { DatasetFormat, Inspected, Materialised, Upload } from './materialise.js';
import { storedArrays } from './model-check.js';
import { type OpenOptions, withUpload } from './open-upload.js';
import type { Reading } from './reading.js';
import { checkValues } from './values.js';

/** One batch. `x` is [n, …sample]; labels for one class a sample, values [n, …target] for every other kind of target. */
export interface Batch {
  /** For the first input of the model. */
  x: Tensor;
  /** For its further inputs, by their names. */
  others?: Readonly<Record<string, Tensor>>;
  labels?: Int32Array;
  values?: Tensor<'float32'>;
}

/** What a batch feeds a model whose first input is `input`. */
export function feedsOf(input: string, { x, others }: Pick<Batch, 'x' | 'others'>): Record<string, Tensor> {
  return { [input]: x, ...others };
}

/** Samples that can be read by index: a dataset, or a part of one. */
export interface Samples {
  readonly size: number;
  readonly task: DatasetSummary['task'];
  /** Labels of all samples, for classification. */
  readonly labels: Int32Array | undefined;
  /** @throws RangeError for an index outside */
  batch(indices: ArrayLike<number>): Promise<Batch>;
}

/** Each is read when an upload of its format is opened: decoders bring libraries along. */
const formats: { [F in DatasetFormat]: (upload: Upload) => Promise<Materialised> } = {
  npz: async (upload) => (await import('./npz.js')).materialiseNpz(upload),
  npy: async (upload) => (await import('./npz.js')).materialiseNpy(upload),
  idx: async (upload) => (await import('./idx.js')).materialiseIdx(upload),
  images: async (upload) => (await import('./images.js')).materialiseImages(upload),
  csv: async (upload) => (await import('./csv.js')).materialiseCsv(upload),
  jsonl: async (upload) => (await import('./jsonl.js')).materialiseJsonl(upload),
  parquet: async (upload) => (await import('./parquet.js')).materialiseParquet(upload),
};

/** Formats whose samples may have several sizes until a model is known. The others are laid out to be looked at. */
const inspections: { [F in DatasetFormat]?: (upload: Upload) => Promise<Inspected> } = {
  images: async (upload) => (await import('./images.js')).inspectImages(upload),
  jsonl: async (upload) => (await import('./jsonl.js')).inspectJsonl(upload),
  parquet: async (upload) => (await import('./parquet.js')).inspectParquet(upload),
};

/** How the labels of data are read that must mean the same as those of other data. */
export type Labelling = Pick<OpenOptions, 'classes' | 'labelOffset'>;

function labellingOf(summary: DatasetSummary, outputs: number | undefined): Labelling {
  const { task, classNames, classes = 0 } = summary;
  const labelOffset = summary.labelOffset ?? 0;
  if (task !== 'classification') return {};
  const numbers = Array.from({ length: Math.max(classes, outputs ?? 0) }, (_, i) => String(i + labelOffset));
  return { classes: classNames ? { names: classNames, from: 'training' } : { names: numbers, from: 'trainingNumbers' }, labelOffset };
}

/** Says which part of an archive with several is read. */
function sayParts({ parts }: Upload, assumptions: string[]): DatasetSummary['parts'] {
  if (!parts) return undefined;
  const { training, evaluation, aside } = parts;
  const left =
    aside.length > 0
      ? ` Left out: ${aside
          .slice(0, 5)
          .map((name) => `"${name}"`)
          .join(', ')}${aside.length > 5 ? ', …' : ''}.`
      : '';
  assumptions.push(`The archive holds data to train on ("${training.name}") and to evaluate with ("${evaluation.name}").${left}`);
  return { training: training.name, evaluation: evaluation.name };
}

/** A dataset laid out as flat files, read by index; memory does not grow with its size (labels aside). */
export class Dataset implements Samples {
  private readonly x: Column;
  private readonly others: readonly (readonly [string, Column])[];
  private readonly values: FlatReader | undefined;

  /** @param readings of the first array of samples and of the further ones, in their order */
  constructor(
    private readonly data: Materialised,
    private readonly readings: readonly Reading[],
    readonly summary: DatasetSummary,
    private readonly directory: string,
  ) {
    this.x = new Column(data.x, readings[0] as Reading);
    this.others = (data.several?.others ?? []).map(({ name, x }, i) => [name, new Column(x, readings[i + 1] as Reading)] as const);
    this.values = data.targets && data.targets.task !== 'classification' ? new FlatReader(data.targets.values) : undefined;
  }

  get size(): number {
    return this.data.x.samples;
  }

  get task(): DatasetSummary['task'] {
    return this.data.targets?.task ?? 'unlabelled';
  }

  /** Number of classes: the largest label + 1, or the columns of one-hot labels, or the class folders. */
  get classes(): number | undefined {
    return this.summary.classes;
  }

  get classNames(): string[] | undefined {
    return this.summary.classNames;
  }

  /** How other data of the same job are read, so that their class numbers mean the same: options of `openDataset`. */
  labelling(outputs: number | undefined): Labelling {
    return labellingOf(this.summary, outputs);
  }

  get labels(): Int32Array | undefined {
    return this.data.targets?.task === 'classification' ? this.data.targets.labels : undefined;
  }

  /** Bring labels that start at `offset` to start at 0: once, before samples are read. */
  countLabelsFrom(offset: 0 | 1): void {
    const { targets } = this.data;
    if (!offset || !targets) return;
    const shifted = shiftLabels(targets, offset, 'labels');
    this.data.targets = shifted;
    if (shifted.task !== 'classification') return;
    Object.assign(this.summary, { classes: shifted.classes, classCounts: shifted.counts, labelOffset: offset });
  }

  /** What was taken for granted to read the dataset, in sentences for the report. */
  get assumptions(): readonly string[] {
    return [...this.data.assumptions, ...new Set(this.readings.flatMap((reading) => reading.assumptions))];
  }

  /** Shape of one sample as `batch` gives it, for each input of the model. */
  get sampleShapes(): readonly (readonly number[])[] {
    return this.readings.map((reading) => reading.shape);
  }

  /** How the samples of the first input become what the model takes. */
  get reading(): Reading {
    return this.readings[0] as Reading;
  }

  async batch(indices: ArrayLike<number>): Promise<Batch> {
    const count = indices.length;
    const batch: Batch = { x: this.x.tensor(indices) };
    if (this.others.length) batch.others = Object.fromEntries(this.others.map(([name, column]) => [name, column.tensor(indices)]));
    const { targets } = this.data;
    if (targets?.task === 'classification') {
      batch.labels = Int32Array.from(indices, (index) => targets.labels[index] as number);
    } else if (targets && this.values) {
      const values = this.values.allocate(count);
      this.values.read(indices, values);
      batch.values = new Tensor('float32', [count, ...targets.shape], values as Float32Array);
    }
    return batch;
  }

  /** One sample as it is stored: bytes stay bytes, layout and scale as in the upload. */
  rawSample(index: number): { shape: readonly number[]; data: StoreArray } {
    return { shape: this.data.sampleShape, data: this.x.raw(index) };
  }

  /** The samples at `indices` as samples of their own. Shares files with this dataset: close that, not this. */
  subset(indices: Uint32Array): Samples {
    const labels = this.labels;
    return {
      size: indices.length,
      task: this.task,
      labels: labels && Int32Array.from(indices, (index) => labels[index] as number),
      batch: async (within) => {
        const outside = Array.from(within).find((i) => !(i >= 0 && i < indices.length));
        if (outside !== undefined) throw new RangeError(`sample ${outside} is outside the subset of ${indices.length}`);
        return this.batch(Uint32Array.from(within, (i) => indices[i] as number));
      },
    };
  }

  /** Close and remove the flat files. */
  async close(): Promise<void> {
    this.x.close();
    for (const [, column] of this.others) column.close();
    this.values?.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/**
 * Open an upload of any format that is recognised: it is streamed into flat files under `workDirectory`, checked
 * (finite, labels, counts, limits) and fitted to the model input.
 * @throws OctetError DATASET_*, CANCELLED
 */
export async function openDataset(path: string, config: DatasetConfig, options: OpenOptions): Promise<Dataset> {
  return withUpload(path, config, options, async (upload, format, bytes) => {
    checkInputs(upload, format);
    const data = await formats[format](upload);
    const summary = describe(data, upload, bytes, options);
    const specs = [upload.fit, ...upload.others];
    const readings = storedArrays(summary).map((stored, i) => fitSamples(stored, config, specs[i], upload.others.length > 0));
    [data.x, ...(data.several?.others.map((other) => other.x) ?? [])].forEach((file, i) => {
      if (specs[i]) checkValues(file, specs[i]);
    });
    const dataset = new Dataset(data, readings, summary, upload.directory);
    summary.assumptions = [...dataset.assumptions];
    return dataset;
  });
}

/**
 * Check an upload and describe it, without a model. Everything is read once; nothing is left behind.
 * @throws OctetError DATASET_*
 */
export async function inspectDataset(path: string, config: DatasetConfig, options: Omit<OpenOptions, 'fit'>): Promise<DatasetSummary> {
  const summary = await inspectPart(path, config, options);
  if (summary.parts && (options.part ?? 'training') === 'training') {
    const evaluation = await inspectPart(path, config, { ...options, part: 'evaluation', ...labellingOf(summary, options.outputs) });
    summary.evaluationSamples = evaluation.samples;
  }
  return summary;
}

async function inspectPart(path: string, config: DatasetConfig, options: Omit<OpenOptions, 'fit'>): Promise<DatasetSummary> {
  return withUpload(path, config, options, async (upload, format, bytes) => {
    const data = await (inspections[format] ?? formats[format])(upload);
    const summary = describe(data, upload, bytes, options);
    const arrays = storedArrays(summary);
    const assumed = arrays.flatMap((stored) => fitSamples(stored, config, undefined, arrays.length > 1).assumptions);
    summary.assumptions = [...data.assumptions, ...assumed];
    await rm(upload.directory, { recursive: true, force: true });
    return summary;
  });
}

/** Settle what the labels mean, and summarise. */
function describe(
  data: Inspected & Pick<Partial<Materialised>, 'several'>,
  upload: Upload,
  bytes: number,
  options: Pick<OpenOptions, 'outputs' | 'labelOffset'>,
): DatasetSummary {
  const parts = sayParts(upload, data.assumptions);
  const labelOffset = settleLabels(data, upload, options);
  return { ...summarise(data, bytes), ...(labelOffset && { labelOffset }), ...(parts && { parts }) };
}

/** Class labels as numbers from 0, with the names that config, model or training data give them. Returns what was taken off them. */
function settleLabels(data: Inspected, upload: Upload, { outputs, labelOffset }: Pick<OpenOptions, 'outputs' | 'labelOffset'>): 0 | 1 {
  const { targets, assumptions } = data;
  if (targets?.task !== 'classification' || targets.names) return 0;
  const said = labelOffset ?? upload.config.labelOffset;
  const offset = said ?? labelOffsetOf(targets.counts, outputs);
  if (offset && said === undefined) assumptions.push(offsetAssumption(outputs as number));
  data.targets = nameLabels(shiftLabels(targets, offset, upload.name), upload.classes, assumptions, upload.name);
  return offset;
}

/** Only an .npz has room for several inputs. */
function checkInputs({ fit, others, name }: Upload, format: DatasetFormat): void {
  if (!others.length || format === 'npz') return;
  const inputs = [fit, ...others].map((input) => `"${input?.name}"`).join(', ');
  throw new OctetError('DATASET_INPUTS', `The model has the inputs ${inputs}; "${name}" is ${format}, which holds samples for one input.`, {
    file: name,
  });
}

function summarise(data: Inspected & Pick<Partial<Materialised>, 'several'>, bytes: number): DatasetSummary {
  const { format, sampleShape, dtype, samples, range, targets, imageSizes, several } = data;
  return {
    format,
    samples,
    sampleShape,
    dtype,
    ...(several && {
      inputs: [
        { name: several.name, sampleShape, dtype, range },
        ...several.others.map(({ x, ...other }) => ({
          name: other.name,
          sampleShape: other.sampleShape,
          dtype: other.dtype,
          range: { min: x.min, max: x.max },
        })),
      ],
    }),
    task: targets?.task ?? 'unlabelled',
    ...(targets?.task === 'classification' && {
      classes: targets.classes,
      classCounts: targets.counts,
      ...(targets.names && { classNames: targets.names }),
    }),
    ...(targets && targets.task !== 'classification' && { targetShape: targets.shape, targetFacts: targets.facts }),
    ...(imageSizes && { imageSizes }),
    range,
    bytes,
  };
}
