import { randomBytes } from 'node:crypto';
import os from 'node:os';
import { jobPolicy, ServiceError } from '@octet/contracts';
import { type JobQueue, reconcile, Standstill, type Store, seldom } from '@octet/store';
import type { Logger } from 'pino';
import { runJob } from './run-job.js';
import { Workspace } from './workspace.js';

export interface WorkerOptions {
  store: Store;
  queue: JobQueue;
  /** Jobs at a time; 1 when left out, as one job takes all cores. */
  concurrency?: number | undefined;
  /** Where the files of running jobs lie; each worker makes its own directory in it. */
  workDirectory: string;
  /** Resident memory of one job process; a share of the machine's when left out. */
  jobMemoryBytes?: number | undefined;
  /** Starts of a job that may fail through their worker; the job fails with the last of them. 3 when left out. */
  maxStarts?: number | undefined;
  log: Logger;
  /** Module of commands in place of quant-core, and shorter pauses: for tests. */
  testing?:
    | { module?: string; reconcileEveryMs?: number; heartbeatTimeoutMs?: number; retryPauseMs?: number; othersFirstMs?: number }
    | undefined;
}

export interface RunningWorker {
  readonly id: string;
  /** Takes no more jobs, gives the running ones back to the queue, and resolves when no process of theirs is left. */
  close(): Promise<void>;
}

const reconcileEveryMs = 5_000;
const sweepEveryMs = 3_600_000;

/** Takes jobs from the queue and runs each in a process of its own; keeps the queue in step with Postgres besides. */
export async function startWorker(options: WorkerOptions): Promise<RunningWorker> {
  const { store, queue, concurrency = 1, testing = {} } = options;
  const id = `${os.hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  const log = options.log.child({ worker: id });
  const workspace = await Workspace.open(options.workDirectory, log);
  const stopping = new AbortController();
  const memoryBytes = options.jobMemoryBytes ?? memoryShare(concurrency);
  const retry = { maxStarts: options.maxStarts ?? jobPolicy.maxStarts, pauseMs: testing.retryPauseMs ?? jobPolicy.retryPauseMs };
  const context = { store, workspace, log, memoryBytes, retry, stopping: stopping.signal, module: testing.module };

  const consumer = await queue.createWorker(
    async (jobId) => {
      if (stopping.signal.aborted) return;
      const claim = await store.jobs.claim(jobId, id, testing.othersFirstMs);
      if (claim === null) return log.debug({ jobId }, 'the queue offered a job that does not wait for this worker');
      const end = await runJob(context, claim);
      if (end === 'requeued')
        await queue
          .enqueue(jobId, claim.attempt)
          .catch((error: unknown) => log.warn({ err: error, jobId }, 'the job will be offered again by the reconciler'));
    },
    { concurrency },
  );

  const heartbeatTimeoutMs = testing.heartbeatTimeoutMs ?? jobPolicy.heartbeatTimeoutMs;
  const standstill = new Standstill(heartbeatTimeoutMs);
  const follow = repeated(testing.reconcileEveryMs ?? reconcileEveryMs, log, 'the queue cannot be compared with Postgres now', async () => {
    const done = await reconcile(store, queue, log, { heartbeatTimeoutMs, maxStarts: retry.maxStarts, standstill });
    if (done.requeued + done.lost + done.cancelled + done.expired > 0) log.info(done, 'the queue follows Postgres again');
  });
  const sweep = repeated(sweepEveryMs, log, 'what is not needed cannot be removed now', async () => {
    const blobs = await store.blobs.sweep();
    const keys = await store.idempotency.removeExpired();
    if (blobs + keys > 0) log.info({ blobs, keys }, 'removed what is not needed');
  });
  log.info({ concurrency, backend: queue.backend, memoryBytes }, 'worker started');

  let closing: Promise<void> | undefined;
  const close = async () => {
    stopping.abort(new ServiceError('SHUTTING_DOWN', 'the worker stops'));
    await Promise.all([follow.stop(), sweep.stop()]);
    await consumer.close();
    await workspace.close();
    log.info('worker stopped');
  };
  return {
    id,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

/** Four fifths of the memory that this machine or container has, divided among the jobs. */
function memoryShare(concurrency: number): number {
  const constrained = process.constrainedMemory();
  const total = constrained > 0 ? Math.min(os.totalmem(), constrained) : os.totalmem();
  return Math.floor((0.8 * total) / concurrency);
}

/** Does something now and then again a while after each end, until stopped. */
function repeated(everyMs: number, log: Logger, trouble: string, act: () => Promise<void>): { stop(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let current: Promise<void>;
  const warn = seldom(log);
  const round = async () => {
    await act().catch((error: unknown) => warn({ err: error }, trouble));
    if (!stopped) {
      timer = setTimeout(() => {
        current = round();
      }, everyMs);
    }
  };
  current = round();
  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await current;
    },
  };
}
