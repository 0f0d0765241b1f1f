import { mkdtemp, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { OctetError } from '../errors.js';
import type { DatasetSummary, Limits } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import { Tensor } from '../tensor/tensor.js';
import { materialiseCsv } from './csv.js';
import type { StoreArray } from './elements.js';
import { fitSamples } from './fit.js';
import { FlatReader } from './flat.js';
import { materialiseIdx } from './idx.js';
import { inspectImages, materialiseImages } from './images.js';
import type { DatasetFormat, Inspected, Materialised, SampleSpec, Upload } from './materialise.js';
import { materialiseNpy, materialiseNpz } from './npz.js';
import type { Reading } from './reading.js';
import { recognise } from './recognise.js';
import { type Convert, converter } from './scaling.js';

/** One batch. `x` is [n, …sample]; labels for classification, values [n, …target] for regression. */
export interface Batch {
  x: Tensor<'float32'>;
  labels?: Int32Array;
  values?: Tensor<'float32'>;
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

interface OpenOptions {
  /** Where a directory for the flat files is made; it goes away with close(). */
  workDirectory: string;
  limits: Limits;
  /** The input the samples are for; without it they stay in their stored shape. */
  fit?: SampleSpec;
  /** Images decoded at a time; the cores of the machine when left out. */
  threads?: number;
  signal?: AbortSignal;
  /** Samples laid out so far and in all. */
  onProgress?(done: number, total: number): void;
}

const formats: { [F in DatasetFormat]: (upload: Upload) => Promise<Materialised> } = {
  npz: materialiseNpz,
  npy: materialiseNpy,
  idx: materialiseIdx,
  images: materialiseImages,
  csv: materialiseCsv,
};

/** A dataset laid out as flat files, read by index; memory does not grow with its size (labels aside). */
export class Dataset implements Samples {
  private readonly x: FlatReader;
  private readonly values: FlatReader | undefined;
  private readonly convert: Convert;
  private scratch: StoreArray | undefined;

  constructor(
    private readonly data: Materialised,
    private readonly reading: Reading,
    readonly summary: DatasetSummary,
    private readonly directory: string,
  ) {
    this.x = new FlatReader(data.x);
    this.values = data.targets?.task === 'regression' ? new FlatReader(data.targets.values) : undefined;
    this.convert = converter(reading, data.x.elements);
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

  get labels(): Int32Array | undefined {
    return this.data.targets?.task === 'classification' ? this.data.targets.labels : undefined;
  }

  /** What was taken for granted to read the dataset, in sentences for the report. */
  get assumptions(): readonly string[] {
    return [...this.data.assumptions, ...this.reading.assumptions];
  }

  /** Shape of one sample as `batch` gives it. */
  get sampleShape(): readonly number[] {
    return this.reading.shape;
  }

  async batch(indices: ArrayLike<number>): Promise<Batch> {
    const count = indices.length;
    const { elements } = this.data.x;
    if (!this.scratch || this.scratch.length < count * elements) this.scratch = this.x.allocate(count);
    const raw = this.scratch.subarray(0, count * elements) as StoreArray;
    this.x.read(indices, raw);
    const x = new Float32Array(count * elements);
    this.convert(raw, x, count);
    const batch: Batch = { x: new Tensor('float32', [count, ...this.reading.shape], x) };
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
    const data = this.x.allocate(1);
    this.x.read([index], data);
    return { shape: this.data.sampleShape, data };
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
    const data = await formats[format](upload);
    const summary = summarise(data, bytes);
    const reading = fitSamples(summary, config, upload.fit);
    summary.assumptions = [...data.assumptions, ...reading.assumptions];
    return new Dataset(data, reading, summary, upload.directory);
  });
}

/**
 * Check an upload and describe it, without a model. Everything is read once; nothing is left behind.
 * @throws OctetError DATASET_*
 */
export async function inspectDataset(path: string, config: DatasetConfig, options: Omit<OpenOptions, 'fit'>): Promise<DatasetSummary> {
  return withUpload(path, config, options, async (upload, format, bytes) => {
    const data = await (format === 'images' ? inspectImages(upload) : formats[format](upload));
    const summary = summarise(data, bytes);
    summary.assumptions = [...data.assumptions, ...fitSamples(summary, config, undefined).assumptions];
    await rm(upload.directory, { recursive: true, force: true });
    return summary;
  });
}

/** Recognise the upload and give it a directory of its own, which goes away when `use` fails. */
async function withUpload<T>(
  path: string,
  config: DatasetConfig,
  options: OpenOptions,
  use: (upload: Upload, format: DatasetFormat, bytes: number) => Promise<T>,
): Promise<T> {
  const { limits, fit, signal, onProgress } = options;
  const name = basename(path);
  const bytes = await sizeOfFile(path, name, limits);
  const { format, archive } = await recognise(path, name, config, limits);
  const directory = await mkdtemp(join(options.workDirectory, 'dataset-'));
  try {
    return await use(
      { path, name, archive, config, limits, directory, fit, threads: options.threads || availableParallelism(), signal, onProgress },
      format,
      bytes,
    );
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  } finally {
    await archive?.close();
  }
}

async function sizeOfFile(path: string, name: string, limits: Limits): Promise<number> {
  const file = await stat(path).catch((error: unknown) => {
    throw OctetError.from(error, 'DATASET_UNREADABLE', { file: name });
  });
  if (!file.isFile()) throw new OctetError('DATASET_UNREADABLE', `"${name}" is not a file; zip a folder to send it.`, { file: name });
  if (file.size > limits.datasetBytes)
    throw new OctetError('DATASET_TOO_LARGE', `"${name}" has ${file.size} bytes; the limit is ${limits.datasetBytes}.`, { file: name });
  return file.size;
}

function summarise(data: Inspected, bytes: number): DatasetSummary {
  const { format, sampleShape, dtype, samples, range, targets, imageSizes } = data;
  return {
    format,
    samples,
    sampleShape,
    dtype,
    task: targets?.task ?? 'unlabelled',
    ...(targets?.task === 'classification' && {
      classes: targets.classes,
      classCounts: targets.counts,
      ...(targets.names && { classNames: targets.names }),
    }),
    ...(targets?.task === 'regression' && { targetShape: targets.shape }),
    ...(imageSizes && { imageSizes }),
    range,
    bytes,
  };
}
