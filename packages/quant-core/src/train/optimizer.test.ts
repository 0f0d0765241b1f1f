import { describe, expect, it } from 'vitest';
import { Optimizer, type OptimizerSpec, type Weights } from './optimizer.js';

const start = [0.5, -1, 2, 0.25];
const gradients = [
  [0.1, -0.2, 0.3, -4],
  [1, 0.5, -0.5, 0.25],
  [-0.7, 0, 2.5, 1e-3],
];

const layout = {
  slots: [
    { name: 'first', shape: [3], offset: 0, size: 3 },
    { name: 'last', shape: [1], offset: 3, size: 1 },
  ],
  size: 4,
};

/** Parameters after each of three updates; each gradient split over `shards` parts whose mean it is. */
function updates(spec: OptimizerSpec, learningRate: number, shards = 1, unreached: string[] = []): number[][] {
  const optimizer = new Optimizer(spec, layout, unreached);
  const weights: Weights = { parameters: Float32Array.from(start), optimizer: optimizer.initialState() };
  return gradients.map((gradient, t) => {
    const parts = Array.from({ length: shards }, (_, shard) =>
      Float32Array.from(gradient, (g) => g + (shards === 1 ? 0 : shard === 0 ? 0.5 : -0.5)),
    );
    optimizer.update(weights, parts as [Float32Array, Float32Array?], learningRate, t + 1);
    return [...weights.parameters];
  });
}

function expectClose(got: number[][], wanted: number[][]): void {
  for (const [row, values] of wanted.entries()) {
    for (const [i, value] of values.entries())
      expect(Math.abs((got[row]?.[i] as number) - value)).toBeLessThan(2e-6 * (1 + Math.abs(value)));
  }
}

const sgd: OptimizerSpec = { kind: 'sgd', momentum: 0.9, weightDecay: 0.01 };

/** Wanted: torch.optim.SGD and Adam, torch.nn.utils.clip_grad_norm_; PyTorch 1.13.0, CPU. */
describe('updates as PyTorch makes them', () => {
  it('SGD with momentum and weight decay', () => {
    expectClose(updates(sgd, 0.1), [
      [0.489499986, -0.978999972, 1.96800005, 0.649749994],
      [0.3795605, -1.00912094, 1.98723209, 0.983875215],
      [0.350235403, -1.03522074, 1.7525537, 1.28350401],
    ]);
  });

  it('plain SGD', () => {
    expectClose(updates({ kind: 'sgd', momentum: 0, weightDecay: 0 }, 0.1), [
      [0.49000001, -0.980000019, 1.97000003, 0.649999976],
      [0.390000015, -1.02999997, 2.01999998, 0.625],
      [0.460000008, -1.02999997, 1.76999998, 0.624899983],
    ]);
  });

  it('SGD with the gradient clipped to norm 1', () => {
    expectClose(updates({ ...sgd, clipGradient: 1 }, 0.1), [
      [0.497010857, -0.994021714, 1.99053264, 0.349315315],
      [0.413823694, -1.02764726, 2.02002144, 0.418349802],
      [0.365504384, -1.05688262, 1.94824493, 0.48002398],
    ]);
  });

  it('Adam with weight decay', () => {
    expectClose(updates({ kind: 'adam', momentum: 0, weightDecay: 0.1 }, 0.01), [
      [0.49000001, -0.99000001, 1.99000001, 0.25999999],
      [0.48168546, -0.991946876, 1.98809946, 0.266168773],
      [0.479560077, -0.992181063, 1.98154509, 0.270892829],
    ]);
  });

  it('Adam with the gradient clipped to norm 0.5', () => {
    expectClose(updates({ kind: 'adam', momentum: 0, weightDecay: 0, clipGradient: 0.5 }, 0.01), [
      [0.49000001, -0.99000001, 1.99000001, 0.25999999],
      [0.482353956, -0.996557295, 1.99608612, 0.265103012],
      [0.478793412, -1.00162613, 1.99203169, 0.269045234],
    ]);
  });

  it.each([sgd, { ...sgd, kind: 'adam' as const }])('leaves a tensor without a gradient alone: $kind', (spec) => {
    const [all, without] = [updates(spec, 0.1), updates(spec, 0.1, 1, ['last'])];
    expect(without.map((row) => row.slice(0, 3))).toEqual(all.map((row) => row.slice(0, 3)));
    expect(without.map((row) => row[3])).toEqual([0.25, 0.25, 0.25]);
    expect(all.map((row) => row[3])).not.toContain(0.25);
  });

  it('takes the mean of the gradients of the shards', () => {
    expectClose(updates(sgd, 0.1, 2), updates(sgd, 0.1));
  });
});
