import { describe, expect, it } from 'vitest';
import type { Program } from '../engine/engine.js';
import { race } from './race.js';

/** Programs that note in which order they are run. */
function programs(count: number, order: number[]): Program[] {
  return Array.from({ length: count }, (_, index) => ({
    run: async () => {
      order.push(index);
      return {};
    },
    dispose: async () => undefined,
  }));
}

describe('a race', () => {
  it('gives every program the same number of times, and lets each go first in turn', async () => {
    const order: number[] = [];
    const times = await race(programs(3, order), { feeds: {}, runs: 4, budgetMs: 60_000 });
    expect(times.map((own) => own.length)).toEqual([4, 4, 4]);
    expect(order.slice(0, 9)).toEqual([0, 1, 2, 1, 2, 0, 2, 0, 1]);
    expect(order).toHaveLength(3 * (4 + 3));
  });

  it('makes the fewest runs asked for when there is no time', async () => {
    const [times] = await race(programs(1, []), { feeds: {}, runs: 100, fewest: 6, budgetMs: 0 });
    expect(times).toHaveLength(6);
  });

  it('ends when the caller has enough, which is asked once the fewest runs are made', async () => {
    const asked: number[] = [];
    const enough = ([own]: readonly (readonly number[])[]) => asked.push(own?.length as number) > 2;
    const [times] = await race(programs(1, []), { feeds: {}, runs: 100, fewest: 4, budgetMs: 60_000, enough });
    expect(asked).toEqual([4, 5, 6]);
    expect(times).toHaveLength(6);
  });

  it('warms up once where there is no time for more', async () => {
    const order: number[] = [];
    await race(programs(1, order), { feeds: {}, runs: 100, fewest: 2, budgetMs: 0 });
    expect(order).toHaveLength(1 + 2);
  });

  it('stops when it is cancelled', async () => {
    const signal = AbortSignal.abort();
    await expect(race(programs(1, []), { feeds: {}, runs: 2, budgetMs: 0, signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
