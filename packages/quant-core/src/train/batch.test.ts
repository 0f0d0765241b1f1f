import { describe, expect, it } from 'vitest';
import { type LossHead, type LossSpec, lossFeeds } from '../tasks/loss.js';
import { lossSpec } from '../tasks/testing/specs.js';
import { Tensor } from '../tensor/tensor.js';
import { type BatchFeedSpec, runShards, shardFeeds } from './batch.js';
import { shardsFor } from './stepper.js';

const rows = (n: number) =>
  Tensor.float32(
    [n, 2],
    Array.from({ length: 2 * n }, (_, i) => i),
  );

const head = (row: number[]): LossHead => {
  const width = row.reduce((a, b) => a * b, 1);
  return { name: 'y', width, layout: { outer: 1, classes: width, inner: 1 }, row };
};
const spec = (loss: LossSpec, row = [3], task: BatchFeedSpec['task'] = 'classification'): BatchFeedSpec => ({
  input: 'x',
  loss,
  heads: [head(row)],
  task,
});

describe('parts of a batch', () => {
  const parted = (n: number, count: number) => {
    return shardFeeds(spec(lossSpec('y', 'cross_entropy', 1)), { x: rows(n) }, [], count).map((feed) => feed.x as Tensor<'float32'>);
  };

  it('hold every row once, in order, and differ by one at most', () => {
    for (const [n, count] of [
      [8, 2],
      [7, 2],
      [7, 3],
      [2, 5],
    ] as const) {
      const parts = parted(n, count);
      expect(parts.flatMap((part) => [...part.data])).toEqual([...rows(n).data]);
      const sizes = parts.map((part) => part.shape[0] as number);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      expect(parts).toHaveLength(Math.min(n, count));
    }
  });

  it('come together again in their order', async () => {
    const program = {
      run: async (feeds: readonly Record<string, Tensor>[]) => feeds.map((feed) => ({ y: feed.x as Tensor })),
      dispose: async () => undefined,
    };
    for (const shards of [1, 3]) expect(await runShards(program, { x: rows(7) }, ['y'], shards)).toEqual([rows(7).data]);
  });

  it('are two for an even batch of eight or more: a matter of the recipe alone', () => {
    expect([1, 2, 6, 7, 8, 9, 64, 65].map(shardsFor)).toEqual([1, 1, 1, 1, 2, 1, 2, 1]);
  });
});

describe('feeds', () => {
  it('labels become one-hot rows, each with its own samples', () => {
    const feeds = shardFeeds(spec(lossSpec('y')), { x: rows(4), labels: Int32Array.of(2, 0, 1, 2) }, [], 2);
    expect(feeds.map((feed) => [...(feed[lossFeeds.target]!.data as Float32Array)])).toEqual([
      [0, 0, 1, 1, 0, 0],
      [0, 1, 0, 0, 0, 1],
    ]);
    expect(feeds.map((feed) => [...(feed.x!.data as Float32Array)])).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ]);
    expect(feeds[0]).not.toHaveProperty(lossFeeds.teacher(0));
  });

  it('a label of a single output is the number itself', () => {
    const loss = lossSpec('y', 'binary_cross_entropy');
    const [feed] = shardFeeds(spec(loss, [1]), { x: rows(3), labels: Int32Array.of(1, 0, 1) }, [], 1);
    expect(feed?.[lossFeeds.target]).toMatchObject({ shape: [3, 1], data: Float32Array.of(1, 0, 1) });
  });

  it('values and the teacher are cut along, in the shape of the output', () => {
    const values = Tensor.float32(
      [4, 1, 3],
      Array.from({ length: 12 }, (_, i) => i),
    );
    const feeds = shardFeeds(
      spec(lossSpec('y', 'mse', 0.5), [1, 3], 'regression'),
      { x: rows(4), values },
      [Float32Array.from(values.data, (v) => -v)],
      2,
    );
    expect(feeds[1]?.[lossFeeds.target]).toMatchObject({ shape: [2, 1, 3], data: Float32Array.of(6, 7, 8, 9, 10, 11) });
    expect(feeds[1]?.[lossFeeds.teacher(0)]).toMatchObject({ shape: [2, 1, 3], data: Float32Array.of(-6, -7, -8, -9, -10, -11) });
  });

  it('distillation alone asks for no labels', () => {
    const [feed] = shardFeeds(spec(lossSpec('y', 'cross_entropy', 1)), { x: rows(1) }, [Float32Array.of(1, 2, 3)], 1);
    expect(Object.keys(feed ?? {})).toEqual(['x', lossFeeds.teacher(0)]);
  });
});
