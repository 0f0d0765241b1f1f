import { randomUUID } from 'node:crypto';
import { failureOf, jobErrorOf, ServiceError } from '@octet/contracts';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jobFor, storeUploads } from '../../../tests/support/fixtures.js';
import { startPostgres } from '../../../tests/support/services.js';
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
  test('first, in progress, replay, other body', async () => {
    const key = `POST /v1/jobs ${randomUUID()}`;
    const hash = 'a'.repeat(64);
    expect(await store.idempotency.begin(key, hash)).toBeNull();
    await expect(store.idempotency.begin(key, hash)).rejects.toMatchObject({ code: 'IDEMPOTENCY_IN_PROGRESS' });
    await store.idempotency.finish(key, { status: 202, headers: { location: '/x' }, body: { a: 1 } });
    expect(await store.idempotency.begin(key, hash)).toEqual({ status: 202, headers: { location: '/x' }, body: { a: 1 } });
    await expect(store.idempotency.begin(key, 'b'.repeat(64))).rejects.toMatchObject({ code: 'IDEMPOTENCY_MISMATCH' });
    const other = `POST /v1/jobs ${randomUUID()}`;
    await store.idempotency.begin(other, hash);
    await store.idempotency.abandon(other);
    expect(await store.idempotency.begin(other, hash)).toBeNull();
  });
});
