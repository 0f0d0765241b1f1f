import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import type { NamedArrays } from './arrays.js';

/** The first bytes of the file. */
const magic = 'OCTETCP3';
const digestBytes = 32;
/** Bytes of an array that are hashed and written, or read, at a time: others may do something in between. */
const pieceBytes = 4 * 1024 * 1024;

/** Order, type and length of the arrays in a file. */
type Listing = [name: string, type: 'f4' | 'f8', length: number][];

const typeOf = (array: Float32Array | Float64Array) => (array instanceof Float32Array ? 'f4' : 'f8');
const made = { f4: (length: number) => new Float32Array(length), f8: (length: number) => new Float64Array(length) };
const bytesOf = (array: Float32Array | Float64Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/**
 * Write a JSON value and arrays: magic, length of the header in 4 bytes, the header, the arrays one after the other (little-endian), SHA-256 of all before.
 * No array is copied. Resolves when the file is whole.
 */
export async function writeArrayFile(path: string, value: unknown, arrays: NamedArrays): Promise<void> {
  const listing: Listing = Object.entries(arrays).map(([name, array]) => [name, typeOf(array), array.length]);
  const header = Buffer.from(JSON.stringify({ value, arrays: listing }));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(header.length);
  const file = await open(path, 'w');
  try {
    const hash = createHash('sha256');
    for (const bytes of [Buffer.concat([Buffer.from(magic), size, header]), ...Object.values(arrays).map(bytesOf)]) {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        const piece = bytes.subarray(at, at + pieceBytes);
        hash.update(piece);
        await file.writeFile(piece);
      }
    }
    await file.writeFile(hash.digest());
  } finally {
    await file.close();
  }
}

/** Read what `writeArrayFile` wrote. Throws CHECKPOINT_MISMATCH when the file is something else, cut off or changed. */
export async function readArrayFile(path: string): Promise<{ value: unknown; arrays: NamedArrays }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const hash = createHash('sha256');
    const start = await filled(file, Buffer.alloc(Math.min(size, magic.length + 4)), hash);
    if (start.length < magic.length + 4 || start.toString('latin1', 0, magic.length) !== magic)
      throw damaged('the file is not a checkpoint of this version of Octet');
    const headerBytes = start.readUInt32LE(magic.length);
    const rest = size - start.length - headerBytes - digestBytes;
    if (rest < 0) throw damaged('the file is cut off');
    const { value, listing } = parsed((await filled(file, Buffer.alloc(headerBytes), hash)).toString('utf8'));
    const wanted = listing.reduce((sum, [, type, length]) => sum + length * (type === 'f4' ? 4 : 8), 0);
    if (wanted !== rest) throw damaged(`its arrays take ${rest} bytes, its header says ${wanted}`);
    const arrays: Record<string, Float32Array | Float64Array> = {};
    for (const [name, type, length] of listing) {
      const array = made[type](length);
      await filled(file, bytesOf(array), hash);
      arrays[name] = array;
    }
    const digest = await filled(file, Buffer.alloc(digestBytes));
    if (!digest.equals(hash.digest())) throw damaged('its bytes are not those that were written');
    return { value, arrays };
  } finally {
    await file.close();
  }
}

/** Fill `bytes` with what comes next in the file. */
async function filled<T extends Uint8Array>(file: FileHandle, bytes: T, hash?: Hash): Promise<T> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, Math.min(pieceBytes, bytes.length - at));
    if (!bytesRead) throw damaged('the file is cut off');
    hash?.update(bytes.subarray(at, at + bytesRead));
    at += bytesRead;
  }
  return bytes;
}

function parsed(text: string): { value: unknown; listing: Listing } {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw new OctetError('CHECKPOINT_MISMATCH', 'The header of the checkpoint is damaged', {}, { cause: error });
  }
  const { value, arrays } = (header ?? {}) as { value?: unknown; arrays?: unknown };
  if (!Array.isArray(arrays) || !arrays.every(isEntry)) throw damaged('its header lists no arrays');
  return { value, listing: arrays };
}

function isEntry(entry: unknown): entry is Listing[number] {
  if (!Array.isArray(entry)) return false;
  const [name, type, length] = entry as unknown[];
  return typeof name === 'string' && (type === 'f4' || type === 'f8') && Number.isSafeInteger(length) && (length as number) >= 0;
}

const damaged = (why: string) => new OctetError('CHECKPOINT_MISMATCH', `The checkpoint cannot be read: ${why}`);
