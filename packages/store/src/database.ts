import { OctetError, ServiceError } from '@octet/contracts';
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import type { Logger } from 'pino';
import { type Prisma, PrismaClient } from './generated/client.js';
import { reasonOf } from './log.js';
import { seldom } from './trouble.js';

/** Connections of one process: a pool for short queries and a small one for blobs, whose writers hold a connection for long. */
export interface Database {
  prisma: PrismaClient;
  pool: pg.Pool;
  blobPool: pg.Pool;
  url: string;
  close(): Promise<void>;
}

export type Transaction = Prisma.TransactionClient;

export function openDatabase(url: string, log: Logger): Database {
  const options: pg.PoolConfig = { connectionString: url, connectionTimeoutMillis: 10_000, idleTimeoutMillis: 30_000, keepAlive: true };
  const pool = new pg.Pool({ ...options, max: 12, application_name: 'octet' });
  const blobPool = new pg.Pool({ ...options, max: 6, application_name: 'octet-blobs' });
  for (const each of [pool, blobPool]) surviveBrokenConnections(each, log);
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool), transactionOptions: { maxWait: 10_000, timeout: 30_000 } });
  return {
    prisma,
    pool,
    blobPool,
    url,
    async close() {
      await prisma.$disconnect();
      await Promise.all([pool.end(), blobPool.end()]);
    },
  };
}

/** A connection that breaks, idle or in use, is a line in the log; whoever uses it gets the error from the query. */
export function surviveBrokenConnections(pool: pg.Pool, log: Logger): void {
  const warn = seldom(log);
  pool.on('error', (error) => {
    if (!pool.ending) warn({ reason: reasonOf(error) }, 'an idle database connection broke');
  });
  // While a client is checked out the pool does not listen, and an "error" without a listener ends the process.
  pool.on('connect', (client) =>
    client.on('error', (error: Error) => log.debug({ reason: reasonOf(error) }, 'a database connection broke')),
  );
}

/**
 * The same object with every asynchronous method's errors translated: connection trouble becomes DATABASE_UNAVAILABLE,
 * so that no caller needs to know the drivers.
 */
export function guarded<T extends object>(repository: T): T {
  return new Proxy(repository, {
    get(target, key, receiver) {
      const member: unknown = Reflect.get(target, key, receiver);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        try {
          const result: unknown = Reflect.apply(member, target, args);
          return result instanceof Promise ? result.catch(rethrow) : result;
        } catch (error) {
          return rethrow(error);
        }
      };
    },
  });
}

function rethrow(error: unknown): never {
  throw translate(error);
}

const connectionTrouble = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EPIPE',
  'ENOENT',
  'EHOSTUNREACH',
  '57P01',
  '57P02',
  '57P03',
  '53300',
  'P1001',
  'P1002',
  'P1008',
  'P1017',
  'P2024',
  'P2028',
  'P2037',
]);

/** A driver's error as an error of the catalogue; anything that is not connection trouble passes through unchanged. */
export function translate(error: unknown): unknown {
  if (error instanceof ServiceError || error instanceof OctetError) return error;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const code = 'code' in cause ? String(cause.code) : '';
    if (
      connectionTrouble.has(code) ||
      /Code: `(57P0[1-3]|53300|08\w{3})`|Connection terminated|timeout exceeded when trying to connect|timeout expired|Can't reach database|not queryable|Unable to start a transaction|Server has closed the connection/i.test(
        cause.message,
      )
    ) {
      return new ServiceError('DATABASE_UNAVAILABLE', `PostgreSQL does not answer: ${cause.message.split('\n').at(-1)}`, { cause: error });
    }
  }
  return error;
}

/**
 * JSON that PostgreSQL accepts: jsonb knows neither NUL nor half a surrogate pair, and uploads may hold both in names.
 */
export function json(value: unknown): Prisma.InputJsonValue {
  return JSON.parse(JSON.stringify(clean(value))) as Prisma.InputJsonValue;
}

function clean(value: unknown): unknown {
  if (typeof value === 'string') return text(value);
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value === 'object' && value !== null && !(value instanceof Date))
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [text(key), clean(item)]));
  return value;
}

/** Text that PostgreSQL accepts. */
export function text(value: string): string {
  return Buffer.from(value.replaceAll('\0', '\ufffd'), 'utf8').toString('utf8');
}
