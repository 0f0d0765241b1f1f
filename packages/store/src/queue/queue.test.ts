import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { jobFor, storeUploads } from '../../../../tests/support/fixtures.js';
import { startPostgres, startRedis, type TestRedis, until } from '../../../../tests/support/services.js';
import { openStore, type Store } from '../store.js';
import { type JobQueue, openQueue, type QueueWorker } from './queue.js';
import { expireQueued, reconcile } from './reconcile.js';
import { Standstill } from './standstill.js';

const log = pino({ level: 'silent' });

describe.each(['redis', 'postgres'] as const)('the queue on %s', (backend) => {
  let database: Awaited<ReturnType<typeof startPostgres>>;
  let redis: TestRedis | undefined;
  let store: Store;
  let queue: JobQueue;
  let uploads: { model: string; dataset: string };
  const workers: QueueWorker[] = [];

  beforeAll(async () => {
    database = await startPostgres();
    redis = backend === 'redis' ? await startRedis() : undefined;
    store = await openStore({ databaseUrl: database.url, log });
    queue = await openQueue({ databaseUrl: database.url, redisUrl: redis?.url, log });
    uploads = await storeUploads(store);
    await until(
      () =>
        queue.ping().then(
          () => true,
          () => false,
        ),
      'the queue to answer',
    );
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.close()));
  });
  afterAll(async () => {
    await queue.close();
    await store.close();
    await redis?.stop();
    await database.drop();
  });

  const consume = async (seen: string[], concurrency = 1) => {
    const worker = await queue.createWorker(async (jobId) => void seen.push(jobId), { concurrency });
    workers.push(worker);
  };

  const loseEverything = async () => {
    if (redis !== undefined) return redis.flush();
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const { rows } = await client.query<{ name: string }>(
      `SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'bullmq' AND tablename NOT LIKE '%migration%'`,
    );
    await client.query(`TRUNCATE ${rows.map((row) => `bullmq.${row.name}`).join(', ')}`);
    await client.end();
  };

  test('says which backend it is', () => expect(queue.backend).toBe(backend));

  test('each job is offered once, in order, also when it was put in twice', async () => {
    const ids = Array.from({ length: 10 }, () => `job_${randomUUID()}`);
    for (const id of ids) await queue.enqueue(id);
    for (const id of ids) await queue.enqueue(id);
    expect(await queue.counts()).toEqual({ waiting: 10, active: 0 });
    const seen: string[] = [];
    await consume(seen);
    await until(() => seen.length >= 10, 'ten jobs');
    await until(async () => (await queue.counts()).active === 0, 'an idle queue');
    expect(seen).toEqual(ids);
    expect(await queue.counts()).toEqual({ waiting: 0, active: 0 });
  });

  test('a finished entry can be put in again, and the next attempt at once', async () => {
    const id = `job_${randomUUID()}`;
    const seen: string[] = [];
    await consume(seen);
    await queue.enqueue(id);
    await until(() => seen.length === 1, 'the first time');
    await until(async () => (await queue.counts()).active === 0, 'an idle queue');
    await queue.enqueue(id);
    await until(() => seen.length === 2, 'the second time');
    await queue.enqueue(id, 1);
    await until(() => seen.length === 3, 'the next attempt');
  });

  test('a handler that throws stops nothing', async () => {
    const seen: string[] = [];
    workers.push(
      await queue.createWorker(
        async (jobId) => {
          seen.push(jobId);
          if (seen.length === 1) throw new Error('the handler stumbles');
        },
        { concurrency: 1 },
      ),
    );
    await queue.enqueue(`job_${randomUUID()}`);
    await queue.enqueue(`job_${randomUUID()}`);
    await until(() => seen.length === 2, 'both jobs');
  });

  test('a queue that lost everything is filled again from Postgres, oldest first', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) {
      const job = await store.jobs.create(jobFor(uploads));
      await queue.enqueue(job.id, job.attempts);
      ids.push(job.id);
    }
    await loseEverything();
    expect(await queue.counts()).toEqual({ waiting: 0, active: 0 });
    expect(await reconcile(store, queue, log)).toMatchObject({ offered: 3 });
    expect(await reconcile(store, queue, log)).toMatchObject({ offered: 3 });
    expect((await queue.counts()).waiting).toBe(3);
    const seen: string[] = [];
    await consume(seen);
    await until(() => seen.length === 3, 'three jobs');
    expect(seen).toEqual(ids);
    for (const id of ids) await store.jobs.requestCancel(id);
  });

  test('jobs of a lost worker go back to the queue, and fail after the last attempt', async () => {
    const job = await store.jobs.create(jobFor(uploads));
    for (const attempt of [1, 2, 3]) {
      await store.jobs.claim(job.id, `ghost-${attempt}`);
      const done = await reconcile(store, queue, log, { heartbeatTimeoutMs: -1_000 });
      expect(done).toMatchObject(attempt < 3 ? { requeued: 1, lost: 0, offered: 1 } : { requeued: 0, lost: 1, offered: 0 });
    }
    expect(await store.jobs.get(job.id)).toMatchObject({ state: 'failed', attempts: 3, error: { code: 'WORKER_LOST', retryable: true } });
  });

  test('a cancel whose worker is lost comes true all the same', async () => {
    const job = await store.jobs.create(jobFor(uploads));
    await store.jobs.claim(job.id, 'ghost');
    await store.jobs.requestCancel(job.id);
    await reconcile(store, queue, log, { heartbeatTimeoutMs: 60_000 });
    expect((await store.jobs.get(job.id)).state).toBe('cancelling');
    await reconcile(store, queue, log, { heartbeatTimeoutMs: -1_000 });
    expect((await store.jobs.get(job.id)).state).toBe('cancelled');
  });

  test('a job that waited too long fails', async () => {
    const job = await store.jobs.create(jobFor(uploads, { limits: { queueSeconds: 1, runSeconds: 10 } }));
    await until(async () => (await reconcile(store, queue, log)).expired === 1, 'the end of its patience');
    expect(await store.jobs.get(job.id)).toMatchObject({ state: 'failed', error: { code: 'QUEUE_TIMED_OUT' } });
  });

  test('a job expires also with more older ones before it than a round looks at', async () => {
    const older = await store.jobs.create(jobFor(uploads));
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(
      `INSERT INTO job (id, state, recipe, limits, metadata, fingerprint, model_id, dataset_id, queued_at)
       SELECT 'job_older_' || n, 'queued', recipe, limits, metadata, fingerprint, model_id, dataset_id, queued_at
       FROM job, generate_series(1, 1500) AS n WHERE id = $1`,
      [older.id],
    );
    const job = await store.jobs.create(jobFor(uploads, { limits: { queueSeconds: 1, runSeconds: 10 } }));
    await until(async () => (await expireQueued(store)) === 1, 'the end of its patience');
    expect(await store.jobs.get(job.id)).toMatchObject({ state: 'failed', error: { code: 'QUEUE_TIMED_OUT' } });
    expect((await store.jobs.get(older.id)).state).toBe('queued');
    await client.query(`DELETE FROM job WHERE id LIKE 'job_older_%'`);
    await client.end();
    await store.jobs.requestCancel(older.id);
  });

  test('workers are spared after a standstill of the database, and judged again after one time-out', async () => {
    let now = 0;
    const standstill = new Standstill(30_000, () => now);
    const round = () => reconcile(store, queue, log, { heartbeatTimeoutMs: -1_000, standstill });
    const job = await store.jobs.create(jobFor(uploads));
    await store.jobs.claim(job.id, 'ghost');
    now += 300_000;
    expect((await round()).requeued).toBe(0);
    for (let i = 0; i < 5; i++) {
      now += 5_000;
      expect((await round()).requeued).toBe(0);
    }
    now += 5_000;
    expect((await round()).requeued).toBe(1);
    await store.jobs.requestCancel(job.id);
    await loseEverything();
  });

  test.runIf(backend === 'redis')(
    'while Redis is away every question is answered with QUEUE_UNAVAILABLE, afterwards all goes on',
    async () => {
      const seen: string[] = [];
      await consume(seen);
      await redis?.restart();
      await until(
        () =>
          queue.ping().then(
            () => true,
            () => false,
          ),
        'Redis to be back',
      );
      await queue.enqueue(`job_${randomUUID()}`);
      await until(() => seen.length === 1, 'a job after the restart');
      const other = await startRedis();
      const lonely = await openQueue({ databaseUrl: database.url, redisUrl: other.url, log });
      await until(
        () =>
          lonely.ping().then(
            () => true,
            () => false,
          ),
        'the other Redis',
      );
      await other.stop();
      await expect(lonely.ping()).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' });
      await expect(lonely.enqueue('job_x')).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' });
      await expect(lonely.counts()).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' });
      await lonely.close();
    },
  );
});
