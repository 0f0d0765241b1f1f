import {
  type ArtifactKind,
  type CheckpointPlace,
  cancelLeadsTo,
  type EventType,
  isTerminal,
  type JobError,
  type JobProgress,
  type JobSettings,
  type JobState,
  jobPolicy,
  jobStates,
  mayBecome,
  newId,
  type Page,
  type Report,
  recipeOf,
  ServiceError,
  type Stage,
  statesBefore,
} from '@octet/contracts';
import { discardCheckpointBlob, type StoredBlob } from './blobs.js';
import { type Changes, jobChannel } from './changes.js';
import { type Database, json, type Transaction, text } from './database.js';
import { Prisma } from './generated/client.js';
import { fingerprintOf, type JobRecord, jobRecord, stateColumn, withReport } from './job-record.js';
import { type PageRequest, pageOfRows, pageQuery } from './pages.js';
import { reportRow } from './reports.js';
import { afterFault, defaultRetry, mayTake, pauseIsOver, type RetryPolicy } from './starts.js';
import { lockLive } from './uploads.js';

export interface NewJob {
  model: string;
  dataset: string;
  evaluationDataset?: string | undefined;
  settings: JobSettings;
  /** Part of the fingerprint: another version may give another result. */
  engineVersion: string;
}

export interface JobFilter extends PageRequest {
  state?: JobState[] | undefined;
  model?: string | undefined;
  dataset?: string | undefined;
}

/** A worker's hold on a job. Every write of the worker names it, so that a worker that was given up for lost can change nothing. */
export interface Claim {
  jobId: string;
  workerId: string;
  attempt: number;
}

export interface NewArtifact {
  kind: ArtifactKind;
  filename: string;
  mediaType: string;
  blob: StoredBlob;
}

/** What a reported event is, besides the changes of state that the repository writes itself. */
export type ReportedEvent = { type: Exclude<EventType, 'state' | 'attempt' | 'progress' | 'stage'>; data: Record<string, unknown> };

const terminalStates = jobStates.filter(isTerminal);

export class JobRepository {
  readonly #db: Database;
  readonly #changes: Changes;

  constructor(db: Database, changes: Changes) {
    this.#db = db;
    this.#changes = changes;
  }

