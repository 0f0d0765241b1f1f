import { createHash } from 'node:crypto';
import { addAbortSignal, Readable } from 'node:stream';
import { ServiceError } from '@octet/contracts';
import type pg from 'pg';
import { type Database, translate } from './database.js';

/** A file by its content. */
export interface StoredBlob {
  sha256: string;
  size: number;
}

/** Bytes `start` to `end`, both included and counted from 0. */
export interface ByteRange {
  start: number;
  end: number;
}

export interface PutOptions {
  /** More bytes than this are refused with PAYLOAD_TOO_LARGE while they stream in. */
  maxBytes?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Rows that belong to the blob, written in its transaction. When this throws, nothing is stored. */
  alsoWrite?: ((client: pg.PoolClient, blob: StoredBlob) => Promise<void>) | undefined;
}

const chunkBytes = 1024 * 1024;
/** A blob that nothing refers to is left alone for so long after it was last stored: its row may be about to be written. */
const graceMinutes = 15;

/** Files in PostgreSQL: addressed by SHA-256, in chunks of 1 MiB, so that memory stays bounded whatever the size. */
export class BlobRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  /** The blob with this content, or null. */
  async find(sha256: string): Promise<StoredBlob | null> {
    const row = await this.#db.prisma.blob.findUnique({ where: { sha256 } });
    return row === null ? null : { sha256, size: Number(row.size) };
  }

  /**
   * Stores a stream. Everything happens in one transaction: a stream that fails, a signal or a dead process leaves nothing behind.
   * Content that is there already is not stored twice.
   * @throws PAYLOAD_TOO_LARGE; UPLOAD_ABORTED when the stream or the signal broke it off.
   */
  async put(
    source: Readable | AsyncIterable<Uint8Array>,
    { maxBytes = Number.POSITIVE_INFINITY, signal, alsoWrite }: PutOptions = {},
  ): Promise<StoredBlob> {
    const client = await this.#db.blobPool.connect();
    let broken: Error | undefined;
    const onError = (error: Error) => {
      broken = error;
    };
    client.on('error', onError);
    try {
      await client.query('BEGIN');
      const id = (await client.query<{ id: string }>(`SELECT nextval(pg_get_serial_sequence('blob', 'id'))::text AS id`)).rows[0]?.id;
      const hash = createHash('sha256');
      let size = 0;
      let index = 0;
      for await (const chunk of rechunk(source instanceof Readable ? source : Readable.from(source), signal)) {
        size += chunk.length;
        if (size > maxBytes) throw new ServiceError('PAYLOAD_TOO_LARGE', `the file is larger than ${maxBytes} bytes`);
        hash.update(chunk);
        await client.query({
          name: 'put-chunk',
          text: 'INSERT INTO blob_chunk (blob_id, index, bytes) VALUES ($1, $2, $3)',
          values: [id, index++, chunk],
        });
      }
      const sha256 = hash.digest('hex');
      const { rows } = await client.query<{ id: string }>(
        'INSERT INTO blob (sha256, id, size) VALUES ($1, $2, $3) ON CONFLICT (sha256) DO UPDATE SET touched_at = now() RETURNING id::text',
        [sha256, id, size],
      );
      if (rows[0]?.id !== id) await client.query('DELETE FROM blob_chunk WHERE blob_id = $1', [id]);
      await alsoWrite?.(client, { sha256, size });
      await client.query('COMMIT');
      return { sha256, size };
    } catch (error) {
      await client.query('ROLLBACK').catch((e: Error) => {
        broken = e;
      });
      throw translate(error);
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  }

  /**
   * The bytes of a blob, or a range of them, as a stream. No connection is held while the reader is slow.
   * @throws NOT_FOUND; RANGE_NOT_SATISFIABLE
   */
  async get(sha256: string, range?: ByteRange): Promise<Readable> {
    const { rows } = await this.#db.pool.query<{ id: string; size: string }>('SELECT id::text, size::text FROM blob WHERE sha256 = $1', [
      sha256,
    ]);
    const blob = rows[0];
    if (blob === undefined) throw new ServiceError('NOT_FOUND', `there is no file ${sha256}`);
    const size = Number(blob.size);
    const { start, end } = range ?? { start: 0, end: size - 1 };
    if (range !== undefined && (start < 0 || end < start || end >= size))
      throw new ServiceError('RANGE_NOT_SATISFIABLE', `bytes ${start}-${end} of a file of ${size}`);
    return Readable.from(this.#chunks(blob.id, start, end, sha256), { objectMode: false, highWaterMark: chunkBytes });
  }

  async *#chunks(id: string, start: number, end: number, sha256: string): AsyncGenerator<Buffer> {
    for (let index = Math.floor(start / chunkBytes); index * chunkBytes <= end; index++) {
      const { rows } = await readChunk(this.#db.blobPool, id, index).catch((error: unknown) => {
        throw translate(error);
      });
      const bytes = rows[0]?.bytes;
      if (bytes === undefined) throw new ServiceError('BLOB_CORRUPT', `chunk ${index} of file ${sha256} is missing`);
      const base = index * chunkBytes;
      yield bytes.subarray(Math.max(start - base, 0), Math.min(end + 1 - base, bytes.length));
    }
  }

  /** Removes a blob at once if nothing refers to it and it was not stored in the last quarter of an hour. True when it was removed. */
  async release(sha256: string): Promise<boolean> {
    return (await this.#remove(sha256)) > 0;
  }

  /** Removes every such blob; returns how many. */
  async sweep(): Promise<number> {
    return this.#remove(null);
  }

  async #remove(sha256: string | null): Promise<number> {
    return removeBlobs(this.#db, sha256, graceMinutes);
  }
}

