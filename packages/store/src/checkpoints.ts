import type { Readable } from 'node:stream';
import type { CheckpointPlace } from '@octet/contracts';
import type pg from 'pg';
import { type BlobRepository, discardCheckpointBlob, type StoredBlob } from './blobs.js';
import type { Database } from './database.js';
import type { Claim } from './jobs.js';

/** Where a job goes on when it is taken again, and the blob that holds it. */
export interface SavedCheckpoint extends CheckpointPlace {
  sha256: string;
}

/** The job belongs to another start than the one that writes. */
class ClaimLost extends Error {}

/** The newest checkpoint of every unfinished job. It goes when the job ends (see `jobs.ts`). */
export class CheckpointRepository {
  readonly #db: Database;
  readonly #blobs: BlobRepository;
  constructor(db: Database, blobs: BlobRepository) {
    this.#db = db;
    this.#blobs = blobs;
  }

  /** The checkpoint to go on from, or null. */
  async find(jobId: string): Promise<SavedCheckpoint | null> {
    const row = await this.#db.prisma.checkpoint.findUnique({ where: { jobId } });
    return row === null ? null : { stage: row.stage as CheckpointPlace['stage'], step: row.step, sha256: row.sha256 };
  }

  /**
   * Stores a checkpoint in the place of the one before: bytes and row in one transaction, which a worker that lost the job cannot complete. False when the job is not running under this claim; then nothing is stored.
   * @throws UPLOAD_ABORTED when the stream or the signal broke it off
   */
  async save(claim: Claim, place: CheckpointPlace, source: Readable, signal?: AbortSignal): Promise<boolean> {
    let before: string | undefined;
    try {
      const { sha256 } = await this.#blobs.put(source, {
        signal,
        alsoWrite: async (client, blob) => {
          before = await replace(client, claim, place, blob);
        },
      });
      if (before !== undefined && before !== sha256) await discardCheckpointBlob(this.#db, before);
      return true;
    } catch (error) {
      if (error instanceof ClaimLost) return false;
      throw error;
    }
  }

  /** Removes a checkpoint that cannot be used. False when there is none, or the job is not running under this claim. */
  async drop({ jobId, workerId, attempt }: Claim): Promise<boolean> {
    const { rows } = await this.#db.pool.query<{ sha256: string }>(
      `DELETE FROM checkpoint c USING job j
       WHERE c.job_id = $1 AND j.id = c.job_id AND j.worker_id = $2 AND j.attempts = $3 AND j.state = 'running' RETURNING c.sha256`,
      [jobId, workerId, attempt],
    );
    for (const { sha256 } of rows) await discardCheckpointBlob(this.#db, sha256);
    return rows.length > 0;
  }
}

/** Writes the row in the transaction of its blob; returns the blob of the row before. */
async function replace(
  client: pg.PoolClient,
  { jobId, workerId, attempt }: Claim,
  { stage, step }: CheckpointPlace,
  { sha256, size }: StoredBlob,
): Promise<string | undefined> {
  const held = await client.query(`SELECT 1 FROM job WHERE id = $1 AND worker_id = $2 AND attempts = $3 AND state = 'running' FOR UPDATE`, [
    jobId,
    workerId,
    attempt,
  ]);
  if (held.rowCount === 0) throw new ClaimLost();
  const { rows } = await client.query<{ sha256: string }>('SELECT sha256 FROM checkpoint WHERE job_id = $1', [jobId]);
  const before = rows[0];
  await client.query(
    `INSERT INTO checkpoint (job_id, stage, step, attempt, sha256, bytes) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (job_id) DO UPDATE SET stage = $2, step = $3, attempt = $4, sha256 = $5, bytes = $6, created_at = now()`,
    [jobId, stage, step, attempt, sha256, size],
  );
  await client.query('UPDATE job SET revision = revision + 1, updated_at = now() WHERE id = $1', [jobId]);
  return before?.sha256;
}
