import { performance } from 'node:perf_hooks';
import type { Program } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import { allocate, type DType } from '../tensor/dtype.js';
import { sizeOf, Tensor, toNumbers } from '../tensor/tensor.js';
import { OutputCollector, type Outputs } from './outputs.js';

/** Some samples on their way into a model. */
export interface EvaluationBatch {
  /** [n, …] in the shape of the model's input. */
  x: Tensor;
  /** Class of each sample. */
  labels?: ArrayLike<number>;
  /** [n, width] wanted values. */
  values?: ArrayLike<number>;
  /** Dataset index of each sample. */
  indices: ArrayLike<number>;
}

/** Names of the input that is fed and the output that is judged. */
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

/** Rows `from … to` of a batch, the last row repeated up to `rows`. */
function rowsOf(x: Tensor, from: number, to: number, rows: number): Tensor {
  const step = sizeOf(x.shape.slice(1));
  const data = allocate(x.dtype as DType, rows * step) as Float32Array;
  const source = x.data as Float32Array;
  data.set(source.subarray(from * step, to * step));
  for (let row = to - from; row < rows; row++) data.set(source.subarray((to - 1) * step, to * step), row * step);
  return new Tensor(x.dtype, [rows, ...x.shape.slice(1)], data);
}

/**
 * Run a batch of any size through a program, through one that takes `fixedBatch` samples at a time as well.
 * Returns `names`d outputs as [n, elements] float arrays. Throws MODEL_SHAPE when an output has no row for each sample.
 */
export async function runRows(
  program: Program,
  input: string,
  x: Tensor,
  names: readonly string[],
  fixedBatch?: number,
): Promise<Record<string, Float32Array>> {
  const n = x.shape[0] ?? 0;
  const rows = fixedBatch ?? n;
  const parts: Record<string, Float32Array[]> = Object.fromEntries(names.map((name) => [name, []]));
  for (let from = 0; from < n; from += rows) {
    const to = Math.min(n, from + rows);
    const whole = from === 0 && to === n && rows === n;
    const results = await program.run({ [input]: whole ? x : rowsOf(x, from, to, rows) });
    for (const name of names) {
      const result = results[name];
      if (!result) throw new OctetError('INTERNAL', `the program has no output "${name}"`, { tensor: name });
      if (result.shape[0] !== rows || result.size % rows !== 0) {
        throw new OctetError(
          'MODEL_SHAPE',
          `output "${name}" has shape [${result.shape}] for ${rows} samples`,
          { tensor: name },
          { hint: 'The first dimension of the output must be the batch.' },
        );
      }
      const numbers = toNumbers(result);
      const floats = numbers instanceof Float32Array ? numbers : Float32Array.from(numbers);
      parts[name]!.push(to - from === rows ? floats : floats.slice(0, ((to - from) * floats.length) / rows));
    }
  }
  return Object.fromEntries(names.map((name) => [name, joined(parts[name]!)]));
}

function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
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
    const { [io.output]: scores } = await runRows(program, io.input, batch.x, [io.output], options.fixedBatch);
    milliseconds += performance.now() - start;
    const n = batch.x.shape[0] ?? 0;
    collector.add(scores!, n, batch);
    done += n;
    options.onProgress?.(done);
  }
  if (done === 0) throw new OctetError('DATASET_EMPTY', 'there is no sample to evaluate');
  return collector.finish(milliseconds / 1000);
}
