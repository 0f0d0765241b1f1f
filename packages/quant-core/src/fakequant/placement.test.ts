import { describe, expect, it } from 'vitest';
import { defaultRecipe } from '../recipe.js';
import { explain, holds, type LayerTimes, overridesOf, predict, propose, score, searchPlacement, withPlacement } from './placement.js';
import type { Placement } from './placementRecord.js';

/** Float and int8 times of layers in a row, the same at both batch sizes; a conversion between them takes `conversion`. */
function layersOf(times: readonly (readonly [float: number, int8: number])[], conversion: number): LayerTimes[] {
  const both = (ms: number) => [ms, ms];
  return times.map(([float, int8], index) => ({
    name: `l${index}`,
    op: 'Conv',
    float: both(float),
    int8: both(int8 + 2 * conversion),
    input: both(conversion),
    output: both(conversion),
  }));
}

/** A machine on which mixed models take exactly what their layers foretell. */
function search(layers: readonly LayerTimes[], { mayGoOn = (): boolean => true, noise = [0] as readonly number[] } = {}) {
  const asked: string[][] = [];
  const time = (left: readonly string[]) => predict(layers, new Set(left));
  const result = searchPlacement({
    layers,
    whole: { float: time(layers.map(({ name }) => name)), int8: time([]) },
    mayGoOn,
    compare: async (candidate, current) => {
      const factor = 1 + (noise[asked.length % noise.length] as number);
      asked.push([...candidate]);
      return { candidate: time(candidate).map((ms) => ms * factor), current: time(current) };
    },
  });
  return result.then((found) => ({ ...found, asked }));
}

describe('what a mixed model would take', () => {
  const layers = layersOf(
    [
      [1, 2],
      [4, 2],
      [3, 1],
    ],
    0.5,
  );
  it.each([
    ['all int8: conversions at both ends', [], 0.5 + 2 + 2 + 1 + 0.5],
    ['all float: none', ['l0', 'l1', 'l2'], 8],
    ['the first in float: one conversion moves', ['l0'], 1 + 0.5 + 2 + 1 + 0.5],
    ['one in the middle: two more', ['l1'], 0.5 + 2 + 0.5 + 4 + 0.5 + 1 + 0.5],
    ['the last: one moves', ['l2'], 0.5 + 2 + 2 + 0.5 + 3],
  ])('%s', (_what, left, ms) => {
    expect(predict(layers, new Set(left))).toEqual([ms, ms]);
  });

  it('leaves out layers without times', () => {
    const unknown: LayerTimes = { name: 'u', op: 'Conv', float: [], int8: [], input: [], output: [] };
    expect(predict([...layers, unknown], new Set(['u']))).toEqual([6, 6]);
  });
});

describe('a score', () => {
  it('is 0 for float, better below, and worse for slowness than better for the same speed', () => {
    expect(score([1, 1])).toBe(0);
    expect(score([0.5, 0.5])).toBeLessThan(score([0.5, 1]));
    expect(score([1.25, 0.8])).toBeGreaterThan(0);
  });
});

