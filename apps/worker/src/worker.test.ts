import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { isTerminal, type JobRequest } from '@octet/contracts';
import { type JobQueue, type JobRecord, openQueue, openStore, type Store } from '@octet/store';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { jobFor, storeUploads } from '../../../tests/support/fixtures.js';
import { startPostgres, startRedis, type TestRedis, until } from '../../../tests/support/services.js';
import { type RunningWorker, startWorker } from './worker.js';

const log = pino({ level: process.env.TEST_LOG ?? 'silent' });
const module = inject('jobCommands');

describe.each(['redis', 'postgres'] as const)('a worker on %s', (backend) => {
  let database: Awaited<ReturnType<typeof startPostgres>>;
  let redis: TestRedis | undefined;
  let store: Store;
  let queue: JobQueue;
  let workDirectory: string;
  const workers: RunningWorker[] = [];

  beforeAll(async () => {
    database = await startPostgres();
    redis = backend === 'redis' ? await startRedis() : undefined;
    store = await openStore({ databaseUrl: database.url, log });
    queue = await openQueue({ databaseUrl: database.url, redisUrl: redis?.url, log });
    workDirectory = await mkdtemp(path.join(tmpdir(), 'octet-test-worker-'));
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.close()));
    expect((await readdir(workDirectory)).filter((name) => name.startsWith('worker-'))).toEqual([]);
  });
  afterAll(async () => {
    await queue.close();
    await store.close();
    await redis?.stop();
    await database.drop();
    await rm(workDirectory, { recursive: true, force: true });
  });

  const start = async (concurrency = 2) => {
    const worker = await startWorker({
      store,
      queue,
      concurrency,
      workDirectory,
      jobMemoryBytes: 2 ** 30,
      log,
      testing: { module, reconcileEveryMs: 200, retryPauseMs: 100, othersFirstMs: 2_000 },
    });
    workers.push(worker);
    return worker;
  };
  const submit = async (behaviour: string, overrides: Partial<JobRequest> = {}) => {
    const job = await store.jobs.create(jobFor(await storeUploads(store, { model: behaviour }), overrides));
    await queue.enqueue(job.id, job.attempts);
    return job.id;
  };
  const end = (id: string): Promise<JobRecord> =>
    until(async () => {
      const job = await store.jobs.get(id);
      return isTerminal(job.state) ? job : null;
    }, `the end of ${id}`);
  const running = (id: string) => until(async () => (await store.jobs.get(id)).progress !== null, `progress of ${id}`);

  test('a job leaves a model, a report and its events', async () => {
    await start();
    const job = await end(await submit('fine'));
    expect(job).toMatchObject({
      state: 'succeeded',
      attempts: 1,
      error: null,
      result: { decision: 'ship', int8: 0.89, int8From: 'qat', changePoints: -1, int8Bytes: 100 },
    });
    const artifacts = await store.artifacts.list(job.id);
    expect(artifacts.map(({ kind, filename }) => [kind, filename])).toEqual([
      ['model', 'm.int8.onnx'],
      ['report_json', 'm.report.json'],
      ['report_md', 'm.report.md'],
    ]);
    expect(await text(await store.blobs.get(artifacts[0]?.sha256 ?? ''))).toBe('int8 of fine');
    expect((await store.reports.get(job.id))?.verdict.text).toBe('as tested');
    // A busy machine makes the job say how long it has been at something.
    const events = (await store.events.list(job.id)).filter((event) => !/: \d+ s$/.test(String(event.data.message)));
    expect(events.map((event) => event.data.state ?? event.data.stage ?? event.type)).toEqual([
      'queued',
      'running',
      'load',
      'train',
      'epoch',
      'log',
      'report',
      'succeeded',
    ]);
  });

  test('a missed gate keeps its model and report', async () => {
    await start();
    const job = await end(await submit('gate'));
    expect(job).toMatchObject({ state: 'gate_failed', result: { gatePassed: false } });
    expect(await store.artifacts.list(job.id)).toHaveLength(3);
  });

  test('a failure names code, place, stage and hint; a crash its signal; the worker goes on', async () => {
    await start(1);
    const refused = await submit('refuse');
    const crashed = await submit('crash');
    const fine = await submit('fine');
    expect(await end(refused)).toMatchObject({
      state: 'failed',
      result: null,
      error: { code: 'MODEL_NOT_TRAINABLE', place: { node: 'fc1' }, stage: 'load', hint: 'hint of MODEL_NOT_TRAINABLE', retryable: false },
    });
    expect(await end(crashed)).toMatchObject({
      state: 'failed',
      attempts: 3,
      error: { code: 'JOB_CRASHED', detail: expect.stringMatching(/SIGSEGV.*start 3 of 3/s), stage: 'load' },
    });
    expect((await store.jobs.get(refused)).attempts).toBe(1);
    expect((await end(fine)).state).toBe('succeeded');
    expect(await store.artifacts.list(refused)).toEqual([]);
  });

  test('progress is thinned out, with an estimate of the time left', async () => {
    await start();
    const id = await submit('slow');
    const job = await until(async () => {
      const now = await store.jobs.get(id);
      return (now.progress?.done ?? 0) > 60 ? now : null;
    }, 'some progress');
    expect(job.progress).toMatchObject({ stage: 'train', total: 6_000, unit: 'steps', stageEtaSeconds: expect.any(Number) });
    const rows = (await store.events.list(id)).filter((event) => event.type === 'progress');
    expect(rows.length).toBeLessThan(Number(job.progress?.done) / 3);
    await store.jobs.requestCancel(id);
    expect((await end(id)).state).toBe('cancelled');
  });

  test('cancel reaches a process that heeds it, one that does not, and a job that waits', async () => {
    await start();
    const slow = await submit('slow');
    const deaf = await submit('deaf');
    const waiting = await submit('fine');
    await Promise.all([running(slow), running(deaf)]);
    for (const id of [waiting, slow, deaf]) await store.jobs.requestCancel(id);
    const jobs = await Promise.all([slow, deaf, waiting].map(end));
    expect(jobs.map((job) => job.state)).toEqual(['cancelled', 'cancelled', 'cancelled']);
    expect(jobs[2]?.attempts).toBe(0);
  });

  test('a job that runs too long is stopped', async () => {
    await start();
    const job = await end(await submit('slow', { limits: { queueSeconds: 100, runSeconds: 5 } }));
    expect(job).toMatchObject({ state: 'failed', error: { code: 'JOB_TIMED_OUT', detail: expect.stringContaining('runSeconds = 5') } });
  });

  test('a worker that stops gives its job to the next one', async () => {
    const first = await start(1);
    const id = await submit('slow');
    await running(id);
    await first.close();
    expect(await store.jobs.get(id)).toMatchObject({ state: 'queued', attempts: 1, workerId: null });
    const second = await start(1);
    await running(id);
    expect(await store.jobs.get(id)).toMatchObject({ state: 'running', attempts: 2, workerId: second.id });
    await store.jobs.requestCancel(id);
    expect((await end(id)).state).toBe('cancelled');
  });

  test('a worker that stops while it lays out files gives its job back', async () => {
    const id = (await store.jobs.create(jobFor(await storeUploads(store, { model: 'fine' })))).id;
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('BEGIN; LOCK TABLE blob_chunk IN ACCESS EXCLUSIVE MODE');
    try {
      const first = await start(1);
      await queue.enqueue(id);
      await until(
        async () => (await readdir(workDirectory, { recursive: true })).some((name) => name.endsWith(`${id}-1/input`)),
        'the files',
      );
      await first.close();
      expect(await store.jobs.get(id)).toMatchObject({ state: 'queued', attempts: 1, error: null });
    } finally {
      await client.query('COMMIT');
      await client.end();
    }
    await start(1);
    expect(await end(id)).toMatchObject({ state: 'succeeded', attempts: 2 });
  });

  test('a job whose process was killed is started again, on another worker where there is one', async () => {
    await Promise.all([start(1), start(1)]);
    const job = await end(await submit('killed once'));
    expect(job).toMatchObject({ state: 'succeeded', attempts: 2, error: null });
    const events = await store.events.list(job.id);
    const workers = events.flatMap((event) => (event.data.worker === undefined ? [] : [event.data.worker]));
    expect(new Set(workers).size).toBe(2);
    expect(events.find((event) => event.data.failedStarts === 1)?.data.reason).toMatch(/JOB_CRASHED.*SIGKILL/);
  });

  test.runIf(process.platform === 'linux')('a full disk is named, after as many starts as allowed', async () => {
    await start(1);
    expect(await end(await submit('full'))).toMatchObject({
      state: 'failed',
      attempts: 3,
      error: { code: 'STORAGE_FULL', detail: expect.stringContaining('ENOSPC') },
    });
  });

  test('many jobs on two workers each run once', async () => {
    await Promise.all([start(1), start(1)]);
    const ids = await Promise.all(Array.from({ length: 6 }, () => submit('fine')));
    for (const job of await Promise.all(ids.map(end))) expect(job).toMatchObject({ state: 'succeeded', attempts: 1 });
  });

  test('what dead workers left behind is removed at the start, and nothing else', async () => {
    for (const name of ['worker-999999999-dead', 'notes']) await mkdir(path.join(workDirectory, name));
    await start();
    expect((await readdir(workDirectory)).filter((name) => !name.startsWith(`worker-${process.pid}-`))).toEqual(['notes']);
  });
});
