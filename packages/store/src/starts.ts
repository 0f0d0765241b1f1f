import { jobPolicy } from '@octet/contracts';
import type { Prisma } from './generated/client.js';

/** How often and how soon a job is started again after a fault of its worker. */
export interface RetryPolicy {
  /** Starts that may fail so; the job fails with the last of them. */
  maxStarts: number;
  /** Pause before the next start; each further failure doubles it. 0 for none. */
  pauseMs: number;
}

export const defaultRetry: RetryPolicy = { maxStarts: jobPolicy.maxStarts, pauseMs: jobPolicy.retryPauseMs };

/** Queued jobs whose pause is over. */
export function pauseIsOver(now: Date): Prisma.JobWhereInput {
  return { OR: [{ notBefore: null }, { notBefore: { lte: now } }] };
}

/** Queued jobs that this worker may take now: one whose last start failed on it is left to others for `othersFirstMs` after the pause. */
export function mayTake(workerId: string, now: Date, othersFirstMs: number): Prisma.JobWhereInput {
  return {
    OR: [
      { notBefore: null },
      { notBefore: { lte: new Date(now.getTime() - othersFirstMs) } },
      { notBefore: { lte: now }, OR: [{ avoidWorker: null }, { avoidWorker: { not: workerId } }] },
    ],
  };
}

/**
 * What follows a start that failed through its worker.
 * @param moved the start made a newer checkpoint than it began from; such a start does not count
 * @returns failed starts so far, and the pause before the next one in milliseconds; null for the pause when there is none
 */
export function afterFault(
  failedBefore: number,
  moved: boolean,
  { maxStarts, pauseMs }: RetryPolicy,
): { failedStarts: number; pauseMs: number | null } {
  const failedStarts = failedBefore + (moved ? 0 : 1);
  if (failedStarts >= maxStarts) return { failedStarts, pauseMs: null };
  return { failedStarts, pauseMs: Math.min(pauseMs * 2 ** Math.max(0, failedStarts - 1), jobPolicy.longestRetryPauseMs) };
}
