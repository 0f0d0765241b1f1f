import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ArtifactKind,
  type Dataset,
  defaultLimits,
  failureOf,
  jobErrorOf,
  jobPolicy,
  type Model,
  OctetError,
  type PipelineResult,
  type Report,
  ServiceError,
  workerFaults,
} from '@octet/contracts';
import { runJobProcess } from '@octet/runner';
import { type Claim, type JobRecord, type NewArtifact, type RetryPolicy, type Store, seldom } from '@octet/store';
import type { Logger } from 'pino';
import { Checkpoints } from './checkpoints.js';
import { faultOf } from './faults.js';
import { Pulse } from './pulse.js';
import { Relay } from './relay.js';
import { type JobDirectory, safeName, type Workspace } from './workspace.js';

export interface JobContext {
  store: Store;
  workspace: Workspace;
  log: Logger;
  /** Memory that one job process may use. */
  memoryBytes: number;
  /** How often a job whose start failed through this worker is started again. */
  retry: RetryPolicy;
  /** Fires when the worker stops; its reason is SHUTTING_DOWN. */
  stopping: AbortSignal;
  /** Module of commands in place of quant-core, for tests. */
  module?: string | undefined;
}

/** How an attempt of a job ended for this worker. */
export type AttemptEnd = 'succeeded' | 'gate_failed' | 'failed' | 'cancelled' | 'requeued' | 'retried' | 'lost';

/** This worker has lost the job: its state changed, or another worker has it. */
class Lost extends ServiceError {
  constructor(jobId: string) {
    super('WORKER_LOST', `job ${jobId} was taken from this worker`);
  }
}

/** One attempt of a claimed job, from its files to its final state. Throws only when Postgres stays away. */
export async function runJob(context: JobContext, claim: Claim): Promise<AttemptEnd> {
  const { store, stopping } = context;
  const log = context.log.child({ jobId: claim.jobId, attempt: claim.attempt });
  const abort = new AbortController();
  const look = async () => {
    const state = await store.jobs.heartbeat(claim);
    if (state === 'cancelling') abort.abort(new OctetError('CANCELLED', 'the job was cancelled'));
    if (state === 'lost') abort.abort(new Lost(claim.jobId));
  };
  const warn = seldom(log);
  // One at a time: a database that stands still would otherwise collect them.
  const lookQuietly = oneAtATime(() => look().catch((error: unknown) => warn({ err: error }, 'no heartbeat')));
  const unsubscribe = store.jobs.subscribe(claim.jobId, coalesced(lookQuietly));
  const heartbeat = setInterval(lookQuietly, jobPolicy.heartbeatEveryMs);
  const onStopping = () => abort.abort(stopping.reason);
  stopping.addEventListener('abort', onStopping, { once: true });
  if (stopping.aborted) onStopping();
  const relay = new Relay(store, claim, log);
  const pulse = new Pulse((message) => relay.take({ type: 'log', level: 'info', message }));
  const checkpoints = new Checkpoints(store, claim, log);
  let directory: JobDirectory | undefined;
  try {
    const job = await store.jobs.get(claim.jobId);
    directory = await context.workspace.forJob(`${claim.jobId}-${claim.attempt}`);
    log.info({ model: job.model, dataset: job.dataset, method: job.recipe.method }, 'job started');
    const { result, model } = await compute(context, job, directory, { relay, checkpoints, pulse }, abort.signal, log);
    pulse.stop();
    await Promise.all([relay.drain(), checkpoints.stop()]);
    return await finish(context, claim, result, model, log);
  } catch (error) {
    pulse.stop();
    // What breaks off when an attempt is stopped may throw anything; why it was stopped is what counts.
    const why = abort.signal.aborted ? abort.signal.reason : error;
    // A job that may be taken again is to go on from the last checkpoint that this attempt made.
    await Promise.all([relay.drain(), isOver(why) ? checkpoints.stop() : checkpoints.finish()]);
    return await fail(context, claim, why, relay.stage, log);
  } finally {
    pulse.stop();
    clearInterval(heartbeat);
    unsubscribe();
    stopping.removeEventListener('abort', onStopping);
    await directory?.remove().catch((error: unknown) => log.warn({ err: error }, 'the directory of the job could not be removed'));
  }
}

