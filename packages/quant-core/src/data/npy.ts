import { isUtf8 } from 'node:buffer';
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

/** Texts of a fixed width: `U` holds UTF-32, `S` bytes; what is left of the width is zeros. */
interface TextType {
  kind: 'U' | 'S';
  bigEndian: boolean;
  /** Bytes of one element. */
  bytes: number;
}

/** The header of a .npy array. */
export interface NpyHeader {
  /** Absent for types that hold no plain numbers (text, objects, records, complex). */
  type: ElementType | undefined;
  /** Set for arrays of texts. */
  text: TextType | undefined;
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
    text: textTypeOf(kind, order === '>'),
    descr: descr === '[' ? 'a record type' : descr,
    fortran: fortran === 'True' && shape.length > 1,
    shape,
    length: 8 + (version === 1 ? 2 : 4) + length,
  };
}

function textTypeOf(kind: string | undefined, bigEndian: boolean): TextType | undefined {
  const [, letter, width] = /^([USa])(\d{1,4})$/.exec(kind ?? '') ?? [];
  if (letter === undefined || Number(width) === 0) return undefined;
  return letter === 'U' ? { kind: 'U', bigEndian, bytes: 4 * Number(width) } : { kind: 'S', bigEndian, bytes: Number(width) };
}

const typeNames: readonly (readonly [RegExp, string])[] = [
  [/O$/, 'object'],
  [/c8$/, 'complex64'],
  [/c16$/, 'complex128'],
  [/c\d+$/, 'clongdouble'],
  [/f(10|12|16)$/, 'longdouble'],
  [/[USa]\d+$/, 'text'],
  [/M8/, 'datetime64'],
  [/m8/, 'timedelta64'],
  [/V\d+$/, 'void'],
];

/** The element type, or the refusal of arrays that hold something other than numbers. */
export function numericType(header: NpyHeader, file: string): ElementType {
  if (header.type) return header.type;
  const descr = header.descr.replaceAll("'", '');
  const name = typeNames.find(([pattern]) => pattern.test(descr))?.[1];
  throw new OctetError(
    'DATASET_UNREADABLE',
    `The array "${file}" has dtype ${name === undefined ? descr : `${name} (${descr})`}, which cannot be read.`,
    { file },
    {
      hint: "Save an array of numbers, for example with array.astype('float32'); labels may be texts too, with array.astype(str).",
    },
  );
}

/** Bytes of the array after its header; `undefined` where its elements have no fixed size that is known. */
export function npyBytes(header: NpyHeader): number | undefined {
  const bytes = header.type ? dtypes[header.type.dtype].bytes : header.text?.bytes;
  return bytes === undefined ? undefined : sizeOf(header.shape) * bytes;
}

/**
 * The elements of an array of texts, in order.
 * @throws OctetError DATASET_UNREADABLE for what is not text
 */
export async function* npyTexts(reader: ByteReader, header: NpyHeader, type: TextType, file: string): AsyncGenerator<string> {
  let sample = 0;
  for await (const block of reader.blocks(sizeOf(header.shape) * type.bytes, type.bytes)) {
    for (let at = 0; at < block.length; at += type.bytes) yield textOf(block.subarray(at, at + type.bytes), type, file, sample++);
  }
  await reader.expectEnd();
}

function textOf(element: Buffer, { kind, bigEndian }: TextType, file: string, sample: number): string {
  let text = '';
  let valid = true;
  if (kind === 'S') {
    valid = isUtf8(element);
    text = element.toString('utf8');
  } else {
    for (let at = 0; at < element.length; at += 4) {
      const point = bigEndian ? element.readUInt32BE(at) : element.readUInt32LE(at);
      valid &&= point <= 0x10ffff;
      if (valid) text += String.fromCodePoint(point);
    }
  }
  if (valid) return text.replace(/\0+$/, '');
  throw new OctetError(
    'DATASET_UNREADABLE',
    `Element ${sample} of the array "${file}" is not a text in ${kind === 'S' ? 'UTF-8' : 'UTF-32'}.`,
    {
      file,
      sample,
    },
  );
}

/**
 * The elements in C order, block by block. Arrays in Fortran order take a detour over a scratch file in `directory`.
 * A block is only good until the next one is asked for.
 */
export async function* npyBlocks(reader: ByteReader, header: NpyHeader, file: string, directory: string): AsyncGenerator<Numbers> {
  const type = numericType(header, file);
  const { bytes } = dtypes[type.dtype];
  const blocks = reader.blocks(sizeOf(header.shape) * bytes, bytes);
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
