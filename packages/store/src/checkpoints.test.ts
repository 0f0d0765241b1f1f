import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { failureOf, jobErrorOf, jobPolicy, type Report } from '@octet/contracts';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { jobFor, storeUploads } from '../../../tests/support/fixtures.js';
import { startPostgres } from '../../../tests/support/services.js';
import type { Claim } from './jobs.js';
import type { JobQueue } from './queue/queue.js';
import { reconcile } from './queue/reconcile.js';
import { openStore, type Store } from './store.js';

const log = pino({ level: 'silent' });
let database: Awaited<ReturnType<typeof startPostgres>>;
let store: Store;
let uploads: { model: string; dataset: string };
let client: pg.Client;

beforeAll(async () => {
  database = await startPostgres();
  store = await openStore({ databaseUrl: database.url, log });
  uploads = await storeUploads(store);
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await store.close();
  await database.drop();
});

/** The reconciler asks only for this of a queue. */
const queue = { enqueueAll: async () => undefined } as unknown as JobQueue;

const start = async (jobId: string, worker: string): Promise<Claim> => {
  const claim = await store.jobs.claim(jobId, worker);
  if (claim === null) throw new Error('not claimed');
  return claim;
};
const begun = async () => start((await store.jobs.create(jobFor(uploads))).id, 'worker-1');
const save = (claim: Claim, step: number, bytes: string, stage: 'ptq' | 'train' = 'train') =>
  store.checkpoints.save(claim, { stage, step }, Readable.from([Buffer.from(bytes)]));
const stored = async () => {
  const { rows } = await client.query<{ blobs: number; chunks: number }>(
    'SELECT (SELECT count(*)::int FROM blob) AS blobs, (SELECT count(*)::int FROM blob_chunk) AS chunks',
  );
  return rows[0];
};

test('the newest is kept, the bytes before it go at once', async () => {
  const claim = await begun();
  const nothing = await stored();
  expect(await store.checkpoints.find(claim.jobId)).toBeNull();
  expect(await save(claim, 0, 'after ptq', 'ptq')).toBe(true);
  expect((await store.jobs.get(claim.jobId)).checkpoint).toMatchObject({ stage: 'ptq', step: 0, bytes: 9 });
  expect(await save(claim, 500, 'after 500 steps')).toBe(true);
  const found = await store.checkpoints.find(claim.jobId);
  expect(found).toMatchObject({ stage: 'train', step: 500 });
  expect(String(await buffer(await store.blobs.get(found?.sha256 ?? '')))).toBe('after 500 steps');
  expect(await stored()).toEqual({ blobs: (nothing?.blobs ?? 0) + 1, chunks: (nothing?.chunks ?? 0) + 1 });
  await store.jobs.requeue(claim, 'the worker stops');
  expect(await store.checkpoints.find(claim.jobId)).toEqual(found);
});

test('a worker that lost the job, or is to cancel it, stores nothing', async () => {
  const claim = await begun();
  await save(claim, 0, 'mine', 'ptq');
  await store.jobs.requeue(claim, 'lost');
  const before = await stored();
  expect(await save(claim, 500, 'a ghost writes')).toBe(false);
  const second = await start(claim.jobId, 'worker-2');
  expect(await save(claim, 500, 'a ghost writes')).toBe(false);
  expect(await store.checkpoints.drop(claim)).toBe(false);
  await store.jobs.requestCancel(claim.jobId);
  expect(await save(second, 500, 'too late')).toBe(false);
  expect(await stored()).toEqual(before);
  expect(await store.checkpoints.find(claim.jobId)).toMatchObject({ step: 0 });
});

test('a stream that fails, or a signal, leaves the one before', async () => {
  const claim = await begun();
  await save(claim, 0, 'whole', 'ptq');
  const before = await stored();
  const broken = Readable.from(
    (async function* () {
      yield Buffer.alloc(2 ** 20);
      throw new Error('no such file');
    })(),
  );
  await expect(store.checkpoints.save(claim, { stage: 'train', step: 1 }, broken)).rejects.toMatchObject({ code: 'UPLOAD_ABORTED' });
  await expect(
    store.checkpoints.save(claim, { stage: 'train', step: 1 }, Readable.from([Buffer.from('x')]), AbortSignal.abort()),
  ).rejects.toMatchObject({ code: 'UPLOAD_ABORTED' });
  expect(await stored()).toEqual(before);
  expect(await store.checkpoints.find(claim.jobId)).toMatchObject({ stage: 'ptq' });
});

