import { performance } from 'node:perf_hooks';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { Program } from '../engine/engine.js';
import { runRows } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import { OutputCollector, type Outputs } from './outputs.js';

/** Some samples on their way into a model. */
export interface EvaluationBatch extends Pick<Batch, 'x' | 'others'> {
  /** Class of each sample. */
  labels?: ArrayLike<number>;
  /** [n, width] wanted values. */
  values?: ArrayLike<number>;
  /** Dataset index of each sample. */
  indices: ArrayLike<number>;
}

/** Names of the first input that is fed and the output that is judged. */
export interface ModelIo {
  input: string;
  output: string;
}

export interface CollectOptions {
  task: 'classification' | 'regression' | 'unlabelled';
  /** How scores are to be read. Find it out once on the float model, and give the same for every model compared with it. */
  kind?: Outputs['kind'];
  /** Batch size that the model insists on; other batches are cut and padded to it. */
  fixedBatch?: number;
  /** Scores are dropped, and only the top classes kept, above this many elements (64 Mi). */
  keepElements?: number;
  /** Called after each batch with the number of samples done. */
  onProgress?: (done: number) => void;
  signal?: AbortSignal;
}

/**
 * Run a model over batches and collect what it says. Memory is bounded by the batch plus the scores, or the top
 * classes alone where scores would be too many. Output shapes [n, classes], [n, classes, 1, 1], [n, 1] and [n] are read.
 * Throws DATASET_EMPTY without samples, MODEL_SHAPE for outputs that are not one row a sample, DATASET_CLASSES and
 * DATASET_SHAPE for truth that does not fit the outputs, CANCELLED on abort.
 */
export async function collectOutputs(
  program: Program,
  batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>,
  io: ModelIo,
  options: CollectOptions,
): Promise<Outputs> {
  const collector = new OutputCollector(options.task, options);
  let done = 0;
  let milliseconds = 0;
  for await (const batch of batches) {
    if (options.signal?.aborted) throw new OctetError('CANCELLED', 'the evaluation was cancelled');
    const start = performance.now();
    const { [io.output]: scores } = await runRows(program, feedsOf(io.input, batch), [io.output], options.fixedBatch);
    milliseconds += performance.now() - start;
    const n = batch.x.shape[0] ?? 0;
    collector.add(scores!, n, batch);
    done += n;
    options.onProgress?.(done);
  }
  if (done === 0) throw new OctetError('DATASET_EMPTY', 'there is no sample to evaluate');
  return collector.finish(milliseconds / 1000);
}
