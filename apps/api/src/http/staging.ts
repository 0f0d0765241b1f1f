import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ServiceError } from '@octet/contracts';

const prefix = 'octet-upload-';
const abandonedMs = 86_400_000;

/** An upload that lies on disk, complete. */
export interface StagedFile {
  path: string;
  bytes: number;
  sha256: string;
  /** Name the client gave, without its folders; an empty string when there was none. */
  fileName: string;
}

export interface StageLimits {
  /** Largest number of bytes. */
  bytes: number;
  /** Error raised above that. */
  code: 'MODEL_TOO_LARGE' | 'DATASET_TOO_LARGE';
  /** Milliseconds without a byte after which the upload is given up. */
  idleMs: number;
}

/** A directory of its own for the files of one request; gone after `discard`. */
export class Staging {
  private constructor(readonly directory: string) {}

  static async open(parent: string): Promise<Staging> {
    await mkdir(parent, { recursive: true });
    return new Staging(await mkdtemp(join(parent, prefix)));
  }

  /**
   * Stream a body into a file, hashing it on the way. Memory stays at the buffers of the streams.
   * @param part name of the part, for messages
   * @throws ServiceError of `limits.code` above the limit; BODY_EMPTY, UPLOAD_ABORTED, STORAGE_FULL
   */
  async write(source: Readable, part: string, fileName: string, limits: StageLimits): Promise<StagedFile> {
    const path = join(this.directory, randomUUID());
    const hash = createHash('sha256');
    let bytes = 0;
    const meter = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        idle.refresh();
        bytes += chunk.length;
        if (bytes > limits.bytes) {
          done(new ServiceError(limits.code, `"${part}" is larger than the limit of ${limits.bytes} bytes.`, { place: { file: part } }));
          return;
        }
        hash.update(chunk);
        done(null, chunk);
      },
    });
    // The source is never destroyed: behind it may be the socket on which the answer has to leave.
    const idle = setTimeout(() => meter.destroy(new Error(`nothing came in for ${limits.idleMs / 1000} s`)), limits.idleMs);
    const fail = (error: Error) => meter.destroy(error);
    const closed = () => {
      if (!source.readableEnded) fail(new Error('the connection was closed'));
    };
    source.on('error', fail).on('close', closed);
    try {
      await pipeline(source.pipe(meter), createWriteStream(path, { flags: 'wx', mode: 0o600 }));
    } catch (error) {
      throw uploadError(error, part, bytes);
    } finally {
      clearTimeout(idle);
      source.unpipe(meter).off('error', fail).off('close', closed);
      source.on('error', ignore);
    }
    if (bytes === 0)
      throw new ServiceError('BODY_EMPTY', `"${part}" has no bytes.`, { errors: [{ pointer: `/${part}`, detail: 'empty' }] });
    return { path, bytes, sha256: hash.digest('hex'), fileName: baseName(fileName) };
  }

  /** Remove what processes left behind that died before they could: directories that nobody has written to for a day. */
  static async sweep(parent: string): Promise<void> {
    const names = await readdir(parent).catch(() => []);
    for (const name of names.filter((one) => one.startsWith(prefix))) {
      const path = join(parent, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      if (Date.now() - mtimeMs > abandonedMs) await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }
  }

  async discard(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Read a small text part, such as `config`. */
export async function readText(source: Readable, part: string, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limit) throw new ServiceError('PAYLOAD_TOO_LARGE', `"${part}" is larger than the limit of ${limit} bytes.`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw uploadError(error, part, bytes);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new ServiceError('JSON_INVALID', `"${part}" is not UTF-8 text.`);
  }
}

/** A source that breaks after its upload was refused is nobody's concern any more. */
function ignore(): void {}

function uploadError(error: unknown, part: string, bytes: number): Error {
  if (error instanceof ServiceError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new ServiceError('STORAGE_FULL', `No room is left to take "${part}".`, { cause: error });
  const detail = error instanceof Error ? error.message : String(error);
  return new ServiceError('UPLOAD_ABORTED', `"${part}" broke off after ${bytes} bytes: ${detail}`, { cause: error });
}

function baseName(fileName: string): string {
  return (
    fileName
      .replaceAll('\\', '/')
      .split('/')
      .at(-1)
      ?.replace(/[\p{Cc}]/gu, '')
      .slice(0, 200) ?? ''
  );
}
