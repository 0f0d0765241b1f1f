import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { jobPolicy, type PipelineEvent } from '@octet/contracts';
import type { Claim, Store } from '@octet/store';
import type { Logger } from 'pino';
import type { JobDirectory } from './workspace.js';

type CheckpointEvent = Extract<PipelineEvent, { type: 'checkpoint' }>;

/** Stores the checkpoint files of one attempt, one at a time. Where they come faster than they are stored, the newest is next and the others are left out. */
export class Checkpoints {
  readonly #store: Store;
  readonly #claim: Claim;
  readonly #log: Logger;
  readonly #stopped = new AbortController();
  #newest: CheckpointEvent | undefined;
  #work: Promise<void> = Promise.resolve();
  #working = false;

  constructor(store: Store, claim: Claim, log: Logger) {
    this.#store = store;
    this.#claim = claim;
    this.#log = log;
  }

  /** The checkpoint that the job goes on from, as a file; undefined when there is none. @throws BLOB_CORRUPT when it is damaged */
  async layOut(directory: JobDirectory, signal: AbortSignal): Promise<string | undefined> {
    const saved = await this.#store.checkpoints.find(this.#claim.jobId);
    if (saved === null) return undefined;
    return directory.layOut(this.#store, 'checkpoint', { sha256: saved.sha256, filename: 'checkpoint.bin' }, signal);
  }

  /** Takes an event of the job process; never blocks and never throws. */
  take(event: PipelineEvent): void {
    if (event.type === 'checkpoint') {
      this.#newest = event;
      if (!this.#working) this.#begin(() => this.#storeAll());
    }
    if (event.type === 'checkpoint_dropped') this.#begin(() => this.#dropQuietly());
  }

  /** Removes the checkpoint that the job was to go on from. */
  async drop(): Promise<void> {
    await this.#store.checkpoints.drop(this.#claim);
  }

  /** Resolves when the newest checkpoint is stored, or has had its time. */
  async finish(): Promise<void> {
    await this.#settled();
    this.#stopped.abort();
  }

  /** Nothing more is stored; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#settled();
  }

  /** What takes longer than it may is left to itself: it writes nothing once the job is given back. */
  async #settled(): Promise<void> {
    const over = new AbortController();
    const clock = sleep(jobPolicy.checkpointGraceMs, undefined, { signal: over.signal }).catch(() => undefined);
    await Promise.race([this.#work, clock]);
    over.abort();
  }

  #begin(act: () => Promise<void>): void {
    this.#work = this.#work.then(act);
  }

  async #storeAll(): Promise<void> {
    this.#working = true;
    while (this.#newest !== undefined && !this.#stopped.signal.aborted) {
      const event = this.#newest;
      this.#newest = undefined;
      await this.#storeOne(event);
    }
    this.#working = false;
  }

  async #storeOne({ path, stage, step }: CheckpointEvent): Promise<void> {
    const started = performance.now();
    try {
      // Opened before anything else: an open file stays whole when its process removes it.
      const file = (await open(path)).createReadStream();
      // Who reads the stream gets its error as well; before that there is no listener.
      file.on('error', () => undefined);
      const stored = await this.#store.checkpoints
        .save(this.#claim, { stage, step }, file, this.#stopped.signal)
        .finally(() => file.destroy());
      const ms = Math.round(performance.now() - started);
      this.#log.debug(
        { stage, step, ms },
        stored ? 'checkpoint stored' : 'the job was taken from this worker; the checkpoint is not stored',
      );
    } catch (error) {
      // The process keeps two files: an older one may be gone, and then there is a newer one to store. Others are worth a line; the job goes on without.
      if (this.#newest === undefined && !this.#stopped.signal.aborted)
        this.#log.warn({ err: error, stage, step }, 'a checkpoint could not be stored');
    }
  }

  async #dropQuietly(): Promise<void> {
    await this.drop().catch((error: unknown) => this.#log.warn({ err: error }, 'the checkpoint could not be removed'));
  }
}
