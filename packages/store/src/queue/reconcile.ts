import { failureOf, jobErrorOf, jobPolicy, ServiceError } from '@octet/contracts';
import type { Logger } from 'pino';
import type { Store } from '../store.js';
import type { JobQueue } from './queue.js';

/** Queued jobs looked at in one round; the oldest come first, so the rest has time. */
const queuedAtOnce = 1_000;

export interface Reconciled {
  offered: number;
  requeued: number;
  lost: number;
  cancelled: number;
  expired: number;
}

/**
 * Makes the queue follow Postgres, which is the truth: offers every queued job again (nothing happens to those the queue still has),
 * gives jobs whose worker is gone back to the queue, or fails them after the last attempt, finishes cancels whose worker is gone,
 * and fails jobs that waited too long. Harmless when several processes do it at once.
 */
export async function reconcile(
  store: Store,
  queue: JobQueue,
  log: Logger,
  heartbeatTimeoutMs: number = jobPolicy.heartbeatTimeoutMs,
): Promise<Reconciled> {
  const done: Reconciled = { offered: 0, requeued: 0, lost: 0, cancelled: 0, expired: 0 };
  for (const { state, fruitless, ...claim } of await store.jobs.listStale(heartbeatTimeoutMs)) {
    const about = { jobId: claim.jobId, workerId: claim.workerId, attempt: claim.attempt };
    if (state === 'cancelling') {
      if ((await store.jobs.finishCancel(claim)) !== null) done.cancelled++;
    } else if (fruitless >= jobPolicy.maxAttempts) {
      const error = new ServiceError(
        'WORKER_LOST',
        `the worker ${claim.workerId} gave no sign for ${heartbeatTimeoutMs / 1000} s, ${fruitless} starts brought the job no further, of at most ${jobPolicy.maxAttempts}`,
      );
      const job = await store.jobs.fail(claim, jobErrorOf(failureOf(error), (await store.jobs.get(claim.jobId)).stage));
      if (job !== null) done.lost++;
      log.error(about, 'the worker of a job was lost too often; the job failed');
    } else if ((await store.jobs.requeue(claim, 'the worker was lost')) !== null) {
      done.requeued++;
      log.warn(about, 'the worker of a job was lost; the job goes back to the queue');
    }
  }
  const now = Date.now();
  const waiting = await store.jobs.listQueued(queuedAtOnce);
  const expired = waiting.filter((job) => now - job.queuedAt.getTime() > job.queueSeconds * 1000);
  for (const job of expired) {
    const error = new ServiceError('QUEUE_TIMED_OUT', `the job waited longer than limits.queueSeconds = ${job.queueSeconds}`);
    if ((await store.jobs.fail({ jobId: job.id }, jobErrorOf(failureOf(error), null))) !== null) done.expired++;
  }
  const offered = waiting.filter((job) => !expired.includes(job));
  await queue.enqueueAll(offered);
  done.offered = offered.length;
  return done;
}
