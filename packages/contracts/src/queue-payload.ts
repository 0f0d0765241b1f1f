import type { Code } from './errors.js';

/** The job definition of the queue, apart from its handler. Postgres holds everything else about a job. */
export const queueName = 'octet-quantize';

/** What the queue carries: an id alone, so that nothing of the queue needs saving. */
export interface QueuePayload {
  jobId: string;
}

export const jobPolicy = {
  /** Starts of one job that may end through a fault of their worker; the job fails with the last one. OCTET_JOB_STARTS changes it. */
  maxStarts: 3,
  /** Pause after the first such start; each further one doubles it. */
  retryPauseMs: 5_000,
  longestRetryPauseMs: 300_000,
  /** After the pause, the worker whose start failed leaves the job to others for so long. */
  othersFirstMs: 10_000,
  /** A running job whose worker sent no heartbeat for so long is taken from it. */
  heartbeatTimeoutMs: 30_000,
  heartbeatEveryMs: 5_000,
  /** Between the request to stop and SIGTERM, and between SIGTERM and SIGKILL. */
  stopGraceMs: 3_000,
  /** A worker that stops gives the last checkpoint so long to be stored. */
  checkpointGraceMs: 3_000,
} as const;

/** Errors that may be the worker's or the machine's rather than the job's: the job is tried again, on another worker where there is one. */
export const workerFaults: ReadonlySet<Code> = new Set<Code>([
  'JOB_CRASHED',
  'JOB_OUT_OF_MEMORY',
  'STORAGE_FULL',
  'DATABASE_UNAVAILABLE',
  'WORKER_LOST',
]);
