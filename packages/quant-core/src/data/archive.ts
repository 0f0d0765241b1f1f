import { read, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { crc32, createInflateRaw, inflateRaw, inflateRawSync } from 'node:zlib';
import { fromRandomAccessReaderPromise, RandomAccessReader } from 'yauzl';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';
import { type ByteSource, fileBytes, unpackedLimit } from './stream.js';

const inflate = promisify(inflateRaw);
const windowBytes = 512 * 1024;
/** Entries up to this size are read and unpacked at once: that costs less than a trip to the thread pool. */
const smallBytes = 128 * 1024;
const stored = 0;
const deflated = 8;

/** One file inside a zip. */
export interface ArchiveEntry {
  name: string;
  /** Where its local header starts. */
  offset: number;
  packed: number;
  size: number;
  method: number;
  crc: number;
}

/** Positioned reads that refuse offsets outside the file (yauzl trusts the offsets of zip64 records). */
class BoundedReader extends RandomAccessReader {
  private readonly window = Buffer.alloc(windowBytes);
  private start = 0;
  private length = 0;

  constructor(
    private readonly fd: number,
    private readonly size: number,
  ) {
    super();
  }

  override read(buffer: Buffer, offset: number, length: number, position: number, callback: (error: Error | null) => void): void {
    if (!(Number.isSafeInteger(position) && position >= 0 && length <= windowBytes && position + length <= this.size)) {
      setImmediate(callback, new Error('a record points outside the file'));
      return;
    }
    if (position >= this.start && position + length <= this.start + this.length) {
      this.window.copy(buffer, offset, position - this.start, position - this.start + length);
      callback(null);
      return;
    }
    read(this.fd, this.window, 0, windowBytes, position, (error, count) => {
      this.start = position;
      this.length = error ? 0 : count;
      if (!error) this.window.copy(buffer, offset, 0, length);
      callback(error ?? (count < length ? new Error('unexpected end of file') : null));
    });
  }
}

/** Files that systems leave in archives; they are not part of the data. */
export function isLitter(name: string): boolean {
  return name.split('/').some((part) => part === '__MACOSX' || part.startsWith('.') || /^(thumbs\.db|desktop\.ini)$/i.test(part));
}

/**
 * A zip whose directory has been checked: relative paths without `..`, nothing encrypted, no name twice,
 * and within the limits on entries, unpacked bytes and ratio. Contents are checked against size and CRC as they are read.
 */
export class Archive {
  readonly kind = 'zip';

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly size: number,
    readonly entries: readonly ArchiveEntry[],
    /** Names of directory entries, without the slash at the end. */
    readonly directories: readonly string[],
    /** The folder that is taken for the root, with a slash at the end; `undefined` where it has to be found. */
    readonly root?: string,
  ) {}

  /** @throws OctetError DATASET_ARCHIVE, DATASET_TOO_LARGE */
  static async open(path: string, limits: Limits): Promise<Archive> {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const entries: ArchiveEntry[] = [];
      const directories: string[] = [];
      const names = new Set<string>();
      const most = unpackedLimit(size, limits);
      let unpacked = 0;
      const zip = await fromRandomAccessReaderPromise(new BoundedReader(file.fd, size), size, { autoClose: false });
      if (zip.entryCount > limits.archiveEntries) throw tooMany(limits);
      for await (const entry of zip.eachEntry()) {
        const name = entry.fileName;
        if (names.size >= limits.archiveEntries) throw tooMany(limits);
        if (names.has(name)) throw new OctetError('DATASET_ARCHIVE', `The archive holds "${name}" twice.`, { file: name });
        names.add(name);
        unpacked += entry.uncompressedSize;
        if (unpacked > most) {
          throw new OctetError(
            'DATASET_ARCHIVE',
            `The archive unpacks to more than ${most} bytes (limits: ${limits.archiveRatio} times its size, ${limits.archiveBytes} bytes).`,
            { file: name },
          );
        }
        if (isLitter(name)) continue;
        if (name.endsWith('/')) {
          directories.push(name.slice(0, -1));
          continue;
        }
        if (entry.isEncrypted()) throw new OctetError('DATASET_ARCHIVE', `"${name}" is encrypted.`, { file: name });
        const method = entry.compressionMethod;
        if (method !== stored && method !== deflated) {
          throw new OctetError(
            'DATASET_ARCHIVE',
            `"${name}" is packed with method ${method}; only stored and deflated entries can be read.`,
            { file: name },
          );
        }
        entries.push({
          name,
          offset: entry.relativeOffsetOfLocalHeader,
          packed: entry.compressedSize,
          size: entry.uncompressedSize,
          method,
          crc: entry.crc32,
        });
      }
      return new Archive(path, file, size, entries, directories);
    } catch (error) {
      await file.close();
      if (error instanceof OctetError) throw error;
      throw new OctetError(
        'DATASET_ARCHIVE',
        `The zip cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
        {},
        { cause: error },
      );
    }
  }

  /** Some of the entries as an archive of their own. It shares the file: closing one closes both. */
  within(entries: readonly ArchiveEntry[], directories: readonly string[], root?: string): Archive {
    return new Archive(this.path, this.file, this.size, entries, directories, root);
  }

  /** The contents of an entry as a stream. */
  async *stream(entry: ArchiveEntry): AsyncGenerator<Buffer> {
    const start = this.dataStart(entry);
    const packed = fileBytes(this.path, start, start + entry.packed);
    const source = entry.method === stored ? packed : inflated(packed, entry.name);
    let size = 0;
    let crc = 0;
    for await (const chunk of source) {
      size += chunk.length;
      if (size > entry.size) throw damaged(entry, `it unpacks to more than the ${entry.size} bytes stated`);
      crc = crc32(chunk, crc);
      yield chunk;
    }
    check(entry, size, crc);
  }

  /** The whole of a small entry. Entries beyond `most` bytes are refused. */
  async read(entry: ArchiveEntry, most: number): Promise<Buffer> {
    if (entry.size > most || entry.packed > most)
      throw new OctetError('DATASET_TOO_LARGE', `"${entry.name}" is larger than ${most} bytes.`, { file: entry.name });
    const start = this.dataStart(entry);
    const packed = Buffer.alloc(entry.packed);
    const small = entry.packed <= smallBytes && entry.size <= smallBytes;
    if (small) readSync(this.file.fd, packed, 0, packed.length, start);
    else await this.file.read(packed, 0, packed.length, start);
    const data = entry.method === stored ? packed : await unpack(packed, entry, small);
    check(entry, data.length, crc32(data));
    return data;
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  /** Position of the data: after the 30 bytes of the local header, its name and its extra field (APPNOTE 4.3.7). */
  private dataStart(entry: ArchiveEntry): number {
    const header = Buffer.alloc(30);
    const count = readSync(this.file.fd, header, 0, 30, entry.offset);
    if (count < 30 || header.readUInt32LE(0) !== 0x04034b50) throw damaged(entry, 'its local header is missing');
    const start = entry.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (start + entry.packed > this.size) throw damaged(entry, 'the file is cut off');
    return start;
  }
}

/** What is read from an open archive of any kind. */
export interface OpenArchive extends Pick<Archive, 'entries' | 'directories' | 'root' | 'stream' | 'read' | 'close'> {
  readonly kind: 'zip' | 'tar';
}

/** An open archive of which a part can be read by itself. */
export interface PartedArchive extends OpenArchive {
  /** Some of the entries as an archive of their own. It shares the file: closing one closes both. */
  within(entries: readonly ArchiveEntry[], directories: readonly string[], root?: string): PartedArchive;
}

async function* inflated(packed: ByteSource, name: string): AsyncGenerator<Buffer> {
  const inflater = createInflateRaw();
  const feed = pipeline(packed, inflater);
  feed.catch(() => inflater.destroy());
  try {
    yield* inflater as AsyncIterable<Buffer>;
    await feed;
  } catch (error) {
    const reason = await feed.then(
      () => error,
      (cause: unknown) => cause,
    );
    throw OctetError.from(reason, 'DATASET_ARCHIVE', { file: name });
  } finally {
    inflater.destroy();
  }
}

async function unpack(packed: Buffer, entry: ArchiveEntry, small: boolean): Promise<Buffer> {
  try {
    const options = { maxOutputLength: Math.max(1, entry.size) };
    return small ? inflateRawSync(packed, options) : await inflate(packed, options);
  } catch (error) {
    throw damaged(entry, error instanceof Error ? error.message : String(error));
  }
}

function check(entry: ArchiveEntry, size: number, crc: number): void {
  if (size !== entry.size) throw damaged(entry, `it unpacks to ${size} bytes instead of ${entry.size}`);
  if (crc !== entry.crc) throw damaged(entry, 'its checksum is wrong');
}

function damaged(entry: ArchiveEntry, reason: string): OctetError {
  return new OctetError('DATASET_ARCHIVE', `"${entry.name}" cannot be unpacked: ${reason}.`, { file: entry.name });
}

function tooMany(limits: Limits): OctetError {
  return new OctetError('DATASET_TOO_LARGE', `The archive holds more than ${limits.archiveEntries} entries.`);
}
