import { open } from 'node:fs/promises';
import { type FileMetaData, parquetMetadataAsync, parquetScan, parquetSchema, type SchemaElement, type SchemaTree } from 'hyparquet';
import { compressors as decompressors } from 'hyparquet-compressors';
import { OctetError } from '../errors.js';
import type { DType } from '../tensor/dtype.js';
import { checkSamples, type Inspected, type Materialised, type Upload } from './materialise.js';
import type { Fields } from './record-fields.js';
import { inspectRecords, materialiseRecords, type Records } from './records.js';

/** Decoded values of one row group that are held at a time. */
const windowBytes = 64 * 1024 * 1024;
/** Columns of lists or of images are decoded a row group at a time, whatever its size. */
const mostGroupBytes = 1024 * 1024 * 1024;
const mostPageBytes = 512 * 1024 * 1024;
const mostMetadataBytes = 64 * 1024 * 1024;

type FileBuffer = Parameters<typeof parquetMetadataAsync>[0];

interface ParquetFile {
  name: string;
  buffer: FileBuffer;
  metadata: FileMetaData;
  schema: SchemaTree;
  close(): Promise<void>;
}

/** Parquet: numbers, lists of numbers or image files with a label. Read a row group at a time. */
export async function materialiseParquet(upload: Upload): Promise<Materialised> {
  return withRecords(upload, (records) => materialiseRecords(upload, records));
}

export async function inspectParquet(upload: Upload): Promise<Inspected> {
  return withRecords(upload, (records) => inspectRecords(upload, records));
}

async function withRecords<R>(upload: Upload, use: (records: Records) => Promise<R>): Promise<R> {
  const file = await openParquet(upload.path, upload.name);
  try {
    return await use(await recordsOf(file, upload));
  } finally {
    await file.close();
  }
}

async function openParquet(path: string, name: string): Promise<ParquetFile> {
  const handle = await open(path, 'r');
  const { size } = await handle.stat();
  const rangeOf = async (start: number, end: number): Promise<ArrayBuffer> => {
    if (!(start >= 0 && end >= start && end <= size)) throw new RangeError(`bytes ${start} to ${end} lie outside the file`);
    const bytes = new ArrayBuffer(end - start);
    await handle.read(new Uint8Array(bytes), 0, end - start, start);
    return bytes;
  };
  const buffer = {
    byteLength: size,
    slice: (start: number, end = size): Promise<ArrayBuffer> => {
      const range = rangeOf(start, end);
      // The reader asks for several ranges and waits for the first: a failure of another one must have somebody who takes it.
      range.catch(() => undefined);
      return range;
    },
  };
  try {
    const metadata = await readable(name, async () => {
      const length = new DataView(await buffer.slice(size - 8, size)).getUint32(0, true);
      if (length > mostMetadataBytes) throw new RangeError(`its metadata claim ${length} bytes`);
      return parquetMetadataAsync(buffer, { geoparquet: false });
    });
    const schema = await readable(name, async () => parquetSchema(metadata));
    return { name, buffer, metadata, schema, close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function recordsOf(file: ParquetFile, upload: Upload): Promise<Records> {
  const { name, metadata, schema } = file;
  const count = Number(metadata.num_rows);
  checkSamples(count, [1], upload.limits, name);
  for await (const first of rowsOf(file, undefined, 1)) {
    return {
      format: 'parquet',
      count,
      first,
      dtypeOf: (field) => dtypeOf(schema.children.find((child) => child.element.name === field)),
      classNames: (field) => classNamesOf(metadata, field),
      read: (fields) => rowsOf(file, fields, count),
    };
  }
  throw new OctetError('DATASET_EMPTY', `"${name}" holds no samples.`, { file: name });
}

/**
 * Rows with the columns `fields` (all of them when left out), up to `most`. Row groups are read in windows where their columns allow it.
 * A row is only good until the next one is asked for.
 */
async function* rowsOf(file: ParquetFile, fields: readonly string[] | undefined, most: number): AsyncGenerator<Fields> {
  const { metadata, buffer, name, schema } = file;
  const columns = [...new Set(fields ?? schema.children.map((child) => child.element.name))];
  const nested = schema.children.some((child) => columns.includes(child.element.name) && !isFlat(child));
  const options = { file: buffer, metadata, columns, compressors, parsers, utf8: false, geoparquet: false };
  const scan = await readable(name, () => parquetScan(options));
  let start = 0;
  for (const [group, { num_rows, columns: chunks }] of metadata.row_groups.entries()) {
    const rows = Math.min(Number(num_rows), most - start);
    const bytes = chunks.reduce(
      (sum, { meta_data }) => sum + (meta_data && columns.includes(meta_data.path_in_schema[0] as string) ? sizeOf(meta_data) : 0),
      0,
    );
    if (nested && bytes > mostGroupBytes) throw tooLarge(group, bytes, name);
    const window = nested ? rows : Math.max(1, Math.floor((rows * windowBytes) / Math.max(bytes, windowBytes)));
    for (let first = 0; first < rows; first += window) {
      const rowStart = start + first;
      const rowEnd = start + Math.min(rows, first + window);
      const values = await readable(name, () => Promise.all(columns.map((column) => scan.readColumn({ column, rowStart, rowEnd }))));
      const row: Record<string, unknown> = {};
      for (let i = 0; i < rowEnd - rowStart; i++) {
        for (let c = 0; c < columns.length; c++) row[columns[c] as string] = values[c]?.[i];
        yield row;
      }
    }
    start += Number(num_rows);
  }
}

/** Bytes of a column of a row group once it is decoded. */
function sizeOf({ total_uncompressed_size, num_values }: { total_uncompressed_size: bigint; num_values: bigint }): number {
  return Math.max(Number(total_uncompressed_size), 8 * Number(num_values));
}

/** A column of its own values, no list and no struct. */
function isFlat({ children, element }: SchemaTree): boolean {
  return children.length === 0 && element.repetition_type !== 'REPEATED';
}

/** Texts that are not UTF-8 are refused: nothing is replaced. */
const decoder = new TextDecoder('utf-8', { fatal: true });
const parsers = { stringFromBytes: (bytes: Uint8Array) => bytes && decoder.decode(bytes) };

/** What a page claims to unpack to is looked at before it is given room. */
const compressors = Object.fromEntries(
  Object.entries(decompressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, length: number) => {
      if (length > mostPageBytes) throw new RangeError(`a page claims to unpack to ${length} bytes`);
      return decompress(input, length);
    },
  ]),
);

async function readable<T>(name: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new OctetError(
      'DATASET_UNREADABLE',
      `The Parquet file "${name}" cannot be read: ${reason}.`,
      { file: name },
      { cause: error, hint: 'Write the file again, for example with pandas.DataFrame.to_parquet.' },
    );
  }
}