test.each<[string, (claim: Claim) => Promise<unknown>]>([
  ['has failed', (claim) => store.jobs.fail(claim, jobErrorOf(failureOf(new Error('bang')), 'train'))],
  ['was cancelled', (claim) => store.jobs.requestCancel(claim.jobId).then(() => store.jobs.finishCancel(claim))],
  [
    'waited too long after it was given back',
    async (claim) => {
      await store.jobs.requeue(claim, 'the worker stops');
      await store.jobs.fail({ jobId: claim.jobId }, jobErrorOf(failureOf(new Error('late')), null));
    },
  ],
  ['has succeeded', (claim) => store.jobs.succeed(claim, { artifacts: [], report })],
])('a job that %s has none, and its bytes are gone', async (_how, end) => {
  const claim = await begun();
  const nothing = await stored();
  await save(claim, 500, `of ${claim.jobId}`);
  await end(claim);
  expect((await store.jobs.get(claim.jobId)).checkpoint).toBeNull();
  expect(await store.checkpoints.find(claim.jobId)).toBeNull();
  expect(await stored()).toEqual(nothing);
});

test('two jobs may have the same bytes, also when one gives them up while the other stores them', async () => {
  const [one, other] = [await begun(), await begun()];
  for (let round = 0; round < 10; round++) {
    await save(one, round, `shared ${round}`);
    await Promise.all([save(one, round, `own ${round}`), save(other, round, `shared ${round}`)]);
    const found = await store.checkpoints.find(other.jobId);
    expect(String(await buffer(await store.blobs.get(found?.sha256 ?? '')))).toBe(`shared ${round}`);
  }
});

test('starts that made a newer checkpoint do not count against the limit; one that was dropped is made anew', async () => {
  const { jobId } = await begun();
  const lose = async () => {
    const done = await reconcile(store, queue, log, { heartbeatTimeoutMs: -1_000 });
    return { requeued: done.requeued > 0, lost: done.lost > 0 };
  };
  let claim: Claim = { jobId, workerId: 'worker-1', attempt: 1 };
  for (let attempt = 1; attempt <= 2 * jobPolicy.maxStarts; attempt++) {
    await save(claim, 100 * attempt, `after ${attempt}`);
    await save(claim, 100 * attempt + 50, `later ${attempt}`);
    expect(await store.jobs.get(jobId)).toMatchObject({ attempts: attempt });
    expect(await lose()).toEqual({ requeued: true, lost: false });
    claim = await start(jobId, `worker-${attempt + 1}`);
  }
  expect(await store.checkpoints.drop(claim)).toBe(true);
  expect(await store.checkpoints.find(jobId)).toBeNull();
  await save(claim, 0, 'anew', 'ptq');
  for (let fruitless = 0; fruitless < jobPolicy.maxStarts; fruitless++) {
    expect(await lose()).toEqual({ requeued: true, lost: false });
    claim = await start(jobId, `again-${fruitless}`);
  }
  expect(await lose()).toEqual({ requeued: false, lost: true });
  expect(await store.jobs.get(jobId)).toMatchObject({ state: 'failed', error: { code: 'WORKER_LOST' }, checkpoint: null });
});

test('where an attempt begins stands in the job and in its events', async () => {
  const claim = await begun();
  expect((await store.jobs.get(claim.jobId)).resumedFrom).toBeNull();
  const from = { stage: 'train', step: 500 } as const;
  expect(await store.jobs.reportStart(claim, { from, message: 'resumed from step 500' })).toBe(true);
  expect((await store.jobs.get(claim.jobId)).resumedFrom).toEqual(from);
  expect((await store.events.list(claim.jobId)).at(-1)).toMatchObject({
    type: 'attempt',
    data: { attempt: 1, resumedFrom: from, message: 'resumed from step 500' },
  });
  await store.jobs.requeue(claim, 'lost');
  await start(claim.jobId, 'worker-2');
  expect((await store.jobs.get(claim.jobId)).resumedFrom).toBeNull();
  expect(await store.jobs.reportStart(claim, { from, message: 'a ghost' })).toBe(false);
});

const value = { value: 0.9, ci95: [0.8, 1] };
const speed = { p50Ms: 1 };
/** What the row of a report is made from. */
const report = {
  schemaVersion: '1.0',
  verdict: { decision: 'ship', text: 'ship it' },
  gate: { passed: true },
  metric: { name: 'top1' },
  float: value,
  ptq: value,
  qat: value,
  int8: { ...value, from: 'qat' },
  change: { points: 0 },
  size: { floatBytes: 4, int8Bytes: 1 },
  latency: { float: speed, int8: speed },
  samples: { evaluation: 10 },
} as unknown as Report;
