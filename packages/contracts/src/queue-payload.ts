/** The job definition of the queue, apart from its handler. Postgres holds everything else about a job. */
export const queueName = 'octet-quantize';

/** What the queue carries: an id alone, so that nothing of the queue needs saving. */
export interface QueuePayload {
  jobId: string;
}

export const jobPolicy = {
  /** Starts of one job that brought it no further, before a lost worker makes it fail. A start that made a newer checkpoint does not count. */
  maxAttempts: 3,
  /** A running job whose worker gave no sign for so long is taken from it. */
  heartbeatTimeoutMs: 30_000,
  heartbeatEveryMs: 5_000,
  /** Between the request to stop and SIGTERM, and between SIGTERM and SIGKILL. */
  stopGraceMs: 3_000,
  /** A worker that stops gives the last checkpoint so long to be stored. */
  checkpointGraceMs: 3_000,
} as const;