/**
 * Removes the blob of a checkpoint that was replaced, or is not needed, at once. Its row and its blob are written in one transaction, so nobody is about
 * to refer to it, but for another job whose checkpoint has the same bytes: then it stays. What is left by chance goes with the next sweep.
 */
export async function discardCheckpointBlob(db: Database, sha256: string): Promise<void> {
  await removeBlobs(db, sha256, 0).catch(() => undefined);
}

/** One blob, or all, that nothing refers to and that was not stored in the last `minutes`. */
async function removeBlobs(db: Database, sha256: string | null, minutes: number): Promise<number> {
  return db.prisma.$executeRaw`
      DELETE FROM blob b
      WHERE (${sha256}::text IS NULL OR b.sha256 = ${sha256})
        AND b.touched_at <= now() - make_interval(mins => ${minutes}::int)
        AND NOT EXISTS (SELECT 1 FROM model m WHERE m.blob_sha256 = b.sha256)
        AND NOT EXISTS (SELECT 1 FROM dataset d WHERE d.blob_sha256 = b.sha256)
        AND NOT EXISTS (SELECT 1 FROM artifact a WHERE a.sha256 = b.sha256)
        AND NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.sha256 = b.sha256)`;
}

function readChunk(pool: pg.Pool, id: string, index: number): Promise<pg.QueryResult<{ bytes: Buffer }>> {
  return pool.query<{ bytes: Buffer }>({
    name: 'get-chunk',
    text: 'SELECT bytes FROM blob_chunk WHERE blob_id = $1 AND index = $2',
    values: [id, index],
  });
}

/** The same bytes in pieces of exactly 1 MiB, the last one shorter. */
async function* rechunk(source: Readable, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  let buffer = Buffer.allocUnsafe(chunkBytes);
  let filled = 0;
  if (signal !== undefined) addAbortSignal(signal, source);
  try {
    for await (const piece of source as AsyncIterable<Uint8Array>) {
      for (let offset = 0; offset < piece.length; ) {
        const part = piece.subarray(offset, offset + chunkBytes - filled);
        buffer.set(part, filled);
        filled += part.length;
        offset += part.length;
        if (filled === chunkBytes) {
          yield buffer;
          buffer = Buffer.allocUnsafe(chunkBytes);
          filled = 0;
        }
      }
    }
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    throw new ServiceError('UPLOAD_ABORTED', `the stream broke off: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}