  /** A queued job. @throws NOT_FOUND when the model or a dataset does not exist. */
  async create(input: NewJob): Promise<JobRecord> {
    return this.#db.prisma.$transaction(async (tx) => {
      await lockLive(tx, 'model', input.model, 'SHARE');
      for (const id of new Set([input.dataset, input.evaluationDataset ?? input.dataset])) await lockLive(tx, 'dataset', id, 'SHARE');
      const now = new Date();
      const row = await tx.job.create({
        include: withReport,
        data: {
          id: newId('job'),
          state: 'queued',
          recipe: json(recipeOf(input.settings)),
          limits: json(input.settings.limits),
          metadata: json(input.settings.metadata),
          fingerprint: await fingerprint(tx, input),
          modelId: input.model,
          datasetId: input.dataset,
          evaluationDatasetId: input.evaluationDataset ?? null,
          createdAt: now,
          updatedAt: now,
          queuedAt: now,
        },
      });
      await this.#event(tx, row.id, 'state', { state: 'queued' });
      return jobRecord(row);
    });
  }

  /** The newest succeeded job that this request would only repeat, or null. @throws NOT_FOUND as `create`. */
  async findReusable(input: NewJob): Promise<JobRecord | null> {
    const row = await this.#db.prisma.job.findFirst({
      where: { fingerprint: await fingerprint(this.#db.prisma, input), state: { in: ['succeeded', 'gate_failed'] } },
      orderBy: { id: 'desc' },
      include: withReport,
    });
    return row === null ? null : jobRecord(row);
  }

  /** @throws NOT_FOUND */
  async get(id: string): Promise<JobRecord> {
    const row = await this.#db.prisma.job.findUnique({ where: { id }, include: withReport });
    if (row === null) throw notFound(id);
    return jobRecord(row);
  }

  async list({ state, model, dataset, ...page }: JobFilter): Promise<Page<JobRecord>> {
    const { take, orderBy, where } = pageQuery(page);
    const rows = await this.#db.prisma.job.findMany({
      take,
      orderBy,
      include: withReport,
      where: {
        ...where,
        ...(state === undefined ? {} : { state: { in: state } }),
        ...(model === undefined ? {} : { modelId: model }),
        ...(dataset === undefined ? {} : { OR: [{ datasetId: dataset }, { evaluationDatasetId: dataset }] }),
      },
    });
    return pageOfRows(rows, take, jobRecord);
  }

  /** Place among the queued jobs, 1 is next; null when the job is not queued. */
  async queuePosition(id: string): Promise<number | null> {
    const rows = await this.#db.prisma.$queryRaw<{ position: bigint }[]>`
      SELECT count(*) AS position FROM job mine JOIN job other ON other.state = 'queued' AND (other.queued_at, other.id) <= (mine.queued_at, mine.id)
      WHERE mine.id = ${id} AND mine.state = 'queued' GROUP BY mine.id`;
    return rows[0] === undefined ? null : Number(rows[0].position);
  }

  /**
   * Waits until the job changes. With `afterRevision` a change since that revision counts as well, so nothing can slip between reading and waiting.
   * @returns true when it changed; false when `ms` passed or the signal fired.
   */
  async waitForChange(id: string, ms: number, signal?: AbortSignal, afterRevision?: number): Promise<boolean> {
    const revision = afterRevision ?? (await this.#revision(id));
    return this.#changes.wait(id, ms, signal, async () => (await this.#revision(id)) !== revision);
  }

  /** Null when the job is gone. */
  async #revision(id: string): Promise<number | null> {
    const row = await this.#db.prisma.job.findUnique({ where: { id }, select: { revision: true } });
    return row?.revision ?? null;
  }

  /** Calls the listener after every change of the job, until the function returned is called. */
  subscribe(id: string, listener: () => void): () => void {
    return this.#changes.subscribe(id, listener);
  }

  /**
   * Asks for the end of a job: a queued one is cancelled at once, a running one becomes `cancelling`.
   * Asking again changes nothing.
   * @throws NOT_FOUND; CONFLICT when the job has finished otherwise.
   */
  async requestCancel(id: string): Promise<JobRecord> {
    for (;;) {
      const job = await this.get(id);
      const to = cancelLeadsTo[job.state];
      if (to === null)
        throw new ServiceError('CONFLICT', `job ${id} has finished: ${job.state}`, { hint: 'A finished job cannot be cancelled.' });
      if (to === job.state) return job;
      const changed = await this.#change(id, { from: [job.state], to, data: { cancelRequestedAt: new Date() } });
      if (changed !== null) return changed;
    }
  }

  /**
   * Removes a finished job with its events, report and artifacts; their blobs stay for `blobs.release`.
   * @throws NOT_FOUND; CONFLICT while the job has not finished
   */
  async delete(id: string): Promise<void> {
    const { count } = await this.#db.prisma.job.deleteMany({ where: { id, state: { in: terminalStates } } });
    if (count > 0) return;
    const { state } = await this.get(id);
    throw new ServiceError('CONFLICT', `job ${id} is ${state}`, {
      hint: 'Cancel the job, or wait until it has finished, and delete it then.',
    });
  }

  /** Removes a job that could not be put on the queue and that no worker has taken. True when it was removed. */
  async withdraw(id: string): Promise<boolean> {
    const { count } = await this.#db.prisma.job.deleteMany({ where: { id, state: 'queued', attempts: 0 } });
    return count > 0;
  }

  /**
   * Takes a queued job for a worker. Null when it is not queued, or not for this worker yet (see `retry`).
   */
  async claim(id: string, workerId: string, othersFirstMs: number = jobPolicy.othersFirstMs): Promise<Claim | null> {
    const job = await this.#change(id, {
      from: ['queued'],
      to: 'running',
      where: mayTake(workerId, new Date(), othersFirstMs),
      data: {
        workerId,
        heartbeatAt: new Date(),
        attempts: { increment: 1 },
        stage: null,
        progress: Prisma.DbNull,
        notBefore: null,
        avoidWorker: null,
        resumedFrom: Prisma.DbNull,
      },
      event: { worker: workerId },
    });
    return job === null ? null : { jobId: id, workerId, attempt: job.attempts };
  }

  /** Says that the worker lives. Returns what the job has become: `lost` when this worker has lost it. */
  async heartbeat({ jobId, workerId, attempt }: Claim): Promise<'running' | 'cancelling' | 'lost'> {
    const rows = await this.#db.prisma.job.updateManyAndReturn({
      where: { id: jobId, workerId, attempts: attempt, state: { in: ['running', 'cancelling'] } },
      data: { heartbeatAt: new Date() },
      select: { state: true },
    });
    const state = rows[0]?.state;
    return state === 'running' || state === 'cancelling' ? state : 'lost';
  }

  /** Records stage and progress. False when this worker has lost the job. */
  async reportProgress(claim: Claim, stage: Stage, progress: JobProgress | null): Promise<boolean> {
    return this.#touch(claim, { stage, progress: progress === null ? Prisma.DbNull : json(progress) }, async (tx) => {
      await (progress === null ? this.#event(tx, claim.jobId, 'stage', { stage }) : this.#event(tx, claim.jobId, 'progress', progress));
    });
  }

  /** Records an event of the pipeline. False when this worker has lost the job. */
  async reportEvent(claim: Claim, { type, data }: ReportedEvent): Promise<boolean> {
    return this.#touch(claim, {}, async (tx) => {
      await this.#event(tx, claim.jobId, type, data);
    });
  }

  /** Records where this attempt begins: at a checkpoint, or, when the checkpoint could not be used, from the beginning. False when this worker has lost the job. */
  async reportStart(claim: Claim, { from, message }: { from: CheckpointPlace | null; message: string }): Promise<boolean> {
    return this.#touch(claim, { resumedFrom: from === null ? Prisma.DbNull : json(from) }, async (tx) => {
      await this.#event(tx, claim.jobId, 'attempt', { attempt: claim.attempt, resumedFrom: from, message });
    });
  }

  /**
   * Ends a job with its result: artifacts, report and final state in one transaction.
   * Null when the job was cancelled or taken from this worker meanwhile; then nothing is written.
   */
  async succeed(claim: Claim, result: { artifacts: NewArtifact[]; report: Report }): Promise<JobRecord | null> {
    return this.#change(claim.jobId, {
      from: ['running'],
      to: result.report.gate.passed ? 'succeeded' : 'gate_failed',
      claim,
      alsoWrite: async (tx) => {
        for (const { kind, filename, mediaType, blob } of result.artifacts) {
          await tx.artifact.create({
            data: {
              id: newId('artifact'),
              jobId: claim.jobId,
              kind,
              filename: text(filename),
              mediaType,
              sha256: blob.sha256,
              bytes: blob.size,
            },
          });
        }
        await tx.report.create({ data: { jobId: claim.jobId, ...reportRow(result.report) } });
      },
    });
  }

  /** Ends a job with an error. With a claim only this worker's job; without, a job that is still queued. Null when it is neither. */
  async fail(target: Claim | { jobId: string }, error: JobError): Promise<JobRecord | null> {
    const claim = 'workerId' in target ? target : undefined;
    return this.#change(target.jobId, {
      from: [claim === undefined ? 'queued' : 'running'],
      to: 'failed',
      claim,
      data: { error: json(error) },
      event: { error: json(error) },
    });
  }

  /** Ends a job whose end was asked for. */
  async finishCancel(claim: Claim): Promise<JobRecord | null> {
    return this.#change(claim.jobId, { from: ['cancelling'], to: 'cancelled', claim });
  }

  /** Gives a running job back to the queue, because its worker stops. Such a start is not counted as failed. */
  async requeue(claim: Claim, reason: string): Promise<JobRecord | null> {
    return this.#toQueue(claim, { reason }, {});
  }

  /**
   * Ends a start that failed through its worker or machine: back to the queue for after a pause, when other workers may take the job
   * first; or `failed` with the error when this was the last start. A start that got further than the checkpoint it began from does not count.
   * Null when this worker has lost the job.
   */
  async retry(claim: Claim, error: JobError, policy: RetryPolicy = defaultRetry): Promise<JobRecord | null> {
    const row = await this.#db.prisma.job.findUnique({
      where: { id: claim.jobId },
      select: { failedStarts: true, checkpoint: { select: { attempt: true } } },
    });
    if (row === null) return null;
    const { failedStarts, pauseMs } = afterFault(row.failedStarts, row.checkpoint?.attempt === claim.attempt, policy);
    if (pauseMs === null)
      return this.fail(claim, { ...error, detail: `${error.detail} (start ${failedStarts} of ${policy.maxStarts} that failed)` });
    const { code, detail } = error;
    return this.#toQueue(
      claim,
      { reason: `the start failed: ${code}, ${detail}`, error: { code, detail }, failedStarts },
      { failedStarts, ...(pauseMs > 0 ? { avoidWorker: claim.workerId, notBefore: new Date(Date.now() + pauseMs) } : {}) },
    );
  }

  async #toQueue(
    claim: Claim,
    event: { reason: string; [fact: string]: unknown },
    data: Prisma.JobUncheckedUpdateManyInput,
  ): Promise<JobRecord | null> {
    return this.#change(claim.jobId, {
      from: ['running'],
      to: 'queued',
      claim,
      data: { ...data, workerId: null, stage: null, progress: Prisma.DbNull },
      event: { ...event, attempt: claim.attempt },
    });
  }

  /** Ids of the jobs that have been queued longest, at most `limit`: their order is their place in the queue. */
  async listQueued(limit: number): Promise<{ id: string }[]> {
    return this.#db.prisma.job.findMany({
      where: { state: 'queued' },
      orderBy: [{ queuedAt: 'asc' }, { id: 'asc' }],
      take: limit,
      select: { id: true },
    });
  }

  /** The jobs that have been queued longest and may be started now, at most `limit`, for the reconciler. */
  async listDue(limit: number): Promise<{ id: string; attempts: number }[]> {
    return this.#db.prisma.job.findMany({
      where: { state: 'queued', ...pauseIsOver(new Date()) },
      orderBy: [{ queuedAt: 'asc' }, { id: 'asc' }],
      take: limit,
      select: { id: true, attempts: true },
    });
  }

  /** Queued jobs that have waited longer than their `limits.queueSeconds`, at most `limit`, wherever they stand in the queue. */
  async listExpired(limit: number): Promise<{ id: string; queueSeconds: number }[]> {
    return this.#db.prisma.$queryRaw<{ id: string; queueSeconds: number }[]>`
      SELECT id, (limits ->> 'queueSeconds')::float8 AS "queueSeconds" FROM job
      WHERE state = 'queued' AND queued_at < now() - make_interval(secs => (limits ->> 'queueSeconds')::float8)
      LIMIT ${limit}`;
  }

  /** Claims whose worker sent no heartbeat for `ms`. */
  async listStale(ms: number): Promise<(Claim & { state: JobState })[]> {
    const rows = await this.#db.prisma.$queryRaw<{ id: string; worker_id: string; attempts: number; state: JobState }[]>`
      SELECT id, worker_id, attempts, state::text AS state FROM job
      WHERE state IN ('running', 'cancelling') AND heartbeat_at < now() - make_interval(secs => ${ms / 1000}::double precision)`;
    return rows.map((row) => ({
      jobId: row.id,
      workerId: row.worker_id,
      attempt: row.attempts,
      state: row.state,
    }));
  }

  /** Number of jobs in each state. */
  async counts(): Promise<Record<JobState, number>> {
    const rows = await this.#db.prisma.job.groupBy({ by: ['state'], _count: true });
    const counts = Object.fromEntries(jobStates.map((state) => [state, 0])) as Record<JobState, number>;
    for (const row of rows) counts[row.state] = row._count;
    return counts;
  }

  /**
   * THE ONLY writer of states: moves a job from one of `from` to `to` if the status machine allows it, stamps the time, and writes
   * the event, in one transaction. Null when the job is in none of those states (or not the claim's).
   */
  async #change(
    id: string,
    change: {
      from: JobState[];
      to: JobState;
      claim?: Claim | undefined;
      /** A further condition. */
      where?: Prisma.JobWhereInput;
      data?: Prisma.JobUncheckedUpdateManyInput;
      event?: Record<string, unknown>;
      alsoWrite?: (tx: Transaction) => Promise<void>;
    },
  ): Promise<JobRecord | null> {
    const { from, to, claim } = change;
    const illegal = from.find((state) => !mayBecome(state, to));
    if (illegal !== undefined)
      throw new Error(`the status machine does not let ${illegal} become ${to}; only ${statesBefore(to).join(', ')} may`);
    const done = await this.#db.prisma.$transaction(async (tx) => {
      const now = new Date();
      const { count } = await tx.job.updateMany({
        where: {
          ...change.where,
          id,
          state: { in: from },
          ...(claim === undefined ? {} : { workerId: claim.workerId, attempts: claim.attempt }),
        },
        data: { ...change.data, state: to, [stateColumn[to]]: now, updatedAt: now, revision: { increment: 1 } },
      });
      if (count === 0) return null;
      await change.alsoWrite?.(tx);
      // A job that has ended goes on from nowhere.
      const checkpoints = isTerminal(to) ? await tx.checkpoint.findMany({ where: { jobId: id } }) : [];
      if (checkpoints.length > 0) await tx.checkpoint.deleteMany({ where: { jobId: id } });
      await this.#event(tx, id, 'state', { state: to, ...change.event });
      const row = await tx.job.findUniqueOrThrow({ where: { id }, include: withReport });
      return { record: jobRecord(row), checkpoints };
    });
    for (const { sha256 } of done?.checkpoints ?? []) await discardCheckpointBlob(this.#db, sha256);
    return done?.record ?? null;
  }

  /** A change of a running job that is not one of its state. */
  async #touch(claim: Claim, data: Prisma.JobUncheckedUpdateManyInput, then: (tx: Transaction) => Promise<void>): Promise<boolean> {
    return this.#db.prisma.$transaction(async (tx) => {
      const { count } = await tx.job.updateMany({
        where: { id: claim.jobId, workerId: claim.workerId, attempts: claim.attempt, state: { notIn: terminalStates } },
        data: { ...data, updatedAt: new Date(), revision: { increment: 1 } },
      });
      if (count > 0) await then(tx);
      return count > 0;
    });
  }

  /** The row of the job is locked by then, so the numbers of its events rise in the order they become visible. */
  async #event(tx: Transaction, jobId: string, type: EventType, data: object): Promise<void> {
    await tx.jobEvent.create({ data: { jobId, type, data: json(data) } });
    await tx.$executeRaw`SELECT pg_notify(${jobChannel}, ${jobId})`;
  }
}

async function fingerprint(tx: Transaction, input: NewJob): Promise<string> {
  const model = await tx.model.findFirst({ where: { id: input.model, deletedAt: null }, select: { sha256: true } });
  if (model === null) throw new ServiceError('NOT_FOUND', `there is no model ${input.model}`, { place: { pointer: '/model' } });
  const dataset = async (id: string, pointer: string) => {
    const row = await tx.dataset.findFirst({ where: { id, deletedAt: null }, select: { sha256: true, config: true } });
    if (row === null) throw new ServiceError('NOT_FOUND', `there is no dataset ${id}`, { place: { pointer } });
    return row;
  };
  return fingerprintOf({
    modelSha256: model.sha256,
    dataset: await dataset(input.dataset, '/dataset'),
    evaluationDataset: input.evaluationDataset === undefined ? null : await dataset(input.evaluationDataset, '/evaluationDataset'),
    settings: input.settings,
    engineVersion: input.engineVersion,
  });
}

function notFound(id: string): ServiceError {
  return new ServiceError('NOT_FOUND', `there is no job ${id}`, { hint: 'GET /v1/jobs lists what there is.' });
}
