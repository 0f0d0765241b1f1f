import { dirname } from 'node:path';
import { type DatasetConfig, type DatasetSummary, type ModelSummary, parseRecipe, ServiceError } from '@octet/contracts';
import { type Command, type Commands, runJobProcess } from '@octet/runner';
import type { FastifyBaseLogger } from 'fastify';
import type { ApiConfig } from '../config.js';
import { Slots } from '../http/slots.js';
import type { StagedFile } from '../http/staging.js';

/** Uploads of one client that may wait in a lane. */
const mostWaiting = 64;
/** A file is inspected for a minute, and a second more for each MiB, up to the limit of the configuration. */
const [leastSeconds, secondsPerByte] = [60, 1 / 2 ** 20];

type Inspection = 'inspect-model' | 'inspect-dataset';

/**
 * Looks into uploads, each in a process of its own: a file that breaks its reader breaks nothing else. There are two lanes. Every
 * inspection begins in the quick one; one that takes longer than `quickInspectMs` goes on in the slow lane when a place is free there,
 * and is otherwise ended and run again when one is. So uploads that take minutes never keep the others waiting for more than seconds.
 */
export class Inspector {
  readonly #config: ApiConfig;
  readonly #log: FastifyBaseLogger;
  readonly #quick: Slots;
  readonly #slow: Slots;
  readonly #module: string | undefined;

  /** @param module with the commands, for tests; quant-core when left out */
  constructor(config: ApiConfig, log: FastifyBaseLogger, module?: string) {
    this.#config = config;
    this.#log = log;
    this.#quick = new Slots(config.inspections, mostWaiting);
    this.#slow = new Slots(config.inspections, mostWaiting);
    this.#module = module;
  }

  /** @throws OctetError MODEL_…; ServiceError INSPECTION_TIMED_OUT, JOB_OUT_OF_MEMORY, OVERLOADED */
  model(file: StagedFile, signal: AbortSignal): Promise<ModelSummary> {
    return this.#run('inspect-model', { path: file.path, limits: this.#config.limits, recipe: parseRecipe({}) }, file, signal);
  }

  /** @throws OctetError DATASET_…; ServiceError INSPECTION_TIMED_OUT, JOB_OUT_OF_MEMORY, OVERLOADED */
  dataset(file: StagedFile, config: DatasetConfig, signal: AbortSignal): Promise<DatasetSummary> {
    const payload = { path: file.path, config, workDirectory: dirname(file.path), limits: this.#config.limits };
    return this.#run('inspect-dataset', payload, file, signal);
  }

  async #run<C extends Inspection>(
    command: C & Command,
    payload: Commands[C]['payload'],
    file: StagedFile,
    signal: AbortSignal,
  ): Promise<Commands[C]['result']> {
    const { inspectMs, inspectMemoryBytes: memoryBytes } = this.#config;
    const seconds = Math.min(inspectMs / 1000, leastSeconds + file.bytes * secondsPerByte);
    const start = (stop: AbortSignal) =>
      runJobProcess({ command, payload, signal: stop, limits: { seconds, memoryBytes }, log: this.#log, module: this.#module });
    try {
      return await this.#inLanes(file.sender, signal, start);
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'JOB_CRASHED') throw error;
      this.#log.error({ err: error, command, logTail: error.logTail }, 'an upload crashed the process that inspected it');
      throw new ServiceError(
        command === 'inspect-model' ? 'MODEL_INVALID' : 'DATASET_UNREADABLE',
        `The file made the process crash that inspected it: ${error.message}`,
        { cause: error },
      );
    }
  }

  /** First in the quick lane; in the slow one what takes longer. */
  async #inLanes<T>(owner: string, signal: AbortSignal, start: (stop: AbortSignal) => Promise<T>): Promise<T> {
    let release = await this.#quick.acquire(owner, signal);
    const tooSlow = new AbortController();
    const clock = setTimeout(() => {
      const place = this.#slow.take();
      if (place === undefined) return tooSlow.abort(new ServiceError('OVERLOADED', 'The slow lane is full.'));
      release();
      release = place;
    }, this.#config.quickInspectMs);
    try {
      return await start(AbortSignal.any([signal, tooSlow.signal]));
    } catch (error) {
      if (!tooSlow.signal.aborted || signal.aborted) throw error;
    } finally {
      clearTimeout(clock);
      release();
    }
    const leave = await this.#slow.acquire(owner, signal);
    try {
      return await start(signal);
    } finally {
      leave();
    }
  }
}
