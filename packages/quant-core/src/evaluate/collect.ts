import { performance } from 'node:perf_hooks';
import type { IndexedBatch } from '../data/batches.js';
import { feedsOf } from '../data/dataset.js';
import type { Program } from '../engine/engine.js';
import { runRows } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import type { OutputTask } from '../tasks/assign.js';
import { type CollectorOptions, OutputCollector } from './collector.js';
import type { ModelOutputs, Outputs } from './outputs.js';

/** The first input that is fed, and the outputs that are judged. */
export interface ModelIo {
  input: string;
  outputs: readonly OutputTask[];
}

export interface CollectOptions extends Omit<CollectorOptions, 'reference' | 'kind'> {
  /** The outputs of another model for the same samples in the same order, its rows kept: what is collected is compared with it, and read as it was. */
  reference?: ModelOutputs | undefined;
  /** Outputs whose scores are to be read as these were, without being compared. */
  like?: ModelOutputs | undefined;
  /** Batch size that the model is fixed to; other batches are cut and padded to it. */
  fixedBatch?: number;
  /** Called after each batch with the number of samples done. */
  onProgress?: (done: number) => void;
  signal?: AbortSignal;
}

/**
 * Run a model over batches and collect its outputs. Memory is bounded by the batch plus what each task keeps.
 * Throws DATASET_EMPTY without samples, MODEL_SHAPE for outputs that are not one row a sample, DATASET_CLASSES and
 * DATASET_SHAPE for truth that does not fit the outputs, CANCELLED on abort.
 */
export async function collectOutputs(
  program: Program,
  batches: AsyncIterable<IndexedBatch> | Iterable<IndexedBatch>,
  io: ModelIo,
  options: CollectOptions = {},
): Promise<ModelOutputs> {
  const names = io.outputs.map(({ output }) => output.name);
  const collectors = io.outputs.map(
    ({ output, task }, at) =>
      new OutputCollector(output, task, {
        ...options,
        reference: options.reference?.[at],
        kind: (options.reference ?? options.like)?.[at]?.kind,
      }),
  );
  let done = 0;
  let milliseconds = 0;
  for await (const batch of batches) {
    if (options.signal?.aborted) throw new OctetError('CANCELLED', 'the evaluation was cancelled');
    const start = performance.now();
    const results = await runRows(program, feedsOf(io.input, batch), names, options.fixedBatch);
    milliseconds += performance.now() - start;
    for (const [at, name] of names.entries()) {
      const scores = results[name]!;
      (collectors[at] as OutputCollector).add(scores.data, scores.shape.slice(1), batch);
    }
    done += batch.indices.length;
    options.onProgress?.(done);
  }
  if (done === 0) throw new OctetError('DATASET_EMPTY', 'there is no sample to evaluate');
  return collectors.map((collector) => collector.finish(milliseconds / 1000)) as [Outputs, ...Outputs[]];
}
