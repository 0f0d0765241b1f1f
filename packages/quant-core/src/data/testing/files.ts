import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ErrorCode, OctetError } from '../../errors.js';
import { defaultLimits } from '../../events.js';
import type { SampleSpec } from '../materialise.js';

/** A scratch directory for one test file, with what opening datasets needs. */
export class Bench {
  readonly limits = defaultLimits;
  private made = 0;

  private constructor(readonly workDirectory: string) {}

  static async create(): Promise<Bench> {
    return new Bench(await mkdtemp(join(tmpdir(), 'octet-data-')));
  }

  /** Write bytes to a file without a telling name. */
  async file(data: Buffer | string): Promise<string> {
    const path = join(this.workDirectory, `upload-${this.made++}`);
    await writeFile(path, data);
    return path;
  }

  async remove(): Promise<void> {
    await rm(this.workDirectory, { recursive: true, force: true });
  }
}

/** A .npy file, format version 1 or as told. */
export function npy(
  descr: string,
  shape: readonly number[],
  data: Buffer,
  options: { fortran?: boolean; version?: number; header?: string } = {},
): Buffer {
  const { fortran = false, version = 1 } = options;
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = options.header ?? `{'descr': '${descr}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': (${tuple}), }`;
  const fixed = version === 1 ? 10 : 12;
  const padded = `${text}${' '.repeat(63 - ((fixed + text.length) % 64))}\n`;
  const start = Buffer.alloc(fixed);
  start.write('\x93NUMPY', 0, 'latin1');
  start[6] = version;
  if (version === 1) start.writeUInt16LE(padded.length, 8);
  else start.writeUInt32LE(padded.length, 8);
  return Buffer.concat([start, Buffer.from(padded), data]);
}

/** The bytes of a typed array. */
export function bytesOf(array: ArrayBufferView): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

/** An IDX file of unsigned bytes. */
export function idx(shape: readonly number[], data: Buffer, type = 0x08): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header[2] = type;
  header[3] = shape.length;
  shape.forEach((dim, axis) => {
    header.writeUInt32BE(dim, 4 + 4 * axis);
  });
  return Buffer.concat([header, data]);
}

export function spec(...shape: (number | undefined)[]): SampleSpec {
  return { shape, dtype: 'float32' };
}

/** Run something that must fail with this code, and give back its error. */
export async function failure(code: ErrorCode, run: () => unknown): Promise<OctetError> {
  let result: unknown;
  try {
    result = await run();
  } catch (error) {
    if (error instanceof OctetError && error.code === code) return error;
    throw error;
  }
  throw new Error(`expected ${code}, got ${JSON.stringify(result)}`);
}
