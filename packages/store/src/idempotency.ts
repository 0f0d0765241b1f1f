import { randomUUID } from 'node:crypto';
import { ServiceError } from '@octet/contracts';
import { type Database, json } from './database.js';

/** An answer that is kept to be given again. */
export interface KeptAnswer {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

/** A request that is being answered holds its key for so long, and renews it; a key that is not renewed belongs to a dead request. */
const leaseSeconds = 10;
export const renewEveryMs = 3_000;
const keepHours = 24;

/** A request's hold on its key. */
export interface Lease {
  key: string;
  holder: string;
}

/** Idempotency-Key: the first request with a key is answered and its answer kept for a day. */
export class IdempotencyRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Starts a request: a lease when it is the first with this key, or the one before died; otherwise the kept answer. Whoever has the lease
   * answers the request, calls `renew` every `renewEveryMs` meanwhile, and `finish` or `abandon` in the end.
   * @param key the sender's key with the method and path it was sent to
   * @param requestHash SHA-256 in hex over the request
   * @throws IDEMPOTENCY_IN_PROGRESS; IDEMPOTENCY_MISMATCH
   */
  async begin(key: string, requestHash: string): Promise<Lease | KeptAnswer> {
    const holder = randomUUID();
    const { rowCount } = await this.#db.pool.query(
      `INSERT INTO idempotency_key (key, request_hash, holder, expires_at) VALUES ($1, $2, $3, now() + make_interval(secs => $4))
       ON CONFLICT (key) DO UPDATE SET request_hash = $2, holder = $3, status = NULL, headers = NULL, body = NULL, created_at = now(), expires_at = excluded.expires_at
       WHERE idempotency_key.expires_at < now()`,
      [key, requestHash, holder, leaseSeconds],
    );
    if (rowCount === 1) return { key, holder };
    const row = await this.#db.prisma.idempotencyKey.findUnique({ where: { key } });
    if (row === null) return this.begin(key, requestHash);
    if (row.requestHash !== requestHash) throw new ServiceError('IDEMPOTENCY_MISMATCH', 'this key came with another request before');
    if (row.status === null) throw new ServiceError('IDEMPOTENCY_IN_PROGRESS', 'the first request with this key is still being answered');
    return { status: row.status, headers: row.headers as Record<string, string>, body: row.body };
  }

  /** Says that the request is still being answered. False when the key has gone to another request, as this one was silent for too long. */
  async renew({ key, holder }: Lease): Promise<boolean> {
    const { rowCount } = await this.#db.pool.query(
      'UPDATE idempotency_key SET expires_at = now() + make_interval(secs => $3) WHERE key = $1 AND holder = $2 AND status IS NULL',
      [key, holder, leaseSeconds],
    );
    return rowCount === 1;
  }

  /** Keeps the answer. */
  async finish({ key, holder }: Lease, answer: KeptAnswer): Promise<void> {
    const expiresAt = new Date(Date.now() + keepHours * 3_600_000);
    await this.#db.prisma.idempotencyKey.updateMany({
      where: { key, holder },
      data: { status: answer.status, headers: json(answer.headers), body: json(answer.body), expiresAt },
    });
  }

  /** Frees the key: the request failed in a way that the sender may repeat. */
  async abandon({ key, holder }: Lease): Promise<void> {
    await this.#db.prisma.idempotencyKey.deleteMany({ where: { key, holder, status: null } });
  }

  async removeExpired(): Promise<number> {
    return (await this.#db.prisma.idempotencyKey.deleteMany({ where: { expiresAt: { lt: new Date() } } })).count;
  }
}
