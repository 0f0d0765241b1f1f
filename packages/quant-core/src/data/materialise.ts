import { join } from 'node:path';
import { OctetError } from '../errors.js';
import type { DatasetSummary, Limits } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import type { DType } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/tensor.js';
import type { OpenArchive } from './archive.js';
import type { ClassOrder } from './class-names.js';
import { type Numbers, storeTypeOf } from './elements.js';
import { type FlatFile, FlatWriter } from './flat.js';
import type { Parts } from './parts.js';
import { heed } from './stream.js';
import { TargetCollector, type Targets } from './targets.js';

export type DatasetFormat = DatasetSummary['format'];

/** What the column, field or array of labels is called as a rule. */
export const labelWords = /^(label|labels|class|target|y)$/i;

/** Element types that an input of a model may have. */
export const inputTypes = ['float32', 'int64', 'int32', 'int16', 'int8', 'uint16', 'uint8', 'bool'] as const;
export type InputType = (typeof inputTypes)[number];

/** What a sample is for an input of a model. */
export interface SampleSpec {
  /** The input without its batch dimension; `undefined` is a free size. */
  shape: readonly (number | undefined)[];
  dtype: InputType;
  /** Name of the input in the model. */
  name?: string;
  /** Rows of the smallest table in which the model looks the values up, and the name of the table. */
  table?: { name: string; rows: number };
}

/** One of several inputs of a model. */
export type InputSpec = SampleSpec & { name: string };

/** What a format is given to lay an upload out as flat files. */
export interface Upload {
  path: string;
  /** File name for messages. */
  name: string;
  /** Set when the upload is a zip or a tar. */
  archive: OpenArchive | undefined;
  /** Set when `archive` is one of several parts of the upload. */
  parts: Parts | undefined;
  config: DatasetConfig;
  /** Numbers of named classes, where somebody else than the dataset says them. */
  classes: ClassOrder | undefined;
  limits: Limits;
  /** Directory for the flat files. */
  directory: string;
  fit: SampleSpec | undefined;
  /** The further inputs of the model. */
  others: readonly InputSpec[];
  threads: number;
  signal: AbortSignal | undefined;
  onProgress: ((done: number, total: number) => void) | undefined;
}

/** What reading an upload through tells about it. */
export interface Inspected {
  format: DatasetFormat;
  /** Element type in the upload. */
  dtype: DType;
  sampleShape: number[];
  samples: number;
  /** Of the stored values. */
  range: { min: number; max: number };
  targets: Targets | undefined;
  /** Images: smallest and largest [height, width] where they were looked at. */
  imageSizes?: { smallest: [number, number]; largest: [number, number] };
  /** What was taken for granted, in words for the report. */
  assumptions: string[];
}

/** An array of samples beside the first one. */
export interface FurtherArray {
  name: string;
  dtype: DType;
  sampleShape: number[];
  x: FlatFile;
}

/** An upload as flat files. */
export interface Materialised extends Inspected {
  x: FlatFile;
  /** Name of `x` in an upload with several arrays of samples, and the others. */
  several?: { name: string; others: FurtherArray[] };
}

/** What a finished flat file of samples tells. */
export function stateOf(x: FlatFile): Pick<Materialised, 'x' | 'samples' | 'range'> {
  return { x, samples: x.samples, range: { min: x.min, max: x.max } };
}

/** A sample may not hold more elements than this: one batch has to fit in memory. */
const mostElements = 64 * 1024 * 1024;

/** Check count and size of samples before anything is written. A sample of shape [] becomes [1]. */
export function checkSamples(count: number, shape: readonly number[], limits: Limits, file: string): number[] {
  if (count === 0) throw new OctetError('DATASET_EMPTY', `"${file}" holds no samples.`, { file });
  if (count > limits.datasetSamples) {
    throw new OctetError('DATASET_TOO_LARGE', `"${file}" holds ${count} samples; the limit is ${limits.datasetSamples}.`, { file });
  }
  const elements = sizeOf(shape);
  if (elements === 0)
    throw new OctetError('DATASET_EMPTY', `The samples in "${file}" have shape [${shape}] and hold no elements.`, { file });
  if (!Number.isSafeInteger(elements) || elements > mostElements) {
    throw new OctetError(
      'DATASET_TOO_LARGE',
      `A sample in "${file}" has shape [${shape}]; at most ${mostElements} elements are possible.`,
      { file },
    );
  }
  return shape.length === 0 ? [1] : [...shape];
}

/** Blocks of decoded samples → the flat file of x, with progress and cancellation. */
export async function writeSamples(
  upload: Upload,
  blocks: AsyncIterable<Numbers>,
  dtype: DType,
  count: number,
  shape: readonly number[],
  file = 'x.bin',
): Promise<FlatFile> {
  const writer = await FlatWriter.create(join(upload.directory, file), storeTypeOf(dtype), sizeOf(shape), upload.limits.archiveBytes);
  try {
    for await (const block of blocks) {
      heed(upload.signal);
      await writer.write(block);
      upload.onProgress?.(writer.samples, count);
    }
    return await writer.finish();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** Blocks of decoded targets → labels or values. `count` is the number of samples they must match. */
export async function collectTargets(
  upload: Upload,
  blocks: AsyncIterable<Numbers>,
  target: { name: string; dtype: DType; count: number; shape: readonly number[] },
  count: number,
): Promise<Targets> {
  if (target.count !== count) {
    throw new OctetError('DATASET_LABELS', `There are ${count} samples but ${target.count} targets in "${target.name}".`, {
      file: target.name,
    });
  }
  const integer = !target.dtype.startsWith('float');
  const { task } = upload.config;
  const collector = await TargetCollector.create({
    name: target.name,
    integer,
    shape: target.shape,
    task,
    path: join(upload.directory, 'y.bin'),
    maxBytes: upload.limits.archiveBytes,
  });
  try {
    for await (const block of blocks) {
      heed(upload.signal);
      await collector.add(block);
    }
    return await collector.finish();
  } catch (error) {
    await collector.abandon();
    throw error;
  }
}

/** Without targets only task "unlabelled" is possible. */
export function checkUnlabelled(upload: Upload, expected: string): void {
  const { task } = upload.config;
  if (task && task !== 'unlabelled')
    throw new OctetError('DATASET_LABELS', `The config says "${task}", but ${expected} was found in "${upload.name}".`, {
      file: upload.name,
    });
}
