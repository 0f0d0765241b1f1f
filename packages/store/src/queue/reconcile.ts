import { failureOf, jobErrorOf, jobPolicy, ServiceError } from '@octet/contracts';
import type { Logger } from 'pino';
import type { Store } from '../store.js';
import type { JobQueue } from './queue.js';
import type { Standstill } from './standstill.js';

/** Jobs looked at in one round; the oldest come first, so the rest has time. */
const atOnce = 1_000;

export interface Reconciled {
  offered: number;
  requeued: number;
  lost: number;
  cancelled: number;
  expired: number;
}

export interface ReconcileOptions {
  heartbeatTimeoutMs?: number | undefined;
  /** Starts of a job that may end with the loss of their worker. */
  maxStarts?: number | undefined;
  /** Spares claims after a standstill; without it every claim is judged. */
  standstill?: Standstill | undefined;
}

/**
 * Makes the queue follow Postgres, which is the truth: offers every queued job again (nothing happens to those the queue still has),
 * gives jobs whose worker is gone back to the queue, or fails them after the last start, finishes cancels whose worker is gone,
 * and fails jobs that waited too long. Harmless when several processes do it at once.
 */
export async function reconcile(store: Store, queue: JobQueue, log: Logger, options: ReconcileOptions = {}): Promise<Reconciled> {
  const { heartbeatTimeoutMs = jobPolicy.heartbeatTimeoutMs, maxStarts = jobPolicy.maxStarts, standstill } = options;
  const done: Reconciled = { offered: 0, requeued: 0, lost: 0, cancelled: 0, expired: await expireQueued(store) };
  const stale = await store.jobs.listStale(heartbeatTimeoutMs);
  for (const { state, ...claim } of standstill?.isOver() === false ? [] : stale) {
    const about = { jobId: claim.jobId, workerId: claim.workerId, attempt: claim.attempt };
    if (state === 'cancelling') {
      if ((await store.jobs.finishCancel(claim)) !== null) done.cancelled++;
      continue;
    }
    const error = new ServiceError('WORKER_LOST', `the worker ${claim.workerId} sent no heartbeat for ${heartbeatTimeoutMs / 1000} s`);
    const job = await store.jobs.retry(claim, jobErrorOf(failureOf(error), (await store.jobs.get(claim.jobId)).stage), {
      maxStarts,
      pauseMs: 0,
    });
    if (job?.state === 'failed') {
      done.lost++;
      log.error(about, 'the worker of a job was lost too often; the job failed');
    } else if (job !== null) {
      done.requeued++;
      log.warn(about, 'the worker of a job was lost; the job goes back to the queue');
    }
  }
  const due = await store.jobs.listDue(atOnce);
  await queue.enqueueAll(due);
  done.offered = due.length;
  return done;
}

/** Fails every queued job that has waited longer than its `limits.queueSeconds`; gives their number. */
export async function expireQueued(store: Store): Promise<number> {
  let expired = 0;
  for (;;) {
    const late = await store.jobs.listExpired(atOnce);
    for (const { id, queueSeconds } of late) {
      const error = new ServiceError('QUEUE_TIMED_OUT', `the job waited longer than limits.queueSeconds = ${queueSeconds}`);
      if ((await store.jobs.fail({ jobId: id }, jobErrorOf(failureOf(error), null))) !== null) expired++;
    }
    if (late.length < atOnce) return expired;
  }
}