function tooLarge(group: number, bytes: number, name: string): OctetError {
  return new OctetError(
    'DATASET_TOO_LARGE',
    `Row group ${group} of "${name}" unpacks to ${bytes} bytes; lists and images are read up to ${mostGroupBytes} bytes at a time.`,
    { file: name },
    { hint: 'Write smaller row groups, for example with to_parquet(…, row_group_size=1000).' },
  );
}

const integers: Record<string, DType> = {
  UINT_8: 'uint8',
  UINT_16: 'uint16',
  UINT_32: 'uint32',
  UINT_64: 'uint64',
  INT_8: 'int8',
  INT_16: 'int16',
  INT_32: 'int32',
  INT_64: 'int64',
};

/** Element type of a column, or of the values of a column of lists. */
function dtypeOf(tree: SchemaTree | undefined): DType {
  let leaf = tree;
  while (leaf?.children.length) leaf = leaf.children[0];
  return leaf ? leafType(leaf.element) : 'float32';
}

function leafType({ type, converted_type, logical_type }: SchemaElement): DType {
  if (type === 'BOOLEAN') return 'bool';
  if (logical_type?.type === 'FLOAT16') return 'float16';
  if (converted_type === 'DECIMAL') return 'float64';
  if (type === 'FLOAT') return 'float32';
  if (type === 'DOUBLE') return 'float64';
  if (type === 'INT32') return integers[converted_type ?? ''] ?? 'int32';
  if (type === 'INT64') return integers[converted_type ?? ''] ?? 'int64';
  return 'float32';
}

/** Names of the classes of a column, as Hugging Face `datasets` writes them into the metadata (ClassLabel). */
function classNamesOf({ key_value_metadata }: FileMetaData, field: string): string[] | undefined {
  const text = key_value_metadata?.find(({ key }) => key === 'huggingface')?.value;
  if (text === undefined) return undefined;
  try {
    const features: unknown = JSON.parse(text)?.info?.features;
    const names: unknown = (features as Record<string, { names?: unknown } | undefined> | undefined)?.[field]?.names;
    return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : undefined;
  } catch {
    return undefined;
  }
}
