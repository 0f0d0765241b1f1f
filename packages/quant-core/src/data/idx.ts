import { stat } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import type { DType } from '../tensor/dtype.js';
import { dtypes } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/tensor.js';
import { decodeElements, type Numbers } from './elements.js';
import { checkSamples, checkUnlabelled, collectTargets, type Materialised, stateOf, type Upload, writeSamples } from './materialise.js';
import { ByteReader, type ByteSource, fileBytes, gunzipped, headOf, isGzip, unpackedLimit } from './stream.js';

const types: Record<number, DType> = { 8: 'uint8', 9: 'int8', 11: 'int16', 12: 'int32', 13: 'float32', 14: 'float64' };
const mostDims = 8;

/** One IDX file: its header, and how to read it from the start. */
interface IdxFile {
  name: string;
  dtype: DType;
  shape: number[];
  source: () => ByteSource;
}

/** Whether bytes start as an IDX file (two zeros, a type code, the number of dimensions). */
export function isIdx(head: Buffer): boolean {
  return (
    head.length >= 4 &&
    head[0] === 0 &&
    head[1] === 0 &&
    types[head[2] as number] !== undefined &&
    (head[3] as number) >= 1 &&
    (head[3] as number) <= mostDims
  );
}

/**
 * IDX as MNIST has it: a single file of samples, or samples and labels in a zip; each may be gzipped.
 * Pairs are found by name (…images… with …labels…) where the zip holds more than one of a kind.
 */
export async function materialiseIdx(upload: Upload): Promise<Materialised> {
  const files = await filesOf(upload);
  const x = chooseSamples(files, upload);
  const y = upload.config.task === 'unlabelled' ? undefined : chooseLabels(files, x, upload);
  if (!y) checkUnlabelled(upload, 'no file of labels');
  const [count = 0, ...shape] = x.shape;
  const sampleShape = checkSamples(count, shape, upload.limits, x.name);
  const targets =
    y &&
    (await withBlocks(y, (blocks) =>
      collectTargets(upload, blocks, { name: y.name, dtype: y.dtype, count: y.shape[0] as number, shape: y.shape.slice(1) }, count),
    ));
  const file = await withBlocks(x, (blocks) => writeSamples(upload, blocks, x.dtype, count, sampleShape));
  return { format: 'idx', dtype: x.dtype, sampleShape, ...stateOf(file), targets, assumptions: [] };
}

async function filesOf(upload: Upload): Promise<IdxFile[]> {
  if (!upload.archive) {
    const { size } = await stat(upload.path);
    return [await openIdx(upload.name, size, () => fileBytes(upload.path), upload)];
  }
  const { archive } = upload;
  const files: IdxFile[] = [];
  for (const entry of archive.entries) {
    const source = () => archive.stream(entry);
    const head = await headOf(source(), 4);
    if (isIdx(head) || isGzip(head)) files.push(await openIdx(entry.name, entry.size, source, upload));
  }
  return files;
}

async function openIdx(name: string, size: number, source: () => ByteSource, upload: Upload): Promise<IdxFile> {
  const packed = isGzip(await headOf(source(), 3));
  const bytes = packed ? () => gunzipped(source(), unpackedLimit(size, upload.limits), name) : source;
  const reader = new ByteReader(bytes(), name);
  try {
    const { dtype, shape, length } = await readHeader(reader, name);
    const stated = sizeOf(shape) * dtypes[dtype].bytes;
    if (!packed && stated !== size - length) {
      throw new OctetError(
        'DATASET_UNREADABLE',
        `"${name}" states shape [${shape}] of ${dtype}, ${stated} bytes, but holds ${size - length}.`,
        { file: name },
      );
    }
    return { name, dtype, shape, source: bytes };
  } finally {
    await reader.close();
  }
}

