import type { TaskName } from '../choices.js';
import { feedsOf } from '../data/dataset.js';
import type { ShardedProgram } from '../engine/engine.js';
import { cutRows, type Feeds } from '../engine/rows.js';
import { tasks } from '../tasks/index.js';
import { type LossHead, type LossSpec, lossFeeds, targetShape } from '../tasks/loss.js';
import { Tensor } from '../tensor/tensor.js';
import { mixRows, type TrainingBatch } from './augment.js';

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

/** Target rows of a batch by their numbers. A mixed row has a partner in any part of the batch, so all of them are mixed at once. */
function targetRows(
  { task, ignoreIndex }: BatchFeedSpec,
  batch: TrainingBatch,
  head: LossHead,
): (from: number, to: number) => Float32Array {
  const { width, layout } = head;
  const rows = (from: number, to: number) => tasks[task].targets(batch, { width, layout, ignoreIndex }, from, to);
  if (!batch.mix) return rows;
  const count = batch.x.shape[0] as number;
  const mixed = mixRows(rows(0, count), count, batch.mix);
  return (from, to) => mixed.subarray(from * width, to * width);
}

/** The feeds of each shard of a training batch: samples, targets, what the float model says. */
export function shardFeeds(spec: BatchFeedSpec, batch: TrainingBatch, teaching: Teaching, shards: number): Record<string, Tensor>[] {
  const { loss, heads } = spec;
  const labelled = loss.terms.findIndex((term) => term.distillationWeight < 1);
  const rows = labelled < 0 ? undefined : targetRows(spec, batch, heads[labelled] as LossHead);
  return cutRows(feedsOf(spec.input, batch), shards).map(({ feeds: part, from, to }) => {
    const feeds: Record<string, Tensor> = { ...part };
    heads.forEach((head, at) => {
      const { width } = head;
      const shape = targetShape(head, to - from);
      if (rows && at === labelled) feeds[lossFeeds.target] = Tensor.float32(shape, rows(from, to));
      const teacher = teaching[at];
      if (teacher) feeds[lossFeeds.teacher(at)] = Tensor.float32(shape, teacher.subarray(from * width, to * width));
    });
    return feeds;
  });
}
