import {
  type Artifact,
  type ArtifactKind,
  ConfigError,
  type Dataset,
  type EventBody,
  hasResult,
  isTerminal,
  type JobBody,
  type JobRequest,
  type Model,
  type Page,
  recipeOf,
  ServiceError,
} from '@octet/contracts';
import type { JobFilter, JobQueue, JobRecord, NewJob, Store } from '@octet/store';
import type { FastifyBaseLogger } from 'fastify';
import { version } from '../version.js';
import { requireSense } from './fit.js';

/** A lost notification is noticed after so long. */
const lookAgainMs = 5_000;
const eventBatch = 500;
/** Lists give the place in the queue of so many jobs; GET of one job always does. */
const positionsShown = 1_000;

/** Jobs: the only place where the store and the queue meet. */
export class JobService {
  readonly #store: Store;
  readonly #queue: JobQueue;
  readonly #log: FastifyBaseLogger;

  constructor(store: Store, queue: JobQueue, log: FastifyBaseLogger) {
    this.#store = store;
    this.#queue = queue;
    this.#log = log;
  }

  /**
   * Submit a job. A finished job that did the same is given instead, where `reuse` allows it.
   * @throws ConfigError for ids that do not exist; whatever `requireSense` throws; ServiceError QUEUE_UNAVAILABLE (then no job is left behind)
   */
  async create(request: JobRequest, reuse: boolean): Promise<JobBody> {
    const { model, dataset, evaluationDataset, ...settings } = request;
    const [modelRow, datasetRow, evaluationRow] = await Promise.all([
      this.#named('/model', () => this.#store.models.get(model)),
      this.#named('/dataset', () => this.#store.datasets.get(dataset)),
      evaluationDataset === undefined ? undefined : this.#named('/evaluationDataset', () => this.#store.datasets.get(evaluationDataset)),
    ]);
    requireSense(recipeOf(settings), modelRow.summary, datasetRow, evaluationRow);
    const input: NewJob = { model, dataset, evaluationDataset, settings, engineVersion: version };
    const finished = reuse ? await this.#store.jobs.findReusable(input) : null;
    if (finished !== null) return this.#body(finished, true);
    await this.#queue.ping();
    const job = await this.#store.jobs.create(input);
    await this.#enqueue(job.id);
    this.#log.info({ jobId: job.id, modelId: model, datasetId: dataset }, 'job queued');
    return this.#body(job);
  }

  /** @throws ServiceError NOT_FOUND */
  async get(id: string): Promise<JobBody> {
    return this.#body(await this.#store.jobs.get(id));
  }

  /** The job as soon as its state changes, or as it is after `seconds`. @throws ServiceError NOT_FOUND */
  async wait(id: string, seconds: number, signal: AbortSignal): Promise<JobBody> {
    const deadline = Date.now() + seconds * 1000;
    const first = await this.#store.jobs.get(id);
    let job = first;
    while (!isTerminal(job.state) && job.state === first.state && !signal.aborted) {
      const left = deadline - Date.now();
      if (left <= 0) break;
      await this.#store.jobs.waitForChange(id, Math.min(left, lookAgainMs), signal, job.revision);
      job = await this.#store.jobs.get(id);
    }
    return this.#body(job);
  }

  async list(filter: JobFilter): Promise<Page<JobBody>> {
    const page = await this.#store.jobs.list(filter);
    const waiting = page.items.some((job) => job.state === 'queued') ? await this.#store.jobs.listQueued(positionsShown) : [];
    const positions = new Map(waiting.map((job, i) => [job.id, i + 1]));
    return { items: page.items.map((job) => body(job, positions.get(job.id) ?? null)), nextCursor: page.nextCursor };
  }

  /** Ask for the end of a job; its worker hears of it from the store. @throws ServiceError NOT_FOUND; CONFLICT when it has finished */
  async cancel(id: string): Promise<JobBody> {
    return this.#body(await this.#store.jobs.requestCancel(id));
  }

  /** Delete a finished job with its files. @throws ServiceError NOT_FOUND; CONFLICT while it has not finished */
  async delete(id: string): Promise<void> {
    const artifacts = await this.#store.artifacts.list(id);
    await this.#store.jobs.delete(id);
    for (const sha256 of new Set(artifacts.map((artifact) => artifact.sha256))) await this.#store.blobs.release(sha256);
  }

  /** @throws ServiceError NOT_FOUND */
  async artifacts(id: string): Promise<Artifact[]> {
    await this.#store.jobs.get(id);
    return this.#store.artifacts.list(id);
  }