async function compute(
  context: JobContext,
  job: JobRecord,
  directory: JobDirectory,
  { relay, checkpoints, pulse }: { relay: Relay; checkpoints: Checkpoints; pulse: Pulse },
  signal: AbortSignal,
  log: Logger,
): Promise<{ result: PipelineResult; model: Model }> {
  const { store, memoryBytes, module } = context;
  const model = await store.models.get(job.model);
  const layOut = async (role: string, dataset: Dataset) => ({
    path: await directory.layOut(store, role, dataset, signal),
    config: dataset.config,
  });
  const modelPath = await directory.layOut(store, 'model', model, signal);
  const dataset = await layOut('dataset', await store.datasets.get(job.dataset));
  const evaluationDataset =
    job.evaluationDataset === null ? undefined : await layOut('evaluation', await store.datasets.get(job.evaluationDataset));
  const checkpointPath = await checkpoints.layOut(directory, signal).catch(async (error: unknown) => {
    if (!(error instanceof ServiceError) || error.code !== 'BLOB_CORRUPT') throw error;
    relay.dropped(error.message);
    await checkpoints.drop();
  });
  const payload = {
    modelPath,
    dataset,
    ...(evaluationDataset === undefined ? {} : { evaluationDataset }),
    recipe: job.recipe,
    outputDirectory: directory.output,
    workDirectory: directory.work,
    limits: defaultLimits,
    memoryBytes,
    ...(checkpointPath === undefined ? {} : { checkpointPath }),
  };
  const result = await runJobProcess({
    command: 'quantize',
    payload,
    signal,
    onEvent: (event) => {
      pulse.saw(event);
      checkpoints.take(event);
      relay.take(event);
    },
    limits: { seconds: job.limits.runSeconds, memoryBytes },
    log,
    module,
  });
  return { result, model };
}

async function finish({ store }: JobContext, claim: Claim, result: PipelineResult, model: Model, log: Logger): Promise<AttemptEnd> {
  const base = safeName(model.filename).replace(/\.(onnx|zip)$/i, '');
  const files: { kind: ArtifactKind; file: string; filename: string; mediaType: string }[] = [
    { kind: 'model', file: result.modelPath, filename: `${base}.int8.onnx`, mediaType: 'application/octet-stream' },
    { kind: 'report_json', file: result.reportPath, filename: `${base}.report.json`, mediaType: 'application/json' },
    { kind: 'report_md', file: result.markdownPath, filename: `${base}.report.md`, mediaType: 'text/markdown; charset=utf-8' },
  ];
  const report = JSON.parse(await readFile(path.resolve(result.reportPath), 'utf8')) as Report;
  const job = await patiently(log, async () => {
    const artifacts: NewArtifact[] = [];
    for (const { file, ...about } of files) artifacts.push({ ...about, blob: await store.blobs.put(createReadStream(file)) });
    return store.jobs.succeed(claim, { artifacts, report });
  });
  if (job !== null) {
    log.info({ state: job.state, result: job.result }, 'job finished');
    return job.state === 'gate_failed' ? 'gate_failed' : 'succeeded';
  }
  return endCancelled(store, claim, log);
}

async function fail(context: JobContext, claim: Claim, error: unknown, stage: string | null, log: Logger): Promise<AttemptEnd> {
  const { store, stopping, retry } = context;
  if (error instanceof Lost) {
    log.warn('the job was taken from this worker');
    return 'lost';
  }
  if (
    stopping.aborted &&
    error === stopping.reason &&
    (await patiently(log, () => store.jobs.requeue(claim, 'the worker stops'))) !== null
  ) {
    log.info('the worker stops; the job goes back to the queue');
    return 'requeued';
  }
  if (error instanceof OctetError && error.code === 'CANCELLED') return endCancelled(store, claim, log);
  const failure = failureOf(faultOf(error));
  const jobError = jobErrorOf(failure, stage);
  const job = await patiently(log, () =>
    workerFaults.has(failure.code) ? store.jobs.retry(claim, jobError, retry) : store.jobs.fail(claim, jobError),
  );
  if (job === null) return endCancelled(store, claim, log);
  const about = { code: failure.code, detail: job.error?.detail ?? failure.detail, stage, logTail: failure.logTail };
  if (job.state === 'queued') {
    log.warn(about, 'this start of the job failed; the job is started again');
    return 'retried';
  }
  log.warn(about, 'job failed');
  return 'failed';
}

/** Nobody will take the job again after this. */
const isOver = (error: unknown) => error instanceof Lost || (error instanceof OctetError && error.code === 'CANCELLED');

async function endCancelled(store: Store, claim: Claim, log: Logger): Promise<AttemptEnd> {
  if ((await patiently(log, () => store.jobs.finishCancel(claim))) === null) return 'lost';
  log.info('job cancelled');
  return 'cancelled';
}

/** Repeats a last write while Postgres is away, for some minutes: the work is done and must not be thrown away for a short pause. */
async function patiently<T>(log: Logger, write: () => Promise<T>): Promise<T> {
  const warn = seldom(log);
  for (let attempt = 1; ; attempt++) {
    try {
      return await write();
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'DATABASE_UNAVAILABLE' || attempt > 100) throw error;
      warn({ err: error }, 'the end of the job cannot be written yet');
      await sleep(2_000);
    }
  }
}

/** Calls that come while one is under way become one call after it. */
function oneAtATime(act: () => Promise<void>): () => void {
  let busy = false;
  let again = false;
  const call = () => {
    again = busy;
    if (busy) return;
    busy = true;
    void act().finally(() => {
      busy = false;
      if (again) call();
    });
  };
  return call;
}

/** Calls at once and then at most twice a second: a job's own progress rows notify as well. */
function coalesced(act: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  let last = 0;
  return () => {
    timer ??= setTimeout(
      () => {
        timer = undefined;
        last = Date.now();
        act();
      },
      Math.max(0, last + 500 - Date.now()),
    );
    timer.unref();
  };
}
