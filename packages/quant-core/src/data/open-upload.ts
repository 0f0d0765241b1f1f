import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import type { ClassOrder } from './class-names.js';
import type { DatasetFormat, InputSpec, SampleSpec, Upload } from './materialise.js';
import type { Part } from './parts.js';
import { type Recognised, recognise } from './recognise.js';

export interface OpenOptions {
  /** Where a directory for the flat files is made; it goes away with close(). */
  workDirectory: string;
  limits: Limits;
  /** The input the samples are for; without it they stay in their stored shape. */
  fit?: SampleSpec;
  /** The further inputs of the model: an array of its own for each of them. */
  others?: readonly InputSpec[];
  /** Images decoded at a time; the cores of the machine when left out. */
  threads?: number;
  /** Numbers of named classes: from the metadata of the model, or from the training data, which goes before the config. */
  classes?: ClassOrder;
  /** Classes that the model tells apart: labels that run from 1 to this number are brought to start at 0. */
  outputs?: number;
  /** First label, where it is known: from the training data, which goes before the config. */
  labelOffset?: 0 | 1;
  /** Which part of an archive that holds data to train on beside data to evaluate with; those to train on when left out. */
  part?: Part;
  signal?: AbortSignal;
  /** Samples laid out so far and in all. */
  onProgress?(done: number, total: number): void;
}

/** Recognise the upload and give it a directory of its own, which goes away when `use` fails. */
export async function withUpload<T>(
  path: string,
  config: DatasetConfig,
  options: OpenOptions,
  use: (upload: Upload, format: DatasetFormat, bytes: number) => Promise<T>,
): Promise<T> {
  const { limits, fit, others = [], signal, onProgress } = options;
  const name = basename(path);
  const bytes = await sizeOfFile(path, name, limits);
  const directory = await mkdtemp(join(options.workDirectory, 'dataset-'));
  let found: Found | undefined;
  try {
    found = await find(path, name, config, options, directory);
    return await use(
      {
        path: found.path,
        name: found.name,
        archive: found.archive,
        parts: found.parts,
        config,
        classes: classOrder(config, options.classes),
        limits,
        directory,
        fit,
        others,
        threads: options.threads || availableParallelism(),
        signal,
        onProgress,
      },
      found.format,
      bytes,
    );
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  } finally {
    await found?.archive?.close();
  }
}

interface Found extends Recognised {
  path: string;
  name: string;
}

/** Recognise an upload. A dataset that is a single file inside an archive is taken out into `directory`, and recognised in its turn. */
async function find(path: string, name: string, config: DatasetConfig, { limits, part }: OpenOptions, directory: string): Promise<Found> {
  const outer = await recognise(path, name, config, limits, directory, part);
  if (!('inner' in outer)) return { ...outer, path, name };
  const { archive, inner, parts } = outer;
  try {
    const file = join(directory, 'inner');
    await pipeline(archive.stream(inner), createWriteStream(file));
    const found = await recognise(file, inner.name, config, limits, directory, part);
    if (!('inner' in found)) return { ...found, path: file, name: inner.name, parts: parts ?? found.parts };
    await found.archive.close();
  } finally {
    await archive.close();
  }
  throw new OctetError(
    'DATASET_ARCHIVE',
    `"${inner.name}" is an archive inside an archive.`,
    { file: inner.name },
    { hint: 'Send the inner archive by itself.' },
  );
}

/** The training data of a job go before the config, and the config before the model. */
function classOrder({ classes }: DatasetConfig, given: ClassOrder | undefined): ClassOrder | undefined {
  if (classes === undefined || given?.from === 'training' || given?.from === 'trainingNumbers') return given;
  return { names: classes, from: 'config' };
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
