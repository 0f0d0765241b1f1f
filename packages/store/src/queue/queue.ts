import { setTimeout as sleep } from 'node:timers/promises';
import { type QueuePayload, queueName, ServiceError } from '@octet/contracts';
import { createPostgresBackend, Queue, runMigrations, Worker, withBackend } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import type { Logger } from 'pino';
import { surviveBrokenConnections } from '../database.js';
import { reasonOf } from '../log.js';
import { defaultPatience, type Patience, untilAnswered } from '../patience.js';
import { seldom } from '../trouble.js';

/** What the service needs of a queue. It carries ids only: losing all of it loses no job (see reconcile.ts). */
export interface JobQueue {
  readonly backend: 'redis' | 'postgres';
  /**
   * Offers a job to the workers. Offering the same job and attempt again does nothing.
   * @param attempt starts of the job so far
   * @throws QUEUE_UNAVAILABLE
   */
  enqueue(jobId: string, attempt?: number): Promise<void>;
  /** The same for many jobs, in one exchange. @throws QUEUE_UNAVAILABLE */
  enqueueAll(jobs: readonly { id: string; attempts: number }[]): Promise<void>;
  /** Calls the handler with the id of each job offered, at most `concurrency` at a time. What the handler throws is logged. */
  createWorker(handler: (jobId: string) => Promise<void>, options: { concurrency: number }): Promise<QueueWorker>;
  /** Entries that wait and that a worker holds. @throws QUEUE_UNAVAILABLE */
  counts(): Promise<{ waiting: number; active: number }>;
  /** Ask before a job is created, so that a request is refused at once while the queue is away. @throws QUEUE_UNAVAILABLE */
  ping(): Promise<void>;
  close(): Promise<void>;
}

export interface QueueWorker {
  /** Takes no more jobs, and resolves when the handlers running have returned. */
  close(): Promise<void>;
}

export interface QueueOptions {
  /** BullMQ on Redis. Without it, BullMQ on the PostgreSQL of `databaseUrl`. */
  redisUrl?: string | undefined;
  databaseUrl: string;
  log: Logger;
  /** How long PostgreSQL is waited for, here and when a worker is made. */
  patience?: Patience | undefined;
}

/** Entries vanish when they are done: Postgres keeps the history. */
const entryOptions = { removeOnComplete: true, removeOnFail: true, attempts: 1 };

/** A worker that died is noticed after this by its lock; the job itself is judged by its heartbeat in Postgres. */
const lockDuration = 30_000;

const answerWithinMs = 3_000;
const firstPauseMs = 200;
const longestPauseMs = 10_000;

/**
 * BullMQ's backend on Postgres, with a pause after each failed attempt to take a job. BullMQ's own loop has none there: it asks again
 * at once, for as long as the database answers with errors.
 */
const patientBackend: typeof createPostgresBackend = (...about) => {
  const backend = createPostgresBackend(...about);
  const take = backend.moveToActive.bind(backend);
  let pause = firstPauseMs;
  backend.moveToActive = async (...request) => {
    try {
      const taken = await take(...request);
      pause = firstPauseMs;
      return taken;
    } catch (error) {
      await sleep(pause);
      pause = Math.min(2 * pause, longestPauseMs);
      throw error;
    }
  };
  return backend;
};

const OnPostgres = withBackend(patientBackend);

/**
 * Opens the queue. A Redis that is away now is awaited in the background; `ping` tells. PostgreSQL is waited for.
 * @throws DATABASE_UNAVAILABLE
 */
export async function openQueue({ redisUrl, databaseUrl, log, patience = defaultPatience }: QueueOptions): Promise<JobQueue> {
  return redisUrl === undefined ? openOnPostgres(databaseUrl, log, patience) : openOnRedis(redisUrl, log);
}

function openOnRedis(redisUrl: string, log: Logger): JobQueue {
  const connect = (role: string, maxRetriesPerRequest: number | null) => {
    const redis = new Redis(redisUrl, {
      connectionName: `octet-${role}`,
      maxRetriesPerRequest,
      enableOfflineQueue: maxRetriesPerRequest === null,
      retryStrategy: (times) => Math.min(times * 200, 2_000),
    });
    const warn = seldom(log);
    redis.on('error', (error) => warn({ reason: reasonOf(error), role }, 'no connection to Redis'));
    return redis;
  };
  const producer = connect('producer', 1);
  // BullMQ asks Redis for its version when a queue is made, once and for all: not before there is a connection.
  let queue: Queue<QueuePayload> | undefined;
  const open = async () => {
    if (producer.status === 'connecting' || producer.status === 'connect')
      await new Promise((resolve) => producer.once('ready', resolve).once('close', resolve));
    if (producer.status !== 'ready') throw new Error(`the connection to Redis is ${producer.status}`);
    if (queue === undefined) {
      queue = new Queue<QueuePayload>(queueName, { connection: producer, prefix: 'octet', defaultJobOptions: entryOptions });
      queue.on('error', (error) => log.warn({ reason: reasonOf(error) }, 'the queue has trouble'));
    }
    return queue;
  };
  return {
    ...common(open),
    backend: 'redis',
    ping: () =>
      answer(async () => {
        await open();
        await producer.ping();
      }),
    async createWorker(handler, { concurrency }) {
      const connection = connect('worker', null);
      const worker = new Worker<QueuePayload>(queueName, ({ data }) => handler(data.jobId), {
        connection,
        prefix: 'octet',
        concurrency,
        lockDuration,
        autorun: false,
      });
      return run(worker, log, () => connection.disconnect());
    },
    async close() {
      await queue?.close().catch(() => undefined);
      producer.disconnect();
    },
  };
}

