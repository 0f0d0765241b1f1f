import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { requireFile } from '../files.js';

export type Part = { name: string; file: string } | { name: string; text: string; type: string };

export interface MultipartBody {
  /** Value of Content-Type, with the boundary. */
  type: string;
  /** Length of the whole body. */
  bytes: number;
  stream: Readable;
}

/**
 * A multipart/form-data body (RFC 7578) that streams its files from disk: memory does not grow with them.
 * @param onSent called with the bytes handed over so far
 * @throws CliError FILE_UNREADABLE
 */
export async function multipartBody(parts: readonly Part[], onSent: (bytes: number) => void = () => undefined): Promise<MultipartBody> {
  const boundary = `octet-${randomUUID()}`;
  const pieces: (Buffer | { file: string; bytes: number })[] = [];
  for (const part of parts) {
    const head = [
      `--${boundary}`,
      `content-disposition: form-data; name="${part.name}"${'file' in part ? `; filename="${quoted(path.basename(part.file))}"` : ''}`,
    ];
    pieces.push(
      Buffer.from(`${[...head, `content-type: ${'file' in part ? 'application/octet-stream' : part.type}`].join('\r\n')}\r\n\r\n`),
    );
    pieces.push('file' in part ? { file: part.file, bytes: await requireFile(part.file) } : Buffer.from(part.text), Buffer.from('\r\n'));
  }
  pieces.push(Buffer.from(`--${boundary}--\r\n`));
  const sizeOf = (piece: (typeof pieces)[number]) => (Buffer.isBuffer(piece) ? piece.length : piece.bytes);
  const bytes = pieces.reduce((sum, piece) => sum + sizeOf(piece), 0);

  async function* content(): AsyncGenerator<Buffer> {
    let sent = 0;
    for (const piece of pieces) {
      // A file that grows meanwhile is sent up to the length that was announced.
      const chunks = Buffer.isBuffer(piece) ? [piece] : piece.bytes === 0 ? [] : createReadStream(piece.file, { end: piece.bytes - 1 });
      for await (const chunk of chunks as AsyncIterable<Buffer>) {
        yield chunk;
        sent += chunk.length;
        onSent(sent);
      }
    }
  }
  return { type: `multipart/form-data; boundary=${boundary}`, bytes, stream: Readable.from(content(), { objectMode: false }) };
}

/** A file as a stream that reports each chunk when it is handed over. */
export function fileStream(file: string, onBytes: (bytes: number) => void): Readable {
  async function* content(): AsyncGenerator<Buffer> {
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      yield chunk;
      onBytes(chunk.length);
    }
  }
  return Readable.from(content(), { objectMode: false });
}

/** A file name inside quotes, as browsers write it. */
function quoted(name: string): string {
  return name.replaceAll('"', '%22').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}
