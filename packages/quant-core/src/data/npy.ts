import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { OctetError } from '../errors.js';
import type { DType } from '../tensor/dtype.js';
import { dtypes } from '../tensor/dtype.js';
import { sizeOf, stridesOf } from '../tensor/tensor.js';
import { decodeElements, type ElementType, type Numbers } from './elements.js';
import type { ByteReader } from './stream.js';

/** Longest header that is read; NumPy's own are below 1 KiB. */
const mostHeaderBytes = 64 * 1024;
const transposeBytes = 32 * 1024 * 1024;

const kinds: Record<string, DType> = {
  b1: 'bool',
  i1: 'int8',
  u1: 'uint8',
  i2: 'int16',
  u2: 'uint16',
  i4: 'int32',
  u4: 'uint32',
  i8: 'int64',
  u8: 'uint64',
  f2: 'float16',
  f4: 'float32',
  f8: 'float64',
};

/** The header of a .npy array. */
export interface NpyHeader {
  /** Absent for types that hold no plain numbers (text, objects, records, complex). */
  type: ElementType | undefined;
  /** The type as NumPy writes it. */
  descr: string;
  fortran: boolean;
  shape: number[];
  /** Bytes in front of the data. */
  length: number;
}

/** Whether bytes start as a .npy file. */
export function isNpy(head: Buffer): boolean {
  return head.length >= 6 && head[0] === 0x93 && head.toString('latin1', 1, 6) === 'NUMPY';
}

/**
 * Read the header (format versions 1 to 3, numpy.lib.format).
 * @throws OctetError DATASET_UNREADABLE
 */
export async function readNpyHeader(reader: ByteReader, file: string): Promise<NpyHeader> {
  const broken = (why: string) => new OctetError('DATASET_UNREADABLE', `"${file}" is not a readable .npy array: ${why}.`, { file });
  const start = await reader.take(8);
  if (!isNpy(start)) throw broken('the magic bytes are missing');
  const version = start[6] as number;
  if (version < 1 || version > 3) throw broken(`format version ${version} is not known`);
  const length = version === 1 ? (await reader.take(2)).readUInt16LE(0) : (await reader.take(4)).readUInt32LE(0);
  if (length > mostHeaderBytes) throw broken(`its header claims ${length} bytes`);
  const text = (await reader.take(length)).toString(version === 3 ? 'utf8' : 'latin1');
  const descr = /'descr'\s*:\s*('[^']*'|\[)/.exec(text)?.[1];
  const fortran = /'fortran_order'\s*:\s*(True|False)/.exec(text)?.[1];
  const dims = /'shape'\s*:\s*\(([\d\s,L]*)\)/.exec(text)?.[1];
  if (descr === undefined || fortran === undefined || dims === undefined) throw broken('its header lacks descr, fortran_order or shape');
  const shape = dims
    .split(',')
    .map((dim) => dim.trim().replace(/L$/, ''))
    .filter((dim) => dim !== '')
    .map(Number);
  if (shape.length > 32 || !shape.every(Number.isSafeInteger) || !Number.isSafeInteger(sizeOf(shape) * 8))
    throw broken(`its shape (${dims}) is impossible`);
  const [, order, kind] = /^'([<>|=]?)(.*)'$/.exec(descr) ?? [];
  const dtype = kinds[kind ?? ''];
  return {
    type: dtype && { dtype, bigEndian: order === '>' },
    descr: descr === '[' ? 'a record type' : descr,
    fortran: fortran === 'True' && shape.length > 1,
    shape,
    length: 8 + (version === 1 ? 2 : 4) + length,
  };
}

/** The element type, or the refusal of arrays that hold no numbers. */
export function numericType(header: NpyHeader, file: string): ElementType {
  if (header.type) return header.type;
  throw new OctetError(
    'DATASET_UNREADABLE',
    `"${file}" has the element type ${header.descr}, which holds no plain numbers.`,
    { file },
    {
      hint: "Save a numeric array, for example with array.astype('float32'); arrays of objects and text cannot be read.",
    },
  );
}

/** Bytes of the array behind its header. */
export function npyBytes(header: NpyHeader, type: ElementType): number {
  return sizeOf(header.shape) * dtypes[type.dtype].bytes;
}

/**
 * The elements in C order, block by block. Arrays in Fortran order take a detour over a scratch file in `directory`.
 * A block is only good until the next one is asked for.
 */
export async function* npyBlocks(reader: ByteReader, header: NpyHeader, file: string, directory: string): AsyncGenerator<Numbers> {
  const type = numericType(header, file);
  const { bytes } = dtypes[type.dtype];
  const blocks = reader.blocks(npyBytes(header, type), bytes);
  if (header.fortran) yield* transposed(blocks, header.shape, type, join(directory, 'fortran.bin'));
  else for await (const block of blocks) yield decodeElements(block, type);
  await reader.expectEnd();
}

/**
 * Fortran order to C order. Element (i, j…) lies at i + n · (its place among the samples' elements, first axis fastest),
 * so one element of a run of samples is one read.
 */
async function* transposed(
  blocks: AsyncIterable<Buffer>,
  shape: readonly number[],
  type: ElementType,
  path: string,
): AsyncGenerator<Numbers> {
  const file = await open(path, 'w+');
  try {
    for await (const block of blocks) await file.writeFile(block);
    const [samples = 0, ...inner] = shape;
    const elements = sizeOf(inner);
    const { bytes } = dtypes[type.dtype];
    const places = fortranPlaces(inner);
    const most = Math.max(1, Math.floor(transposeBytes / (elements * bytes)));
    for (let first = 0; first < samples; first += most) {
      const count = Math.min(most, samples - first);
      const out = Buffer.from(new ArrayBuffer(count * elements * bytes));
      const run = Buffer.alloc(count * bytes);
      for (let element = 0; element < elements; element++) {
        await file.read(run, 0, run.length, ((places[element] as number) * samples + first) * bytes);
        for (let i = 0; i < count; i++) run.copy(out, (i * elements + element) * bytes, i * bytes, (i + 1) * bytes);
      }
      yield decodeElements(out, type);
    }
  } finally {
    await file.close();
  }
}

/** For every element in C order, its place in Fortran order. */
function fortranPlaces(shape: readonly number[]): Uint32Array {
  const strides = stridesOf(shape);
  const steps = stridesOf([...shape].reverse()).reverse();
  return Uint32Array.from({ length: sizeOf(shape) }, (_, element) =>
    shape.reduce((place, dim, axis) => place + (Math.floor(element / (strides[axis] as number)) % dim) * (steps[axis] as number), 0),
  );
}
