import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { failureOf, jobErrorOf, ServiceError } from '@octet/contracts';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jobFor, storeUploads } from '../../../tests/support/fixtures.js';
import { startPostgres, until } from '../../../tests/support/services.js';
import { openStore, type Store } from './store.js';

let database: Awaited<ReturnType<typeof startPostgres>>;
let store: Store;
let uploads: { model: string; dataset: string };

beforeAll(async () => {
  database = await startPostgres();
  store = await openStore({ databaseUrl: database.url, log: pino({ level: 'silent' }) });
  uploads = await storeUploads(store);
});
afterAll(async () => {
  await store.close();
  await database.drop();
});

const create = () => store.jobs.create(jobFor(uploads));
const claimed = async () => {
  const job = await create();
  const claim = await store.jobs.claim(job.id, 'worker-1');
  if (claim === null) throw new Error('not claimed');
  return claim;
};

describe('states', () => {
  test('a job is claimed once, whatever number of workers try', async () => {
    const job = await create();
    expect(job).toMatchObject({ state: 'queued', attempts: 0, result: null, error: null });
    const claims = await Promise.all(Array.from({ length: 8 }, (_, i) => store.jobs.claim(job.id, `w${i}`)));
    expect(claims.filter((claim) => claim !== null)).toHaveLength(1);
    const after = await store.jobs.get(job.id);
    expect(after).toMatchObject({ state: 'running', attempts: 1 });
    expect(after.stateTimes.running).not.toBeNull();
    expect(after.revision).toBeGreaterThan(job.revision);
  });

  test('cancel: queued at once, running through cancelling, finished not at all; twice changes nothing', async () => {
    const queued = await create();
    expect((await store.jobs.requestCancel(queued.id)).state).toBe('cancelled');
    expect((await store.jobs.requestCancel(queued.id)).state).toBe('cancelled');
    const claim = await claimed();
    const asked = await store.jobs.requestCancel(claim.jobId);
    expect(asked).toMatchObject({ state: 'cancelling', cancelRequestedAt: expect.any(String) });
    expect((await store.jobs.requestCancel(claim.jobId)).revision).toBe(asked.revision);
    expect(await store.jobs.heartbeat(claim)).toBe('cancelling');
    expect((await store.jobs.finishCancel(claim))?.state).toBe('cancelled');
    expect(await store.jobs.heartbeat(claim)).toBe('lost');
    const failed = await claimed();
    await store.jobs.fail(failed, jobErrorOf(failureOf(new ServiceError('JOB_CRASHED', 'bang')), 'train'));
    await expect(store.jobs.requestCancel(failed.jobId)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('a worker that was given up for lost can change nothing', async () => {
    const claim = await claimed();
    expect((await store.jobs.requeue(claim, 'lost'))?.state).toBe('queued');
    const second = await store.jobs.claim(claim.jobId, 'worker-2');
    expect(second?.attempt).toBe(2);
    expect(await store.jobs.heartbeat(claim)).toBe('lost');
    expect(await store.jobs.reportProgress(claim, 'train', null)).toBe(false);
    expect(await store.jobs.reportEvent(claim, { type: 'log', data: { message: 'ghost' } })).toBe(false);
    expect(await store.jobs.fail(claim, jobErrorOf(failureOf(new Error('ghost')), null))).toBeNull();
    expect((await store.jobs.get(claim.jobId)).state).toBe('running');
    expect((await store.events.list(claim.jobId)).some((event) => event.data.message === 'ghost')).toBe(false);
  });

  test('every change of state leaves an event, in order', async () => {
    const claim = await claimed();
    await store.jobs.reportProgress(claim, 'calibrate', null);
    await store.jobs.reportProgress(claim, 'calibrate', {
      stage: 'calibrate',
      done: 3,
      total: 10,
      unit: 'samples',
      figures: {},
      stageEtaSeconds: null,
    });
    await store.jobs.requestCancel(claim.jobId);
    await store.jobs.finishCancel(claim);
    const events = await store.events.list(claim.jobId);
    expect(events.map((event) => [event.type, event.data.state ?? event.data.stage])).toEqual([
      ['state', 'queued'],
      ['state', 'running'],
      ['stage', 'calibrate'],
      ['progress', 'calibrate'],
      ['state', 'cancelling'],
      ['state', 'cancelled'],
    ]);
    const third = events[2]?.seq ?? 0;
    expect((await store.events.list(claim.jobId, third)).map((event) => event.type)).toEqual(['progress', 'state', 'state']);
  });
});

describe('waiting for a change', () => {
  test('a change after the revision read counts, also when it came before the wait', async () => {
    const job = await create();
    await store.jobs.claim(job.id, 'w');
    expect(await store.jobs.waitForChange(job.id, 20_000, undefined, job.revision)).toBe(true);
  });

  test('a change wakes the waiting; silence and a signal do not', async () => {
    const job = await create();
    expect(await store.jobs.waitForChange(job.id, 100, undefined, job.revision)).toBe(false);
    const abort = new AbortController();
    const aborted = store.jobs.waitForChange(job.id, 60_000, abort.signal, job.revision);
    abort.abort();
    expect(await aborted).toBe(false);
    const waiting = store.jobs.waitForChange(job.id, 60_000, undefined, job.revision);
    await store.jobs.claim(job.id, 'w');
    expect(await waiting).toBe(true);
  });
});

describe('lists', () => {
  test('pages follow one another from new to old without gap or double', async () => {
    const mine = await storeUploads(store, { model: randomUUID(), dataset: randomUUID() });
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) ids.push((await store.jobs.create(jobFor(mine))).id);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.jobs.list({ model: mine.model, limit: 3, cursor });
      seen.push(...page.items.map((job) => job.id));
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    expect(seen).toHaveLength(7);
    expect(new Set(seen)).toEqual(new Set(ids));
    await expect(store.jobs.list({ cursor: 'bm9uc2Vuc2U' })).rejects.toMatchObject({ code: 'VALIDATION' });
    const [first, second] = ids;
    expect(await store.jobs.queuePosition(second ?? '')).toBe(Number(await store.jobs.queuePosition(first ?? '')) + 1);
    await store.jobs.requestCancel(first ?? '');
    expect(await store.jobs.queuePosition(first ?? '')).toBeNull();
    expect((await store.jobs.list({ model: mine.model, state: ['cancelled'] })).items.map((job) => job.id)).toEqual([first]);
  });
});

describe('uploads', () => {
  test('what an unfinished job needs cannot be deleted; what is deleted cannot be used', async () => {
    const mine = await storeUploads(store, { model: randomUUID(), dataset: randomUUID() });
    const job = await store.jobs.create(jobFor(mine));
    await expect(store.models.delete(mine.model)).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(store.datasets.delete(mine.dataset)).rejects.toMatchObject({ code: 'CONFLICT' });
    await store.jobs.requestCancel(job.id);
    await store.models.delete(mine.model);
    await expect(store.models.get(mine.model)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(store.jobs.create(jobFor(mine))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect((await store.jobs.get(job.id)).model).toBe(mine.model);
  });
});

describe('idempotency', () => {
  const hash = 'a'.repeat(64);
  const begin = async (key: string) => {
    const lease = await store.idempotency.begin(key, hash);
    if (!('holder' in lease)) throw new Error('the key was answered before');
    return lease;
  };
  /** Lets the lease of a key run out. */
  const expire = async (key: string) => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(`UPDATE idempotency_key SET expires_at = now() - interval '1 second' WHERE key = $1`, [key]);
    await client.end();
  };

  test('first, in progress, replay, other body', async () => {
    const key = `POST /v1/jobs ${randomUUID()}`;
    const lease = await begin(key);
    await expect(store.idempotency.begin(key, hash)).rejects.toMatchObject({ code: 'IDEMPOTENCY_IN_PROGRESS' });
    await store.idempotency.finish(lease, { status: 202, headers: { location: '/x' }, body: { a: 1 } });
    expect(await store.idempotency.begin(key, hash)).toEqual({ status: 202, headers: { location: '/x' }, body: { a: 1 } });
    await expect(store.idempotency.begin(key, 'b'.repeat(64))).rejects.toMatchObject({ code: 'IDEMPOTENCY_MISMATCH' });
    const other = `POST /v1/jobs ${randomUUID()}`;
    await store.idempotency.abandon(await begin(other));
    await begin(other);
  });

  test('a key whose request died goes to the next one within seconds; a request that lives keeps it', async () => {
    const key = `POST /v1/jobs ${randomUUID()}`;
    const dead = await begin(key);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const { rows } = await client.query('SELECT expires_at < now() + interval $$15 seconds$$ AS soon FROM idempotency_key WHERE key = $1', [
      key,
    ]);
    await client.end();
    expect(rows).toEqual([{ soon: true }]);
    await expire(key);
    expect(await store.idempotency.renew(dead)).toBe(true);
    await expect(store.idempotency.begin(key, hash)).rejects.toMatchObject({ code: 'IDEMPOTENCY_IN_PROGRESS' });
    await expire(key);
    const next = await begin(key);
    expect(await store.idempotency.renew(dead)).toBe(false);
    await store.idempotency.abandon(dead);
    await store.idempotency.finish(dead, { status: 500, headers: {}, body: null });
    await store.idempotency.finish(next, { status: 202, headers: {}, body: { b: 2 } });
    expect(await store.idempotency.begin(key, hash)).toEqual({ status: 202, headers: {}, body: { b: 2 } });
  });
});

describe('starts that fail through their worker', () => {
  const crash = jobErrorOf(failureOf(new ServiceError('JOB_CRASHED', 'bang')), 'train');
  const policy = { maxStarts: 3, pauseMs: 0 };
  const start = async (id: string, worker = 'w') => {
    const claim = await store.jobs.claim(id, worker);
    if (claim === null) throw new Error('not claimed');
    return claim;
  };

  test('go back to the queue, and end the job with the reason after the last one', async () => {
    const { id } = await create();
    for (const left of [2, 1]) {
      expect((await store.jobs.retry(await start(id), crash, policy))?.state, `${left} left`).toBe('queued');
    }
    expect(await store.jobs.retry(await start(id), crash, policy)).toMatchObject({
      state: 'failed',
      error: { code: 'JOB_CRASHED', detail: 'bang (start 3 of 3 that failed)', stage: 'train' },
    });
    const reasons = (await store.events.list(id)).map((event) => event.data.reason).filter((reason) => reason !== undefined);
    expect(reasons).toEqual(Array(2).fill('the start failed: JOB_CRASHED, bang'));
  });

  test('do not count when the worker stopped, or when they left a newer checkpoint', async () => {
    const { id } = await create();
    const blob = await store.blobs.put(Readable.from([Buffer.from(randomUUID())]));
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    for (const step of [1, 2, 3, 4]) {
      const claim = await start(id);
      await client.query(
        `INSERT INTO checkpoint (job_id, stage, step, attempt, sha256, bytes) VALUES ($1, 'train', $2, $3, $4, 36)
         ON CONFLICT (job_id) DO UPDATE SET step = $2, attempt = $3`,
        [id, step, claim.attempt, blob.sha256],
      );
      expect((await store.jobs.retry(claim, crash, policy))?.state).toBe('queued');
    }
    await client.end();
    for (let i = 0; i < 4; i++) await store.jobs.requeue(await start(id), 'the worker stops');
    for (const state of ['queued', 'queued', 'failed'] as const)
      expect((await store.jobs.retry(await start(id), crash, policy))?.state).toBe(state);
  });

  test('are followed by a pause, after which other workers come first', async () => {
    const { id } = await create();
    const due = async () => (await store.jobs.listDue(1_000)).some((job) => job.id === id);
    await store.jobs.retry(await start(id, 'w1'), crash, { maxStarts: 3, pauseMs: 60_000 });
    expect(await due()).toBe(false);
    expect(await store.jobs.claim(id, 'w2')).toBeNull();
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('UPDATE job SET not_before = now() WHERE id = $1', [id]);
    await client.end();
    expect(await due()).toBe(true);
    expect(await store.jobs.claim(id, 'w1', 60_000)).toBeNull();
    const claim = await store.jobs.claim(id, 'w2', 60_000);
    expect(claim?.workerId).toBe('w2');
    expect((await store.jobs.retry(claim!, crash, { maxStarts: 3, pauseMs: 1 }))?.state).toBe('queued');
    await until(() => store.jobs.claim(id, 'w2', 1), 'the only worker to take it again');
  });
});
