import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { CliError } from '../errors.js';
import type { Answer, Client } from './client.js';

export interface DownloadOptions {
  onProgress?: (bytes: number, total: number) => void;
  signal?: AbortSignal | undefined;
}

/** Connections that may break without a byte having come. */
const triesWithoutProgress = 4;

/**
 * Fetches a file of the service to `target`. It goes on where an earlier try broke off, now or in another run, and the file takes its name
 * only when its SHA-256 is the one that the service stated.
 * @returns bytes and SHA-256 of the file
 * @throws ServerError; CliError SERVER_UNREACHABLE, DOWNLOAD_DAMAGED
 */
export async function download(
  client: Client,
  path: string,
  target: string,
  { onProgress = () => undefined, signal }: DownloadOptions = {},
): Promise<{ bytes: number; sha256: string }> {
  const head = await client.send(path, { method: 'HEAD' });
  head.body.resume();
  const sha256 = digestOf(head);
  const total = Number(head.headers['content-length']);
  if (sha256 === undefined || !Number.isSafeInteger(total))
    throw new CliError('SERVER_UNKNOWN', `${client.server}${path} states neither digest nor length of the file`);
  // The digest in the name keeps parts of another version of the file apart.
  const part = `${target}.${sha256.slice(0, 16)}.part`;

  for (let fruitless = 0; ; ) {
    const have = await sizeOf(part, total);
    onProgress(have, total);
    if (have === total) break;
    try {
      await fetchRest(client, path, part, have, sha256, (bytes) => onProgress(bytes, total));
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof CliError) || error.code !== 'SERVER_UNREACHABLE') throw error;
      fruitless = (await sizeOf(part, total)) > have ? 0 : fruitless + 1;
      if (fruitless >= triesWithoutProgress) throw error;
      await sleep(500 * 2 ** fruitless, undefined, { signal });
    }
  }

  const got = await hashOf(part);
  if (got !== sha256) {
    await rm(part, { force: true });
    throw new CliError('DOWNLOAD_DAMAGED', `the SHA-256 of the file is ${got}, the service stated ${sha256}`, { place: { file: target } });
  }
  await rename(part, target).catch((error: unknown) => {
    throw new CliError('FILE_UNWRITABLE', `${target}: ${messageOf(error)}`, {
      place: { file: target },
      cause: error,
    });
  });
  return { bytes: total, sha256 };
}

/** Fetches what is missing from `have` on and appends it. */
async function fetchRest(
  client: Client,
  path: string,
  part: string,
  have: number,
  sha256: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const answer = await client.send(path, have === 0 ? {} : { headers: { range: `bytes=${have}-`, 'if-range': `"${sha256}"` } });
  // A whole file in place of the rest: the service has a newer one, or does not know ranges.
  const start = answer.statusCode === 206 ? have : 0;
  const unwritable = (error: unknown) =>
    new CliError('FILE_UNWRITABLE', `${part}: ${messageOf(error)}`, { place: { file: part }, cause: error });
  const file = await open(part, start === 0 ? 'w' : 'a').catch((error: unknown) => {
    throw unwritable(error);
  });
  let bytes = start;
  try {
    // Each chunk is on disk before the next is asked for, so that nothing that came is lost when the connection breaks.
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      await file.writeFile(chunk).catch((error: unknown) => {
        throw unwritable(error);
      });
      bytes += chunk.length;
      onBytes(bytes);
    }
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError('SERVER_UNREACHABLE', `the connection to ${client.server} broke after ${bytes} bytes`, { cause: error });
  } finally {
    await file.close();
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** The SHA-256 that an answer states: Repr-Digest (RFC 9530), or a strong ETag that is one. */
export function digestOf({ headers }: Pick<Answer, 'headers'>): string | undefined {
  const base64 = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):/.exec(String(headers['repr-digest'] ?? ''))?.[1];
  if (base64 !== undefined) return Buffer.from(base64, 'base64').toString('hex');
  return /^"([0-9a-f]{64})"$/.exec(String(headers.etag ?? ''))?.[1];
}

/** Bytes there are; a part longer than the file is worth nothing. */
async function sizeOf(part: string, total: number): Promise<number> {
  const size = (await stat(part).catch(() => null))?.size ?? 0;
  if (size <= total) return size;
  await rm(part, { force: true });
  return 0;
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
