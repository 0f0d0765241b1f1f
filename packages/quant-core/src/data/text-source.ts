import { isUtf8 } from 'node:buffer';
import { stat } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import type { Upload } from './materialise.js';
import { type ByteSource, fileBytes, fileHead, gunzipped, isGzip, unpackedLimit } from './stream.js';

export type TextEncoding = NonNullable<DatasetConfig['encoding']>;

const newline = 10;

/** The encoding that a byte order mark at the start of a file says. */
export function encodingOfMark(head: Buffer): TextEncoding | undefined {
  if (head[0] === 0xff && head[1] === 0xfe) return 'utf-16le';
  if (head[0] === 0xfe && head[1] === 0xff) return 'utf-16be';
  return undefined;
}

/** Whether bytes look like Latin letters and digits in UTF-16: every other byte is 0. */
export function looksLikeUtf16(head: Buffer): boolean {
  const length = Math.min(head.length, 512);
  if (length < 8) return false;
  let zeros = [0, 0];
  for (let i = 0; i < length; i++) if (head[i] === 0) zeros = i % 2 ? [zeros[0]!, zeros[1]! + 1] : [zeros[0]! + 1, zeros[1]!];
  return Math.max(...zeros) > length * 0.4 && Math.min(...zeros) < length * 0.05;
}

/**
 * The text of an upload as UTF-8 bytes without a byte order mark; gzip is unpacked. Bytes are checked, never replaced.
 * @throws OctetError DATASET_UNREADABLE naming byte and row where the bytes are not in the encoding
 */
export async function openText(upload: Upload): Promise<() => ByteSource> {
  const { path, name, limits, config } = upload;
  const { size } = await stat(path);
  const packed = isGzip(await fileHead(path, 3));
  const bytes = (): ByteSource => (packed ? gunzipped(fileBytes(path), unpackedLimit(size, limits), name) : fileBytes(path));
  return () => utf8Of(bytes(), config.encoding, name);
}

async function* utf8Of(source: ByteSource, said: DatasetConfig['encoding'], file: string): AsyncGenerator<Buffer> {
  let reader: Utf8Check | Decoding | undefined;
  for await (const chunk of source) {
    let data = chunk;
    if (!reader) {
      const encoding = said ?? encodingOfMark(chunk) ?? 'utf-8';
      reader = encoding === 'utf-8' ? new Utf8Check(file) : new Decoding(encoding, file);
      if (encoding === 'utf-8' && chunk.length >= 3 && chunk[0] === 0xef && chunk[1] === 0xbb && chunk[2] === 0xbf)
        data = reader.skip(chunk, 3);
    }
    const text = reader.next(data);
    if (text.length > 0) yield text;
  }
  const rest = reader?.end();
  if (rest?.length) yield rest;
}

/** Passes UTF-8 on as it is; a character that is cut by the end of a chunk goes with the next one. */
class Utf8Check {
  private rest: Buffer = Buffer.alloc(0);
  /** Bytes and line breaks passed on so far. */
  private passed = 0;
  private lines = 0;

  constructor(private readonly file: string) {}

  skip(chunk: Buffer, count: number): Buffer {
    this.passed += count;
    return chunk.subarray(count);
  }

  next(chunk: Buffer): Buffer {
    const data = this.rest.length ? Buffer.concat([this.rest, chunk]) : chunk;
    const whole = data.subarray(0, data.length - cutOff(data));
    if (!isUtf8(whole)) throw this.refusal(whole);
    this.rest = Buffer.from(data.subarray(whole.length));
    this.passed += whole.length;
    for (let at = whole.indexOf(newline); at >= 0; at = whole.indexOf(newline, at + 1)) this.lines++;
    return whole;
  }

  end(): Buffer {
    if (this.rest.length) throw this.refusal(this.rest);
    return this.rest;
  }

  private refusal(data: Buffer): OctetError {
    let start = 0;
    let row = this.lines + 1;
    for (let end = data.indexOf(newline); end >= 0 && isUtf8(data.subarray(start, end)); end = data.indexOf(newline, start)) {
      start = end + 1;
      row++;
    }
    let at = start;
    while (at < data.length) {
      const length = sequenceLength(data[at] as number);
      if (at + length > data.length || !isUtf8(data.subarray(at, at + length))) break;
      at += length;
    }
    const byte = (data[at] ?? 0).toString(16).padStart(2, '0');
    return new OctetError(
      'DATASET_UNREADABLE',
      `Row ${row} of "${this.file}" is not UTF-8: byte 0x${byte} at position ${this.passed + at} of the file.`,
      { file: this.file },
      {
        hint: 'Save the file as UTF-8, or say {"encoding": "latin1"} in the config of the dataset when it was written by an older Windows program.',
      },
    );
  }
}

/** Bytes of the character that starts with `lead`. */
function sequenceLength(lead: number): number {
  if (lead >= 0xf0) return 4;
  if (lead >= 0xe0) return 3;
  return lead >= 0xc0 ? 2 : 1;
}

/** Bytes at the end that begin a character whose other bytes are not there. */
function cutOff(data: Buffer): number {
  for (let back = 1; back <= Math.min(3, data.length); back++) {
    const byte = data[data.length - back] as number;
    if (byte >= 0xc0) return sequenceLength(byte) > back ? back : 0;
    if (byte < 0x80) return 0;
  }
  return 0;
}

/** Other encodings → UTF-8. Latin-1 is read as Windows-1252, which holds it. */
class Decoding {
  private readonly decoder: TextDecoder;
  private read = 0;

  constructor(
    private readonly encoding: Exclude<TextEncoding, 'utf-8'>,
    private readonly file: string,
  ) {
    this.decoder = new TextDecoder(encoding === 'latin1' ? 'windows-1252' : encoding, { fatal: true });
  }

  skip(chunk: Buffer): Buffer {
    return chunk;
  }

  next(chunk: Buffer): Buffer {
    const text = this.decode(chunk, true);
    this.read += chunk.length;
    return text;
  }

  end(): Buffer {
    return this.decode(Buffer.alloc(0), false);
  }

  private decode(chunk: Buffer, stream: boolean): Buffer {
    try {
      return Buffer.from(this.decoder.decode(chunk, { stream }));
    } catch (error) {
      throw new OctetError(
        'DATASET_UNREADABLE',
        `"${this.file}" is not ${this.encoding}: the bytes from position ${this.read} on cannot be decoded.`,
        { file: this.file },
        { hint: 'Save the file as UTF-8.', cause: error },
      );
    }
  }
}
