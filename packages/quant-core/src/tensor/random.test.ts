import { describe, expect, it } from 'vitest';
import { Random } from './random.js';

const take = <T>(count: number, draw: () => T): T[] => Array.from({ length: count }, draw);

describe('Random', () => {
  // Wanted: the algorithm of the paper, written down once more in Python.
  it('gives the same numbers for a seed for ever', () => {
    const random = new Random(42);
    expect(take(4, () => random.next())).toEqual([660444221, 3652823732, 77672526, 910233633]);
    expect([...new Random(7).permutation(8)]).toEqual([2, 7, 3, 6, 4, 5, 1, 0]);
  });

  it('gives each seed and each purpose a stream of its own', () => {
    const first = (random: Random) => take(3, () => random.next()).join();
    const streams = [new Random(0), new Random(1), Random.for(0, 'split'), Random.for(0, 'latency'), Random.for(1, 'split')].map(first);
    expect(new Set(streams).size).toBe(streams.length);
    expect(first(Random.for(5, 'epoch 1'))).toBe(first(Random.for(5, 'epoch 1')));
  });

  it('draws uniform, normal and whole numbers as their names say', () => {
    const random = new Random(1);
    const uniform = take(20_000, () => random.uniform());
    expect(Math.min(...uniform)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...uniform)).toBeLessThan(1);
    expect(uniform.reduce((a, b) => a + b) / uniform.length).toBeCloseTo(0.5, 1);
    const normal = take(20_000, () => random.normal());
    const mean = normal.reduce((a, b) => a + b) / normal.length;
    const deviation = Math.sqrt(normal.reduce((a, b) => a + (b - mean) ** 2, 0) / normal.length);
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(deviation - 1)).toBeLessThan(0.03);
    const counts = new Array<number>(5).fill(0);
    for (const i of take(10_000, () => random.below(5))) counts[i] = (counts[i] ?? Number.NaN) + 1;
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });

  it('permutes: every index once', () => {
    expect([...new Random(3).permutation(100)].sort((a, b) => a - b)).toEqual(
      take(
        100,
        (
          (i) => () =>
            i++
        )(0),
      ),
    );
  });
});
