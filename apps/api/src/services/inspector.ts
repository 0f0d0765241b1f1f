import { dirname } from 'node:path';
import { type DatasetConfig, type DatasetSummary, type ModelSummary, parseRecipe, ServiceError } from '@octet/contracts';
import { type Command, type Commands, runJobProcess } from '@octet/runner';
import type { FastifyBaseLogger } from 'fastify';
import type { ApiConfig } from '../config.js';
import { Slots } from '../http/slots.js';

/** Looks into uploads, each in a process of its own: a file that breaks its reader breaks nothing else. */
export class Inspector {
  readonly #config: ApiConfig;
  readonly #log: FastifyBaseLogger;
  readonly #slots: Slots;

  constructor(config: ApiConfig, log: FastifyBaseLogger) {
    this.#config = config;
    this.#log = log;
    this.#slots = new Slots(config.inspections);
  }

  /** @throws OctetError MODEL_…; ServiceError INSPECTION_TIMED_OUT, JOB_OUT_OF_MEMORY */
  model(path: string, signal: AbortSignal): Promise<ModelSummary> {
    return this.#run('inspect-model', { path, limits: this.#config.limits, recipe: parseRecipe({}) }, signal);
  }

  /** @throws OctetError DATASET_…; ServiceError INSPECTION_TIMED_OUT, JOB_OUT_OF_MEMORY */
  dataset(path: string, config: DatasetConfig, signal: AbortSignal): Promise<DatasetSummary> {
    return this.#run('inspect-dataset', { path, config, workDirectory: dirname(path), limits: this.#config.limits }, signal);
  }

  async #run<C extends 'inspect-model' | 'inspect-dataset'>(
    command: C & Command,
    payload: Commands[C]['payload'],
    signal: AbortSignal,
  ): Promise<Commands[C]['result']> {
    const limits = { seconds: this.#config.inspectMs / 1000, memoryBytes: this.#config.inspectMemoryBytes };
    try {
      return await this.#slots.run(() => runJobProcess({ command, payload, signal, limits, log: this.#log }));
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
}