  /** A file that a finished job made. @throws ServiceError NOT_FOUND, JOB_NOT_FINISHED, JOB_HAS_NO_RESULT */
  async result(id: string, kind: ArtifactKind): Promise<Artifact> {
    const job = await this.#store.jobs.get(id);
    if (!isTerminal(job.state))
      throw new ServiceError('JOB_NOT_FINISHED', `Job ${id} is ${job.state}${job.stage === null ? '' : ` (${job.stage})`}.`);
    const artifact = hasResult(job.state) ? await this.#store.artifacts.ofJob(id, kind) : null;
    if (artifact !== null) return artifact;
    const cause = job.error === null ? '' : `: ${job.error.code}, ${job.error.detail}`;
    throw new ServiceError(
      'JOB_HAS_NO_RESULT',
      `Job ${id} ended as ${job.state}${cause}`,
      job.error === null ? {} : { place: job.error.place, hint: job.error.hint },
    );
  }

  /** A name for the int8 model that says what it is. */
  async modelFileName(artifact: Artifact): Promise<string> {
    const job = await this.#store.jobs.get(artifact.job);
    const name = await this.#store.models.get(job.model).then(
      (model) => model.name,
      () => 'model',
    );
    return `${name}.int8.onnx`;
  }

  /** @throws ServiceError NOT_FOUND */
  async artifact(id: string): Promise<Artifact> {
    const artifact = await this.#store.artifacts.get(id);
    if (artifact === null) throw new ServiceError('NOT_FOUND', `There is no artifact ${id}.`);
    return artifact;
  }

  /** Events after a number, in order. @throws ServiceError NOT_FOUND */
  async events(id: string, after: number, limit: number): Promise<Page<EventBody>> {
    await this.#store.jobs.get(id);
    const items = await this.#store.events.list(id, after, limit);
    return { items, nextCursor: items.length < limit ? null : String(items.at(-1)?.seq) };
  }

  /** Events after a number as they happen, until the job has finished or the signal fires. */
  async *follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<EventBody, void> {
    let seen = after;
    while (!signal.aborted) {
      // The job is read before its events: once it is final, all of its events are there.
      const job = await this.#store.jobs.get(id);
      for (;;) {
        const events = await this.#store.events.list(id, seen, eventBatch);
        for (const event of events) {
          seen = event.seq;
          yield event;
        }
        if (events.length < eventBatch) break;
      }
      if (isTerminal(job.state)) return;
      await this.#store.jobs.waitForChange(id, lookAgainMs, signal, job.revision);
    }
  }

  async #enqueue(id: string): Promise<void> {
    try {
      await this.#queue.enqueue(id);
    } catch (error) {
      // Nobody has the id yet, so the row can go without a trace; a client that repeats gets one job, not two.
      await this.#store.jobs.withdraw(id);
      throw error instanceof ServiceError
        ? error
        : new ServiceError('QUEUE_UNAVAILABLE', 'The job could not be put on the queue; nothing was kept.', { cause: error });
    }
  }

  async #body(job: JobRecord, reused = false): Promise<JobBody> {
    return body(job, job.state === 'queued' ? await this.#store.jobs.queuePosition(job.id) : null, reused);
  }

  /** A resource that the body names: when it is not there, the body is wrong, not the path. */
  async #named<T extends Model | Dataset>(pointer: string, get: () => Promise<T>): Promise<T> {
    try {
      return await get();
    } catch (error) {
      if (error instanceof ServiceError && error.code === 'NOT_FOUND')
        throw new ConfigError('CONFIG_INVALID', [{ pointer, detail: error.message, hint: error.hint }]);
      throw error;
    }
  }
}

function body(record: JobRecord, queuePosition: number | null, reused = false): JobBody {
  const { revision: _revision, fingerprint: _fingerprint, workerId: _workerId, fruitlessAttempts: _fruitless, ...job } = record;
  const self = `/v1/jobs/${job.id}`;
  const links = {
    self,
    events: `${self}/events`,
    artifacts: `${self}/artifacts`,
    ...(isTerminal(job.state) ? {} : { cancel: `${self}/cancel` }),
    ...(hasResult(job.state) ? { model: `${self}/model`, accuracyDiff: `${self}/accuracy-diff`, report: `${self}/accuracy-diff.md` } : {}),
  };
  return { ...job, reused, queuePosition, links };
}