describe('layers left in float', () => {
  const fast = [2, 1] as const;
  it('none, where int8 is faster everywhere, and nothing is tried', async () => {
    expect(await search(layersOf([fast, fast, fast], 0.1))).toEqual({ left: [], trials: 0, asked: [] });
  });

  it('the one that is slower in int8 than its conversions cost', async () => {
    const { left } = await search(layersOf([fast, [1, 3], fast, fast], 0.1));
    expect(left).toEqual(['l1']);
  });

  it('none, where conversions cost what the layer would gain', async () => {
    const { left } = await search(layersOf([fast, [1, 1.4], fast, fast], 0.3));
    expect(left).toEqual([]);
  });

  it('a run of layers together, of which none would pay alone', async () => {
    const slower = [1, 1.4] as const;
    const { left } = await search(layersOf([fast, slower, slower, slower, fast, fast], 0.3));
    expect(left).toEqual(['l1', 'l2', 'l3']);
  });

  it('several runs, one after the other', async () => {
    const slow = [1, 4] as const;
    const { left } = await search(layersOf([slow, fast, fast, slow, slow, fast], 0.1));
    expect(left).toEqual(['l0', 'l3', 'l4']);
  });

  it('never all of them, however slow int8 is', async () => {
    const { left, asked } = await search(
      layersOf(
        [
          [1, 3],
          [1, 3],
          [1, 3],
        ],
        0.1,
      ),
    );
    expect(left).toHaveLength(2);
    expect(asked.every((candidate) => candidate.length < 3)).toBe(true);
  });

  it('none, where there is only one layer', async () => {
    expect((await search(layersOf([[1, 3]], 0.1))).left).toEqual([]);
  });

  it('none, where layers alone promise what the whole model does not keep', async () => {
    const layers = layersOf([fast, [1, 3], fast], 0.1);
    const { left, trials } = await searchPlacement({
      layers,
      whole: { float: [5, 5], int8: [6, 6] },
      mayGoOn: () => true,
      compare: async () => ({ candidate: [6.1, 6.1], current: [6, 6] }),
    });
    expect(left).toEqual([]);
    expect(trials).toBeGreaterThan(0);
  });

  it('none, where a gain is gone when it is measured once more', async () => {
    const { left } = await searchPlacement({
      layers: layersOf([fast, [1, 1.2]], 0.05),
      whole: { float: [3, 3], int8: [3, 3] },
      mayGoOn: () => true,
      compare: (() => {
        const times = [2.5, 3, 3, 3, 3];
        return async () => ({ candidate: [times.shift() ?? 3, 3], current: [3, 3] });
      })(),
    });
    expect(left).toEqual([]);
  });

  it('what noise of a few percent does not change', async () => {
    const layers = layersOf([fast, [1, 4], fast, fast], 0.1);
    for (const noise of [
      [0.03, -0.03],
      [-0.02, 0.03, 0.01],
      [0.02, 0.02, -0.04],
    ])
      expect((await search(layers, { noise })).left).toEqual(['l1']);
  });

  it('what was found when time was up', async () => {
    const { left, trials } = await search(layersOf([[1, 4], fast, [1, 4], fast], 0.1), { mayGoOn: () => false });
    expect({ left, trials }).toEqual({ left: [], trials: 0 });
  });

  it('long models: only short runs of layers are proposed', () => {
    const layers = layersOf(
      Array.from({ length: 300 }, () => [1, 1.5] as const),
      0.01,
    );
    const proposed = propose(layers, [], [1.5, 1.5], new Set());
    expect(proposed.length).toBeGreaterThan(0);
    expect(Math.max(...proposed.map((left) => left.length))).toBeLessThanOrEqual(8);
  });
});

describe('a choice', () => {
  const times = { float: [2, 2], int8: [3, 1] };
  it('holds when it is better than all layers in int8, by more than noise', () => {
    expect(holds({ ...times, mixed: [2, 1] })).toBe(true);
    expect(holds({ ...times, mixed: [3.1, 1] })).toBe(false);
    expect(holds({ ...times, mixed: [2.97, 1] }), 'within noise').toBe(false);
  });

  const placement: Placement = {
    batches: [1, 32],
    threads: 1,
    cpu: '',
    whole: { ...times, mixed: [2, 1] },
    bytes: { int8: 10, mixed: 12 },
    layers: [
      { name: 'a', op: 'Conv', left: true, float: [0.0212, 2], int8: [0.034, 1] },
      { name: 'b', op: 'Conv', left: true, float: [2, 2], int8: [1, 1] },
      { name: 'c', op: 'Gemm', left: false, float: [2, 2], int8: [1, 1] },
    ],
    trials: 3,
    note: '',
  };

  it('is a recipe with overrides after those of the job, last so that they win', () => {
    const base = defaultRecipe();
    const own = { name: 'a', weights: { bits: 4 } };
    const recipe = { ...base, quantization: { ...base.quantization, placement: 'auto' as const, layers: [own] } };
    const { placement: mode, layers } = withPlacement(recipe, placement).quantization;
    expect(mode).toBe('all');
    expect(layers).toEqual([own, { name: 'a', skip: true }, { name: 'b', skip: true }]);
    expect(overridesOf(placement)).toHaveLength(2);
  });

  it('stands in the plan with its reasons, and leaves those of others alone', () => {
    const plan = { activations: [], groups: [], weights: [], biases: [], integer: [] };
    const entry = (node: string) => ({ node, op: 'Conv', reason: 'left in float by the configuration' });
    const { float } = explain({ ...plan, float: [entry('a'), entry('b'), entry('z')] }, placement);
    expect(float.map(({ reason }) => reason)).toEqual([
      'left in float: faster so on this machine (0.021 ms against 0.034 ms at batch 1)',
      'left in float with its neighbours: the model is faster so on this machine',
      'left in float by the configuration',
    ]);
  });
});
