import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';

/** Bytes in order, in chunks of any size. */
export type ByteSource = AsyncIterable<Buffer>;

/** Below this many unpacked bytes no archive is taken for a bomb, whatever its ratio. */
const harmlessBytes = 4 * 1024 * 1024;

const blockBytes = 1024 * 1024;

/** Throw CANCELLED when the signal has fired. */
export function heed(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new OctetError('CANCELLED', 'The dataset was being read when the job was cancelled.');
}

/** How many bytes `packed` bytes may unpack to. */
export function unpackedLimit(packed: number, limits: Limits): number {
  return Math.min(limits.archiveBytes, Math.max(harmlessBytes, packed * limits.archiveRatio));
}

/** The bytes of a file, from `start` up to (not including) `end`. */
export function fileBytes(path: string, start = 0, end?: number): ByteSource {
  if (end !== undefined && end <= start) return Readable.from([]) as ByteSource;
  return createReadStream(path, { start, end: end === undefined ? undefined : end - 1, highWaterMark: 256 * 1024 }) as ByteSource;
}

/** The first `count` bytes of a file, or fewer when it is shorter. */
export async function fileHead(path: string, count: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(count);
    const { bytesRead } = await file.read(buffer, 0, count, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** The first `count` bytes of a source, or fewer when it is shorter. The source is closed. */
export async function headOf(source: ByteSource, count: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of source) {
    parts.push(chunk);
    length += chunk.length;
    if (length >= count) break;
  }
  return Buffer.concat(parts).subarray(0, count);
}

/** Whether bytes start as a gzip member with deflate. */
export function isGzip(head: Buffer): boolean {
  return head[0] === 0x1f && head[1] === 0x8b && head[2] === 8;
}

/**
 * Unpack gzip while it streams. More than `limit` bytes is DATASET_ARCHIVE, damaged data DATASET_UNREADABLE;
 * both name `file`.
 */
export async function* gunzipped(source: ByteSource, limit: number, file: string): AsyncGenerator<Buffer> {
  const unzip = createGunzip();
  const feed = pipeline(source, unzip);
  feed.catch(() => unzip.destroy());
  let total = 0;
  try {
    for await (const chunk of unzip as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total > limit) throw new OctetError('DATASET_ARCHIVE', `"${file}" unpacks to more than ${limit} bytes.`, { file });
      yield chunk;
    }
    await feed;
  } catch (error) {
    if (error instanceof OctetError) throw error;
    const reason = await feed.then(
      () => error,
      (cause: unknown) => cause,
    );
    throw OctetError.from(reason, 'DATASET_UNREADABLE', { file });
  } finally {
    unzip.destroy();
  }
}

/** Reads of exact length over a source. Ends of file are DATASET_UNREADABLE and name the file. */
export class ByteReader {
  private readonly chunks: AsyncIterator<Buffer>;
  private rest: Buffer = Buffer.alloc(0);

  constructor(
    source: ByteSource,
    private readonly file: string,
  ) {
    this.chunks = source[Symbol.asyncIterator]();
  }

  /** Exactly `count` bytes. */
  async take(count: number): Promise<Buffer> {
    const out = Buffer.from(new ArrayBuffer(count));
    await this.fill(out, count);
    return out;
  }

  /**
   * `total` bytes in blocks whose length is a multiple of `unit`. A block is aligned for every element type
   * and is only good until the next one is asked for.
   */
  async *blocks(total: number, unit: number): AsyncGenerator<Buffer> {
    const size = Math.min(total, Math.max(unit, Math.floor(blockBytes / unit) * unit));
    const block = Buffer.from(new ArrayBuffer(size));
    for (let done = 0; done < total; ) {
      const count = Math.min(size, total - done);
      await this.fill(block, count);
      yield block.subarray(0, count);
      done += count;
    }
  }

  /** Throws when bytes are left. */
  async expectEnd(): Promise<void> {
    while (this.rest.length === 0) {
      const next = await this.chunks.next();
      if (next.done) return;
      this.rest = next.value;
    }
    throw new OctetError('DATASET_UNREADABLE', `"${this.file}" holds more bytes than its header states.`, { file: this.file });
  }

  async close(): Promise<void> {
    await this.chunks.return?.();
  }

  private async fill(target: Buffer, count: number): Promise<void> {
    for (let at = 0; at < count; ) {
      if (this.rest.length === 0) {
        const next = await this.chunks.next();
        if (next.done)
          throw new OctetError('DATASET_UNREADABLE', `"${this.file}" is cut off: ${count - at} more bytes were expected.`, {
            file: this.file,
          });
        this.rest = next.value;
        continue;
      }
      const part = this.rest.copy(target, at, 0, Math.min(this.rest.length, count - at));
      this.rest = this.rest.subarray(part);
      at += part;
    }
  }
}
