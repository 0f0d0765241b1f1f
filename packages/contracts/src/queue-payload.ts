/** The job definition of the queue, apart from its handler. Postgres holds everything else about a job. */
export const queueName = 'octet-quantize';

/** What the queue carries: an id alone, so that nothing of the queue needs saving. */
export interface QueuePayload {
  jobId: string;
}

export const jobPolicy = {
  /** Starts of one job before a lost worker makes it fail. */
  maxAttempts: 3,
  /** A running job whose worker gave no sign for so long is taken from it. */
  heartbeatTimeoutMs: 30_000,
  heartbeatEveryMs: 5_000,
  /** Between the request to stop and SIGTERM, and between SIGTERM and SIGKILL. */
  stopGraceMs: 3_000,
} as const;
