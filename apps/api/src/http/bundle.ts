import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ServiceError } from '@octet/contracts';
import type { StagedFile, StageLimits, Staging } from './staging.js';

/** From here on the 32-bit fields of a zip are full, and the real number stands in the zip64 extra field. */
const full = 0xffffffff;
/** 1 January 1980, the first day of a zip: the same files give the same archive. */
const firstDay = 0x21;

/**
 * A model and the files of its external data as one zip, stored and not packed, which is how models of several files are kept: the same files always give the same bytes.
 * A model that came alone stays as it is.
 * @throws ServiceError MULTIPART_INVALID where two files have one name, MODEL_TOO_LARGE
 */
export async function bundleModel(
  staging: Staging,
  model: StagedFile,
  external: readonly StagedFile[],
  limits: StageLimits,
): Promise<StagedFile> {
  if (external.length === 0) return model;
  const stem = model.fileName.replace(/\.onnx$/i, '') || 'model';
  const entries = [{ name: `${stem}.onnx`, file: model }, ...external.map((file) => ({ name: file.fileName, file }))];
  const names = new Set<string>();
  for (const { name } of entries) {
    if (name === '')
      throw new ServiceError('MULTIPART_INVALID', 'A part "external" has no file name.', {
        hint: 'Give it the name that the model stores for its weights, such as model.onnx.data.',
      });
    if (names.has(name)) throw new ServiceError('MULTIPART_INVALID', `Two files of the model are called "${name}".`);
    names.add(name);
  }
  const bytes = entries.reduce((sum, { file }) => sum + file.bytes, 0);
  if (bytes > limits.bytes)
    throw new ServiceError(limits.code, `The model and its external data have ${bytes} bytes, and the limit is ${limits.bytes}.`);
  const sorted = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1));
  const path = join(staging.directory, 'bundle.zip');
  const target = await open(path, 'wx', 0o600);
  try {
    await writeZip(target, sorted);
  } finally {
    await target.close();
  }
  return staging.write(createReadStream(path), 'model', `${stem}.zip`, { ...limits, bytes: Number.POSITIVE_INFINITY });
}

interface Placed {
  name: Buffer;
  crc: number;
  bytes: number;
  offset: number;
}

/** Local headers with the files, directory, end record (APPNOTE 6.3: 4.3.7, 4.3.12, 4.3.14 to 4.3.16). */
async function writeZip(target: FileHandle, entries: readonly { name: string; file: StagedFile }[]): Promise<void> {
  const placed: Placed[] = [];
  let at = 0;
  const put = async (bytes: Uint8Array) => {
    await target.write(bytes, 0, bytes.length, at);
    at += bytes.length;
  };
  for (const { name, file } of entries) {
    const entry = { name: Buffer.from(name), crc: await crcOf(file.path), bytes: file.bytes, offset: at };
    placed.push(entry);
    const { fields, extra } = fieldsOf(entry, [entry.bytes, entry.bytes]);
    await put(Buffer.concat([u32(0x04034b50), fields, entry.name, extra]));
    for await (const chunk of createReadStream(file.path) as AsyncIterable<Buffer>) await put(chunk);
  }
  const start = at;
  for (const entry of placed) {
    const { fields, extra } = fieldsOf(entry, [entry.bytes, entry.bytes, entry.offset]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(Math.min(entry.offset, full), 10);
    await put(Buffer.concat([u32(0x02014b50), u16(45), fields, rest, entry.name, extra]));
  }
  await put(endOf(placed.length, start, at));
}

/** Version to extract with up to the length of the extra field, as local header and directory have them, and that field with the numbers that do not fit. */
function fieldsOf({ name, crc, bytes }: Placed, numbers: readonly number[]): { fields: Buffer; extra: Buffer } {
  const large = numbers.filter((number) => number >= full);
  const extra = large.length > 0 ? Buffer.concat([u16(1), u16(8 * large.length), ...large.map(u64)]) : Buffer.alloc(0);
  const size = u32(Math.min(bytes, full));
  // Flag 0x800: names are UTF-8. Method 0: stored.
  const fields = Buffer.concat([
    u16(45),
    u16(0x800),
    u16(0),
    u16(0),
    u16(firstDay),
    u32(crc),
    size,
    size,
    u16(name.length),
    u16(extra.length),
  ]);
  return { fields, extra };
}

/** The end record, with the zip64 one before it where the directory lies beyond 4 GiB. */
function endOf(count: number, start: number, end: number): Buffer {
  const length = end - start;
  const large =
    start >= full
      ? [u32(0x06064b50), u64(44), u16(45), u16(45), u32(0), u32(0), u64(count), u64(count), u64(length), u64(start)].concat([
          u32(0x07064b50),
          u32(0),
          u64(end),
          u32(1),
        ])
      : [];
  return Buffer.concat([...large, u32(0x06054b50), u32(0), u16(count), u16(count), u32(length), u32(Math.min(start, full)), u16(0)]);
}

async function crcOf(path: string): Promise<number> {
  let crc = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) crc = crc32(chunk, crc);
  return crc;
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
