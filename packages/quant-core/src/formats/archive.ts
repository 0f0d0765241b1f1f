import { constants } from 'node:buffer';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32, createInflateRaw } from 'node:zlib';
import { type Entry, fromRandomAccessReaderPromise, RandomAccessReader, type ZipFile } from 'yauzl';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';

const stored = 0;
const deflated = 8;

/** Archives that unpack to less than this are never called a bomb. */
const harmlessBytes = 1024 * 1024;

const damaged = (detail: string, file?: string, cause?: unknown) =>
  new OctetError('MODEL_ARCHIVE', detail, file === undefined ? {} : { file }, { cause });

/** Reads of a zip; offsets outside of it are errors (yauzl itself trusts the offsets of zip64 records). */
class FileReader extends RandomAccessReader {
  constructor(
    private readonly file: FileHandle,
    private readonly size: number,
  ) {
    super();
  }

  override read(buffer: Buffer, offset: number, length: number, position: number, callback: (error: Error | null) => void): void {
    const inside = Number.isSafeInteger(position) && position >= 0 && position + length <= this.size;
    if (!inside) setImmediate(callback, new Error('a record points outside the file'));
    else fill(this.file, buffer.subarray(offset, offset + length), position).then(() => callback(null), callback);
  }

  override _readStreamForRange(start: number, end: number): Readable {
    return this.file.createReadStream({ start, end: end - 1, autoClose: false });
  }
}

/** Bytes of one read: a system call takes less than 2 GiB, and what is read meanwhile is checked. */
const pieceBytes = 2 ** 24;

/** Read `into` full from `position`, telling of every piece. */
async function fill(file: FileHandle, into: Buffer, position: number, onPiece?: (piece: Buffer) => void): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await file.read(into, at, Math.min(pieceBytes, into.length - at), position + at);
    if (!bytesRead) throw new Error('the file is cut off');
    onPiece?.(into.subarray(at, at + bytesRead));
    at += bytesRead;
  }
}

/** The files of an uploaded zip, whose directory has been checked against the limits; unpacked one by one when asked for. */
export class ModelArchive {
  private left: number;

  private constructor(
    private readonly zip: ZipFile,
    private readonly file: FileHandle,
    private readonly size: number,
    private readonly entries: ReadonlyMap<string, Entry>,
    private readonly limits: Limits,
  ) {
    this.left = limits.modelBytes;
  }

  /** @throws OctetError MODEL_ARCHIVE, MODEL_TOO_LARGE */
  static async open(file: FileHandle, size: number, limits: Limits): Promise<ModelArchive> {
    try {
      const zip = await fromRandomAccessReaderPromise(new FileReader(file, size), size, { autoClose: false });
      const entries = new Map<string, Entry>();
      let unpacked = 0;
      let count = 0;
      for await (const entry of zip.eachEntry()) {
        const name = entry.fileName;
        if (++count > limits.archiveEntries) throw damaged(`The archive has more than ${limits.archiveEntries} entries.`);
        if (entries.has(name)) throw damaged(`The archive has "${name}" twice.`, name);
        unpacked += entry.uncompressedSize;
        if (unpacked > limits.archiveBytes) throw damaged(`The archive unpacks to more than ${limits.archiveBytes} bytes.`, name);
        if (unpacked > harmlessBytes && unpacked > limits.archiveRatio * size)
          throw damaged(`The archive unpacks to more than ${limits.archiveRatio} times its size.`, name);
        if (!name.endsWith('/')) entries.set(name, entry);
      }
      return new ModelArchive(zip, file, size, entries, limits);
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

  /** Unpack one file into memory. All files unpacked count together against `limits.modelBytes`. */
  async read(name: string): Promise<Buffer> {
    const entry = this.entries.get(name);
    if (!entry) throw damaged(`The archive has no "${name}".`, name);
    const { compressionMethod: method, compressedSize: packed, uncompressedSize: size } = entry;
    this.left -= size;
    if (this.left < 0)
      throw new OctetError('MODEL_TOO_LARGE', `The files of the model unpack to more than ${this.limits.modelBytes} bytes.`, {
        file: name,
      });
    if (size > constants.MAX_LENGTH)
      throw new OctetError(
        'MODEL_TOO_LARGE',
        `"${name}" unpacks to ${size} bytes, and one file may have ${constants.MAX_LENGTH}.`,
        { file: name },
        { hint: 'Save the external data in several files, or one for each tensor.' },
      );
    if (entry.isEncrypted()) throw damaged(`"${name}" is encrypted.`, name);
    if (method !== stored && method !== deflated)
      throw damaged(`"${name}" is packed with method ${method}; only stored and deflated entries can be read.`, name);
    try {
      const { fileDataStart: start } = await this.zip.readLocalFileHeaderPromise(entry, { minimal: true });
      if (start + packed > this.size) throw new Error('the file is cut off');
      const { content, checksum } = await (method === stored ? this.copy(start, packed) : this.inflate(start, packed, size));
      if (content.length !== size) throw new Error(`it unpacks to ${content.length} bytes instead of ${size}`);
      if (checksum !== entry.crc32) throw new Error('its checksum is wrong');
      return content;
    } catch (error) {
      throw damaged(`"${name}" cannot be unpacked: ${error instanceof Error ? error.message : String(error)}.`, name, error);
    }
  }

  private async copy(start: number, length: number): Promise<{ content: Buffer; checksum: number }> {
    const content = Buffer.allocUnsafeSlow(length);
    let checksum = 0;
    await fill(this.file, content, start, (piece) => {
      checksum = crc32(piece, checksum);
    });
    return { content, checksum };
  }

  /** Unpacks into a buffer of the size that the directory gives; a byte more is an error. */
  private async inflate(start: number, packed: number, size: number): Promise<{ content: Buffer; checksum: number }> {
    const content = Buffer.allocUnsafeSlow(size);
    let [at, checksum] = [0, 0];
    await pipeline(
      packed ? this.file.createReadStream({ start, end: start + packed - 1, autoClose: false }) : Readable.from([]),
      createInflateRaw(),
      async (pieces) => {
        for await (const piece of pieces as AsyncIterable<Buffer>) {
          if (at + piece.length > size) throw new Error(`it unpacks to more than ${size} bytes`);
          content.set(piece, at);
          checksum = crc32(piece, checksum);
          at += piece.length;
        }
      },
    );
    return { content: content.subarray(0, at), checksum };
  }
}
