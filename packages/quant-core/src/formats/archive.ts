import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import { type Entry, fromRandomAccessReaderPromise, RandomAccessReader, type ZipFile } from 'yauzl';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';

const inflate = promisify(inflateRaw);
const stored = 0;
const deflated = 8;

/** Archives that unpack to less than this are never called a bomb. */
const harmlessBytes = 1024 * 1024;

const damaged = (detail: string, file?: string, cause?: unknown) =>
  new OctetError('MODEL_ARCHIVE', detail, file === undefined ? {} : { file }, { cause });

/** Reads of a zip in memory; offsets outside of it are errors (yauzl itself trusts the offsets of zip64 records). */
class MemoryReader extends RandomAccessReader {
  constructor(private readonly bytes: Buffer) {
    super();
  }

  override read(buffer: Buffer, offset: number, length: number, position: number, callback: (error: Error | null) => void): void {
    const inside = Number.isSafeInteger(position) && position >= 0 && position + length <= this.bytes.length;
    if (inside) this.bytes.copy(buffer, offset, position, position + length);
    setImmediate(callback, inside ? null : new Error('a record points outside the file'));
  }

  override _readStreamForRange(start: number, end: number): Readable {
    return Readable.from([this.bytes.subarray(start, end)]);
  }
}

/** The files of an uploaded zip, whose directory has been checked against the limits; unpacked one by one when asked for. */
export class ModelArchive {
  private left: number;

  private constructor(
    private readonly zip: ZipFile,
    private readonly bytes: Buffer,
    private readonly entries: ReadonlyMap<string, Entry>,
    private readonly limits: Limits,
  ) {
    this.left = limits.modelBytes;
  }

  /** @throws OctetError MODEL_ARCHIVE, MODEL_TOO_LARGE */
  static async open(bytes: Buffer, limits: Limits): Promise<ModelArchive> {
    try {
      const zip = await fromRandomAccessReaderPromise(new MemoryReader(bytes), bytes.length, { autoClose: false });
      const entries = new Map<string, Entry>();
      let unpacked = 0;
      let count = 0;
      for await (const entry of zip.eachEntry()) {
        const name = entry.fileName;
        if (++count > limits.archiveEntries) throw damaged(`The archive has more than ${limits.archiveEntries} entries.`);
        if (entries.has(name)) throw damaged(`The archive has "${name}" twice.`, name);
        unpacked += entry.uncompressedSize;
        if (unpacked > limits.archiveBytes) throw damaged(`The archive unpacks to more than ${limits.archiveBytes} bytes.`, name);
        if (unpacked > harmlessBytes && unpacked > limits.archiveRatio * bytes.length)
          throw damaged(`The archive unpacks to more than ${limits.archiveRatio} times its size.`, name);
        if (!name.endsWith('/')) entries.set(name, entry);
      }
      return new ModelArchive(zip, bytes, entries, limits);
    } catch (error) {
      if (error instanceof OctetError) throw error;
      throw damaged(`The zip cannot be read: ${error instanceof Error ? error.message : String(error)}.`, undefined, error);
    }
  }

  get names(): string[] {
    return [...this.entries.keys()];
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  /** Unpack one file. All files unpacked count together against `limits.modelBytes`. */
  async read(name: string): Promise<Buffer> {
    const entry = this.entries.get(name);
    if (!entry) throw damaged(`The archive has no "${name}".`, name);
    const { compressionMethod: method, compressedSize: packed, uncompressedSize: size } = entry;
    this.left -= size;
    if (this.left < 0)
      throw new OctetError('MODEL_TOO_LARGE', `The files of the model unpack to more than ${this.limits.modelBytes} bytes.`, {
        file: name,
      });
    if (entry.isEncrypted()) throw damaged(`"${name}" is encrypted.`, name);
    if (method !== stored && method !== deflated)
      throw damaged(`"${name}" is packed with method ${method}; only stored and deflated entries can be read.`, name);
    try {
      const { fileDataStart: start } = await this.zip.readLocalFileHeaderPromise(entry, { minimal: true });
      if (start + packed > this.bytes.length) throw new Error('the file is cut off');
      const data = this.bytes.subarray(start, start + packed);
      const content = method === stored ? data : await inflate(data, { maxOutputLength: Math.max(1, size) });
      if (content.length !== size) throw new Error(`it unpacks to ${content.length} bytes instead of ${size}`);
      if (crc32(content) !== entry.crc32) throw new Error('its checksum is wrong');
      return content;
    } catch (error) {
      throw damaged(`"${name}" cannot be unpacked: ${error instanceof Error ? error.message : String(error)}.`, name, error);
    }
  }
}