async function readHeader(reader: ByteReader, name: string): Promise<{ dtype: DType; shape: number[]; length: number }> {
  const magic = await reader.take(4);
  if (!isIdx(magic))
    throw new OctetError('DATASET_UNREADABLE', `"${name}" is not an IDX file: its magic number is 0x${magic.toString('hex')}.`, {
      file: name,
    });
  const rank = magic[3] as number;
  const dims = await reader.take(4 * rank);
  const shape = Array.from({ length: rank }, (_, axis) => dims.readUInt32BE(axis * 4));
  if (!Number.isSafeInteger(sizeOf(shape) * 8))
    throw new OctetError('DATASET_UNREADABLE', `"${name}" states the impossible shape [${shape}].`, { file: name });
  return { dtype: types[magic[2] as number] as DType, shape, length: 4 + 4 * rank };
}

async function withBlocks<T>(file: IdxFile, use: (blocks: AsyncGenerator<Numbers>) => Promise<T>): Promise<T> {
  const reader = new ByteReader(file.source(), file.name);
  try {
    await readHeader(reader, file.name);
    return await use(idxBlocks(reader, file));
  } finally {
    await reader.close();
  }
}

async function* idxBlocks(reader: ByteReader, file: IdxFile): AsyncGenerator<Numbers> {
  const { bytes } = dtypes[file.dtype];
  for await (const block of reader.blocks(sizeOf(file.shape) * bytes, bytes))
    yield decodeElements(block, { dtype: file.dtype, bigEndian: true });
  await reader.expectEnd();
}

function chooseSamples(files: readonly IdxFile[], upload: Upload): IdxFile {
  if (upload.config.x !== undefined) return configured(files, upload.config.x, 'x');
  const samples = files.filter((file) => file.shape.length > 1 && !sameFile(file.name, upload.config.y));
  if (samples.length === 1) return samples[0] as IdxFile;
  if (samples.length > 1) throw ambiguous(samples, 'samples', 'x', upload);
  throw new OctetError(
    'DATASET_UNREADABLE',
    `"${upload.name}" holds labels only (IDX files with one dimension), no samples.`,
    { file: upload.name },
    {
      hint: 'Zip the file of images together with the file of labels.',
    },
  );
}

function chooseLabels(files: readonly IdxFile[], x: IdxFile, upload: Upload): IdxFile | undefined {
  if (upload.config.y !== undefined) return configured(files, upload.config.y, 'y');
  const labels = files.filter((file) => file !== x && file.shape.length === 1);
  if (labels.length <= 1) return labels[0];
  const partners = labels.filter((file) => pairKey(file.name) === pairKey(x.name));
  if (partners.length !== 1) throw ambiguous(labels, 'labels', 'y', upload);
  return partners[0];
}

/** Name without what tells images from labels: both of a pair give the same. */
function pairKey(name: string): string {
  return name.toLowerCase().replace(/images?|labels?|idx\d|\.gz$/g, '');
}

function sameFile(name: string, wish: string | undefined): boolean {
  return wish !== undefined && (name === wish || name === `${wish}.gz` || name.endsWith(`/${wish}`));
}

function configured(files: readonly IdxFile[], wish: string, key: 'x' | 'y'): IdxFile {
  const file = files.find((f) => f.name === wish) ?? files.find((f) => sameFile(f.name, wish));
  if (file) return file;
  const names = files.map((f) => `"${f.name}"`).join(', ');
  throw new OctetError('DATASET_CONFIG', `There is no IDX file "${wish}"; there are ${names}.`, { file: wish, pointer: `/${key}` });
}

function ambiguous(files: readonly IdxFile[], what: string, key: 'x' | 'y', upload: Upload): OctetError {
  const names = files.map((file) => `"${file.name}"`).join(', ');
  return new OctetError(
    'DATASET_AMBIGUOUS',
    `"${upload.name}" holds several files of ${what}: ${names}.`,
    { file: upload.name },
    { hint: `Name one in the config of the dataset: {"${key}": "…"}.` },
  );
}
