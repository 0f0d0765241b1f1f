import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { hostname, uptime } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ServiceError } from '@octet/contracts';
import type { FastifyRequest } from 'fastify';

const prefix = 'octet-upload-';
const abandonedMs = 86_400_000;
/** Who owns the directories of this process: the machine or container, the process, and this run of it. */
const machine = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);
const owner = `${machine}-${process.pid}-${randomUUID().slice(0, 8)}`;

/** An upload that lies on disk, complete. */
export interface StagedFile {
  path: string;
  bytes: number;
  sha256: string;
  /** Name the client gave, without its folders; an empty string when there was none. */
  fileName: string;
  /** Who sent it: the name of a key, or an address. */
  sender: string;
}

export interface StageLimits {
  /** Largest number of bytes. */
  bytes: number;
  /** Error raised above that. */
  code: 'MODEL_TOO_LARGE' | 'DATASET_TOO_LARGE';
  /** Milliseconds of waiting after which an upload that brought less than 1 KiB a second is given up. */
  idleMs: number;
}

/** A directory of its own for the files of one request; gone after `discard`. */
export class Staging {
  private constructor(
    readonly directory: string,
    readonly sender: string,
  ) {}

  static async open(parent: string, { apiKeyName, ip }: Pick<FastifyRequest, 'apiKeyName' | 'ip'>): Promise<Staging> {
    await mkdir(parent, { recursive: true });
    return new Staging(await mkdtemp(join(parent, `${prefix}${owner}-`)), apiKeyName ?? ip);
  }

  /**
   * Write a body to a file, hashing it on the way. Memory stays at the buffers of the streams.
   * @param part name of the part, for messages
   * @throws ServiceError of `limits.code` above the limit; BODY_EMPTY, STORAGE_FULL, and whatever the source throws
   */
  async write(source: AsyncIterable<Buffer>, part: string, fileName: string, limits: StageLimits): Promise<StagedFile> {
    const path = join(this.directory, randomUUID());
    const hash = createHash('sha256');
    let bytes = 0;
    async function* measured() {
      for await (const chunk of source) {
        bytes += chunk.length;
        if (bytes > limits.bytes)
          throw new ServiceError(limits.code, `"${part}" is larger than the limit of ${limits.bytes} bytes.`, { place: { file: part } });
        hash.update(chunk);
        yield chunk;
      }
    }
    try {
      await pipeline(measured, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
    } catch (error) {
      throw uploadError(error, part, bytes);
    }
    if (bytes === 0)
      throw new ServiceError('BODY_EMPTY', `"${part}" has no bytes.`, { errors: [{ pointer: `/${part}`, detail: 'empty' }] });
    return { path, bytes, sha256: hash.digest('hex'), fileName: baseName(fileName), sender: this.sender };
  }

  /**
   * Remove what processes left that ended before they could: the directories of dead processes of this machine, and any that nobody
   * has written to for a day.
   */
  static async sweep(parent: string): Promise<void> {
    await mkdir(parent, { recursive: true });
    const names = await readdir(parent);
    for (const name of names.filter((one) => one.startsWith(prefix))) {
      const path = join(parent, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      if (ownerIsDead(name, mtimeMs) || Date.now() - mtimeMs > abandonedMs)
        await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }
  }

  async discard(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Read a small text part, such as `config`. */
export async function readText(source: AsyncIterable<Buffer>, part: string, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > limit) throw new ServiceError('PAYLOAD_TOO_LARGE', `"${part}" is larger than the limit of ${limit} bytes.`);
    chunks.push(chunk);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new ServiceError('JSON_INVALID', `"${part}" is not UTF-8 text.`);
  }
}

/** Whether the process that made a directory is surely gone. A number that lives may be another process: then only its age tells. */
function ownerIsDead(name: string, mtimeMs: number): boolean {
  const [, where, pid] = /^octet-upload-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}-/.exec(name) ?? [];
  if (where !== machine || name.startsWith(`${prefix}${owner}-`)) return false;
  if (Number(pid) === process.pid || mtimeMs < Date.now() - uptime() * 1000) return true;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

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