async function openOnPostgres(databaseUrl: string, log: Logger, patience: Patience): Promise<JobQueue> {
  const poolOf = (max: number) => {
    const pool = new pg.Pool({
      connectionString: databaseUrl,
      max,
      options: '-c search_path=bullmq',
      application_name: 'octet-queue',
      keepAlive: true,
      connectionTimeoutMillis: answerWithinMs,
    });
    surviveBrokenConnections(pool, log);
    return pool;
  };
  const warn = seldom(log);
  const { part: queue, pool: producer } = await ready(
    () => poolOf(4),
    async (pool) => {
      const client = await pool.connect();
      try {
        await runMigrations(client);
      } finally {
        client.release();
      }
      const made = new OnPostgres.Queue<QueuePayload>(queueName, { connection: pool, defaultJobOptions: entryOptions });
      made.on('error', (error) => warn({ reason: reasonOf(error) }, 'the queue has trouble'));
      return made;
    },
    patience,
    log,
  );
  return {
    ...common(async () => queue),
    backend: 'postgres',
    ping: () => answer(async () => void (await producer.query('SELECT 1'))),
    async createWorker(handler, { concurrency }) {
      const { part: worker, pool } = await ready(
        () => poolOf(4 + concurrency),
        async (connection) =>
          new OnPostgres.Worker<QueuePayload>(queueName, ({ data }) => handler(data.jobId), {
            connection,
            concurrency,
            lockDuration,
            autorun: false,
          }),
        patience,
        log,
      );
      return run(worker, log, () => pool.end());
    },
    async close() {
      await queue.close().catch(() => undefined);
      await producer.end();
    },
  };
}

/**
 * A part of BullMQ on a pool of its own, once it is ready. A part whose first contact fails cannot be used later, as BullMQ keeps
 * the failure (in 6.7: `PostgresConnection.readyPromise`); it is thrown away with its pool, and another one made.
 * @throws DATABASE_UNAVAILABLE
 */
async function ready<T extends { waitUntilReady(): Promise<unknown>; close(): Promise<void> }>(
  openPool: () => pg.Pool,
  make: (pool: pg.Pool) => Promise<T>,
  patience: Patience,
  log: Logger,
): Promise<{ part: T; pool: pg.Pool }> {
  const attempt = async () => {
    const pool = openPool();
    let part: T | undefined;
    try {
      part = await make(pool);
      await part.waitUntilReady();
      return { part, pool };
    } catch (error) {
      await part?.close().catch(() => undefined);
      await pool.end();
      throw error;
    }
  };
  return untilAnswered(attempt, patience, log);
}

/** Runs a command of the queue with a limit of time, turning every failure into QUEUE_UNAVAILABLE. */
async function answer<T>(ask: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${answerWithinMs / 1000} s`)), answerWithinMs);
  });
  try {
    return await Promise.race([ask(), late]);
  } catch (error) {
    throw new ServiceError('QUEUE_UNAVAILABLE', `the queue does not answer: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

interface Entry {
  name: string;
  data: QueuePayload;
  opts: { jobId: string };
}

interface EntryQueue {
  addBulk(entries: Entry[]): Promise<unknown>;
  getJobCounts(...types: ('waiting' | 'active' | 'prioritized' | 'delayed')[]): Promise<Record<string, number>>;
}

function common(open: () => Promise<EntryQueue>): Pick<JobQueue, 'enqueue' | 'enqueueAll' | 'counts'> {
  const enqueueAll = (jobs: readonly { id: string; attempts: number }[]) =>
    answer(async () => {
      const queue = await open();
      if (jobs.length > 0)
        await queue.addBulk(
          jobs.map(({ id, attempts }) => ({ name: 'quantize', data: { jobId: id }, opts: { jobId: `${id}-${attempts}` } })),
        );
    });
  return {
    enqueue: (jobId, attempt = 0) => enqueueAll([{ id: jobId, attempts: attempt }]),
    enqueueAll,
    counts: () =>
      answer(async () => {
        const { waiting = 0, active = 0 } = await (await open()).getJobCounts('waiting', 'active');
        return { waiting, active };
      }),
  };
}

interface RunnableWorker {
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'failed', listener: (job: { data: QueuePayload } | undefined, error: Error) => void): unknown;
  waitUntilReady(): Promise<unknown>;
  run(): Promise<void>;
  close(): Promise<void>;
}

function run(worker: RunnableWorker, log: Logger, disconnect: () => unknown): QueueWorker {
  const warn = seldom(log);
  worker.on('error', (error) => warn({ reason: reasonOf(error) }, 'the worker has trouble with the queue'));
  worker.on('failed', (job, error) => log.error({ err: error, jobId: job?.data.jobId }, 'the handler of a job failed'));
  const running = worker.run().catch((error: unknown) => log.error({ err: error }, 'the worker stopped'));
  return {
    async close() {
      await worker.close();
      await running;
      await disconnect();
    },
  };
}
