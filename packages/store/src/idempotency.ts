import { ServiceError } from '@octet/contracts';
import { type Database, json } from './database.js';

/** An answer that is kept to be given again. */
export interface KeptAnswer {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

/** Until when an unfinished request holds its key: after that its sender or server is taken for dead. */
const lockMinutes = 15;
const keepHours = 24;

/** Idempotency-Key: the first request with a key is answered and its answer kept for a day. */
export class IdempotencyRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Starts a request. Null: it is the first, answer it and call `finish` (or `abandon`). Otherwise the kept answer.
   * @param key the sender's key with the method and path it was sent to
   * @param requestHash SHA-256 in hex over the request
   * @throws IDEMPOTENCY_IN_PROGRESS; IDEMPOTENCY_MISMATCH
   */
  async begin(key: string, requestHash: string): Promise<KeptAnswer | null> {
    const { rowCount } = await this.#db.pool.query(
      `INSERT INTO idempotency_key (key, request_hash, expires_at) VALUES ($1, $2, now() + make_interval(mins => $3))
       ON CONFLICT (key) DO UPDATE SET request_hash = $2, status = NULL, headers = NULL, body = NULL, created_at = now(), expires_at = excluded.expires_at
       WHERE idempotency_key.expires_at < now()`,
      [key, requestHash, lockMinutes],
    );
    if (rowCount === 1) return null;
    const row = await this.#db.prisma.idempotencyKey.findUnique({ where: { key } });
    if (row === null) return this.begin(key, requestHash);
    if (row.requestHash !== requestHash) throw new ServiceError('IDEMPOTENCY_MISMATCH', 'this key came with another request before');
    if (row.status === null) throw new ServiceError('IDEMPOTENCY_IN_PROGRESS', 'the first request with this key is still being answered');
    return { status: row.status, headers: row.headers as Record<string, string>, body: row.body };
  }

  /** Keeps the answer. */
  async finish(key: string, answer: KeptAnswer): Promise<void> {
    const expiresAt = new Date(Date.now() + keepHours * 3_600_000);
    await this.#db.prisma.idempotencyKey.updateMany({
      where: { key },
      data: { status: answer.status, headers: json(answer.headers), body: json(answer.body), expiresAt },
    });
  }

  /** Frees the key: the request failed in a way that the sender may repeat. */
  async abandon(key: string): Promise<void> {
    await this.#db.prisma.idempotencyKey.deleteMany({ where: { key, status: null } });
  }

  async removeExpired(): Promise<number> {
    return (await this.#db.prisma.idempotencyKey.deleteMany({ where: { expiresAt: { lt: new Date() } } })).count;
  }
}
