import { describe, expect, it } from 'vitest';
import { Tensor } from '../tensor/tensor.js';
import { type BatchFeedSpec, runShards, shardFeeds } from './batch.js';
import { lossFeeds } from './loss.js';
import { shardsFor } from './stepper.js';

const rows = (n: number) =>
  Tensor.float32(
    [n, 2],
    Array.from({ length: 2 * n }, (_, i) => i),
  );

const spec = (loss: BatchFeedSpec['loss'], width = 3): BatchFeedSpec => ({ input: 'x', loss, width, outputShape: [width] });

describe('parts of a batch', () => {
  const parted = (n: number, count: number) => {
    const loss = { kind: 'distillation', distillationWeight: 1, temperature: 1 } as const;
    return shardFeeds(spec(loss), { x: rows(n) }, undefined, count).map((feed) => feed.x as Tensor<'float32'>);
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
    for (const shards of [1, 3]) expect(await runShards(program, { x: rows(7) }, 'y', shards)).toEqual(rows(7).data);
  });

  it('are two for an even batch of eight or more: a matter of the recipe alone', () => {
    expect([1, 2, 6, 7, 8, 9, 64, 65].map(shardsFor)).toEqual([1, 1, 1, 1, 2, 1, 2, 1]);
  });
});

describe('feeds', () => {
  it('labels become one-hot rows, each with its own samples', () => {
    const loss = { kind: 'cross_entropy', distillationWeight: 0, temperature: 1 } as const;
    const feeds = shardFeeds(spec(loss), { x: rows(4), labels: Int32Array.of(2, 0, 1, 2) }, undefined, 2);
    expect(feeds.map((feed) => [...(feed[lossFeeds.target]!.data as Float32Array)])).toEqual([
      [0, 0, 1, 1, 0, 0],
      [0, 1, 0, 0, 0, 1],
    ]);
    expect(feeds.map((feed) => [...(feed.x!.data as Float32Array)])).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ]);
    expect(feeds[0]).not.toHaveProperty(lossFeeds.teacher);
  });

  it('a label of a single output is the number itself', () => {
    const loss = { kind: 'binary_cross_entropy', distillationWeight: 0, temperature: 1 } as const;
    const [feed] = shardFeeds(spec(loss, 1), { x: rows(3), labels: Int32Array.of(1, 0, 1) }, undefined, 1);
    expect(feed?.[lossFeeds.target]).toMatchObject({ shape: [3, 1], data: Float32Array.of(1, 0, 1) });
  });

  it('values and the teacher are cut along, in the shape of the output', () => {
    const loss = { kind: 'mse', distillationWeight: 0.5, temperature: 1 } as const;
    const values = Tensor.float32(
      [4, 1, 3],
      Array.from({ length: 12 }, (_, i) => i),
    );
    const feeds = shardFeeds(
      { ...spec(loss), outputShape: [1, 3] },
      { x: rows(4), values },
      Float32Array.from(values.data, (v) => -v),
      2,
    );
    expect(feeds[1]?.[lossFeeds.target]).toMatchObject({ shape: [2, 1, 3], data: Float32Array.of(6, 7, 8, 9, 10, 11) });
    expect(feeds[1]?.[lossFeeds.teacher]).toMatchObject({ shape: [2, 1, 3], data: Float32Array.of(-6, -7, -8, -9, -10, -11) });
  });

  it('distillation alone asks for no labels', () => {
    const loss = { kind: 'distillation', distillationWeight: 1, temperature: 1 } as const;
    const [feed] = shardFeeds(spec(loss), { x: rows(1) }, Float32Array.of(1, 2, 3), 1);
    expect(Object.keys(feed ?? {})).toEqual(['x', lossFeeds.teacher]);
  });
});
