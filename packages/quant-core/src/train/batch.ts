import type { Batch } from '../data/dataset.js';
import type { ShardedProgram } from '../engine/engine.js';
import { Tensor } from '../tensor/tensor.js';
import { type LossSpec, lossFeeds } from './loss.js';

/** What the feeds of a batch depend on besides the batch. */
export interface BatchFeedSpec {
  input: string;
  loss: LossSpec;
  /** Elements of one output row, and the shape of the output behind the batch. */
  width: number;
  outputShape: readonly number[];
}

/** Rows `from … to` of a tensor, as a view. */
function rows(tensor: Tensor<'float32'>, from: number, to: number): Tensor<'float32'> {
  const each = tensor.size / (tensor.shape[0] as number);
  return new Tensor('float32', [to - from, ...tensor.shape.slice(1)], tensor.data.subarray(from * each, to * each));
}

/** Cut a batch into `count` parts whose sizes differ by one at most; fewer where there are fewer samples. */
function cut(x: Tensor<'float32'>, count: number): Tensor<'float32'>[] {
  const n = x.shape[0] as number;
  const parts = Math.min(count, n);
  return Array.from({ length: parts }, (_, i) => rows(x, Math.floor((i * n) / parts), Math.floor(((i + 1) * n) / parts)));
}

/** Run a program over the parts of a batch and put the rows of one result together again. */
export async function runShards(
  program: ShardedProgram,
  input: string,
  x: Tensor<'float32'>,
  output: string,
  shards: number,
  feeds: Record<string, Tensor> = {},
): Promise<Float32Array> {
  const results = await program.run(cut(x, shards).map((part) => ({ ...feeds, [input]: part })));
  const parts = results.map((result) => result[output]?.as('float32').data as Float32Array);
  if (parts.length === 1) return parts[0] as Float32Array;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The feeds of each shard of a training batch: samples, one-hot labels or values, the teacher's outputs. */
export function shardFeeds(
  spec: BatchFeedSpec,
  { x, labels, values }: Batch,
  teacher: Float32Array | undefined,
  shards: number,
): Record<string, Tensor>[] {
  const { loss, width } = spec;
  const shapeOf = (count: number) => (loss.kind === 'mse' ? [count, ...spec.outputShape] : [count, width]);
  let at = 0;
  return cut(x, shards).map((part) => {
    const count = part.shape[0] as number;
    const from = at;
    at += count;
    const feeds: Record<string, Tensor> = { [spec.input]: part };
    if (loss.distillationWeight < 1) {
      feeds[lossFeeds.target] =
        loss.kind === 'mse'
          ? rows(values as Tensor<'float32'>, from, at).reshape(shapeOf(count))
          : oneHot(labels as Int32Array, from, at, width);
    }
    if (teacher) feeds[lossFeeds.teacher] = Tensor.float32(shapeOf(count), teacher.subarray(from * width, at * width));
    return feeds;
  });
}

/** [n, width] one-hot rows; for a single output the label itself. */
function oneHot(labels: Int32Array, from: number, to: number, width: number): Tensor<'float32'> {
  const target = new Float32Array((to - from) * width);
  for (let row = from; row < to; row++) {
    const label = labels[row] as number;
    if (width === 1) target[row - from] = label;
    else target[(row - from) * width + label] = 1;
  }
  return Tensor.float32([to - from, width], target);
}
