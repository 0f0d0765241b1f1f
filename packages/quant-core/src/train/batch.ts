import type { TaskName } from '../choices.js';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { ShardedProgram } from '../engine/engine.js';
import { cutRows, type Feeds } from '../engine/rows.js';
import { tasks } from '../tasks/index.js';
import { type LossHead, type LossSpec, lossFeeds, targetShape } from '../tasks/loss.js';
import { Tensor } from '../tensor/tensor.js';

/** What the feeds of a batch depend on besides the batch. */
export interface BatchFeedSpec {
  /** Name of the first input. */
  input: string;
  loss: LossSpec;
  /** What each term of the loss is taken of. */
  heads: readonly LossHead[];
  /** What the labels are. */
  task: TaskName;
  /** A label a position that counts for nothing. */
  ignoreIndex?: number | undefined;
}

/** What the float model says to a batch: rows for each term of the loss that distils. */
export type Teaching = readonly (Float32Array | undefined)[];

/** Run a program over the parts of a batch and put the rows of each result together again; `feeds` go to every part. */
export async function runShards(
  program: ShardedProgram,
  batch: Feeds,
  outputs: readonly string[],
  shards: number,
  feeds: Feeds = {},
): Promise<Float32Array[]> {
  const results = await program.run(cutRows(batch, shards).map((part) => ({ ...feeds, ...part.feeds })));
  return outputs.map((output) => joinRows(results.map((result) => result[output]?.as('float32').data as Float32Array)));
}

function joinRows(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0] as Float32Array;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The feeds of each shard of a training batch: samples, targets, what the float model says. */
export function shardFeeds(spec: BatchFeedSpec, batch: Batch, teaching: Teaching, shards: number): Record<string, Tensor>[] {
  const { loss, heads, task, ignoreIndex } = spec;
  return cutRows(feedsOf(spec.input, batch), shards).map(({ feeds: part, from, to }) => {
    const feeds: Record<string, Tensor> = { ...part };
    loss.terms.forEach((term, at) => {
      const head = heads[at] as LossHead;
      const { width, layout } = head;
      const shape = targetShape(head, to - from);
      if (term.distillationWeight < 1)
        feeds[lossFeeds.target] = Tensor.float32(shape, tasks[task].targets(batch, { width, layout, ignoreIndex }, from, to));
      const teacher = teaching[at];
      if (teacher) feeds[lossFeeds.teacher(at)] = Tensor.float32(shape, teacher.subarray(from * width, to * width));
    });
    return feeds;
  });
}
