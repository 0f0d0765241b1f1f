import type { PipelineEvent, Stage } from '@octet/contracts';
import type { Claim, Store } from '@octet/store';
import type { Logger } from 'pino';

type ProgressEvent = Extract<PipelineEvent, { type: 'progress' }>;

/** Rows of progress of one job come no faster than this. */
const progressEveryMs = 500;
/** Log lines waiting for the database, above which further ones are left out. */
const waitingLimit = 500;

/** Carries the events of a job process into Postgres, in order, one write at a time, progress thinned out. */
export class Relay {
  readonly #store: Store;
  readonly #claim: Claim;
  readonly #log: Logger;
  #chain: Promise<void> = Promise.resolve();
  #waiting = 0;
  #stage: Stage | null = null;
  /** A stage may count more than once, each time towards a total of its own. */
  #count = { total: 0, done: 0, first: 0, started: 0 };
  #latest: ProgressEvent | null = null;
  #timer: NodeJS.Timeout | undefined;
  #lastWrite = 0;

  constructor(store: Store, claim: Claim, log: Logger) {
    this.#store = store;
    this.#claim = claim;
    this.#log = log;
  }

  /** The stage that the job is in. */
  get stage(): Stage | null {
    return this.#stage;
  }

  /** Takes an event; never blocks and never throws. */
  take(event: PipelineEvent): void {
    switch (event.type) {
      case 'stage':
        this.#writeLatest();
        this.#stage = event.stage;
        this.#count = { total: 0, done: 0, first: 0, started: Date.now() };
        this.#write(() => this.#store.jobs.reportProgress(this.#claim, event.stage, null));
        break;
      case 'progress':
        if (event.total !== this.#count.total || event.done < this.#count.done)
          this.#count = { total: event.total, done: event.done, first: event.done, started: Date.now() };
        this.#count.done = event.done;
        this.#latest = event;
        if (event.done >= event.total) this.#writeLatest();
        else this.#timer ??= setTimeout(() => this.#writeLatest(), Math.max(0, this.#lastWrite + progressEveryMs - Date.now()));
        break;
      case 'epoch': {
        const { type, ...data } = event;
        this.#write(() => this.#store.jobs.reportEvent(this.#claim, { type, data }));
        break;
      }
      case 'log': {
        const { type, ...data } = event;
        this.#log[event.level]({ data: event.data, stage: this.#stage }, event.message);
        if (this.#waiting < waitingLimit) this.#write(() => this.#store.jobs.reportEvent(this.#claim, { type, data }));
        break;
      }
      case 'resumed': {
        const { stage, step } = event;
        const message = stage === 'train' ? `resumed from step ${step}` : 'resumed from step 0: calibration and PTQ are done';
        this.#log.info({ checkpoint: { stage, step } }, message);
        this.#write(() => this.#store.jobs.reportStart(this.#claim, { from: { stage, step }, message }));
        break;
      }
      case 'checkpoint_dropped':
        this.dropped(event.reason);
        break;
      case 'checkpoint':
        // Its file is the concern of checkpoints.ts.
        break;
    }
  }

  /** Says that the attempt begins with nothing, although there was a checkpoint. */
  dropped(reason: string): void {
    this.#log.warn({ reason }, 'the checkpoint was dropped');
    const message = `starts from nothing: ${reason}`;
    this.#write(() => this.#store.jobs.reportStart(this.#claim, { from: null, message }));
  }

  /** Resolves when everything taken so far is written. */
  async drain(): Promise<void> {
    this.#writeLatest();
    await this.#chain;
  }

  #writeLatest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const event = this.#latest;
    if (event === null) return;
    this.#latest = null;
    this.#lastWrite = Date.now();
    const { stage, done, total, unit, figures = {} } = event;
    const { first, started } = this.#count;
    const seconds = (Date.now() - started) / 1000;
    const stageEtaSeconds =
      done > first && stage === this.#stage ? Math.round((seconds / (done - first)) * (total - done) * 10) / 10 : null;
    this.#write(() => this.#store.jobs.reportProgress(this.#claim, stage, { stage, done, total, unit, figures, stageEtaSeconds }));
  }

  #write(write: () => Promise<unknown>): void {
    this.#waiting++;
    this.#chain = this.#chain
      .then(write)
      .then(() => undefined)
      .catch((error: unknown) => this.#log.warn({ err: error }, 'an event of the job could not be written'))
      .finally(() => {
        this.#waiting--;
      });
  }
}
