import { feedsOf } from '../data/dataset.js';
import type { ShardedProgram } from '../engine/engine.js';
import { cutRows, type Feeds, viewRows } from '../engine/rows.js';
import { Tensor } from '../tensor/tensor.js';
import { mixRows, type TrainingBatch } from './augment.js';
import { type LossSpec, lossFeeds } from './loss.js';

/** What the feeds of a batch depend on besides the batch. */
export interface BatchFeedSpec {
  /** Name of the first input. */
  input: string;
  loss: LossSpec;
  /** Elements of one output row, and the shape of the output behind the batch. */
  width: number;
  outputShape: readonly number[];
}

/** Run a program over the parts of a batch and put the rows of one result together again; `feeds` go to every part. */
export async function runShards(
  program: ShardedProgram,
  batch: Feeds,
  output: string,
  shards: number,
  feeds: Feeds = {},
): Promise<Float32Array> {
  const results = await program.run(cutRows(batch, shards).map((part) => ({ ...feeds, ...part.feeds })));
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
  batch: TrainingBatch,
  teacher: Float32Array | undefined,
  shards: number,
): Record<string, Tensor>[] {
  const { loss, width } = spec;
  const { labels, values, mix } = batch;
  // A mixed row has a partner in any part of the batch.
  const mixed =
    mix && labels && loss.kind !== 'mse' ? mixRows(oneHot(labels, 0, labels.length, width).data, labels.length, mix) : undefined;
  const shapeOf = (count: number) => (loss.kind === 'mse' ? [count, ...spec.outputShape] : [count, width]);
  return cutRows(feedsOf(spec.input, batch), shards).map(({ feeds: part, from, to }) => {
    const feeds: Record<string, Tensor> = { ...part };
    if (loss.distillationWeight < 1) {
      feeds[lossFeeds.target] =
        loss.kind === 'mse'
          ? viewRows(values as Tensor<'float32'>, from, to).reshape(shapeOf(to - from))
          : mixed
            ? Tensor.float32([to - from, width], mixed.subarray(from * width, to * width))
            : oneHot(labels as Int32Array, from, to, width);
    }
    if (teacher) feeds[lossFeeds.teacher] = Tensor.float32(shapeOf(to - from), teacher.subarray(from * width, to * width));
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
