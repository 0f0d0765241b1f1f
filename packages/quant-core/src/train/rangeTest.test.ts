import { describe, expect, it } from 'vitest';
import { findLearningRate, rangeTestSteps } from './rangeTest.js';
import type { StepResult, Weights } from './stepper.js';

const start: Weights = { parameters: Float32Array.of(1), optimizer: [Float32Array.of(0)] };

/** Gradient descent on `curvature / 2 · w²`: it bears rates below 2 / curvature. */
function bowl(curvature: number) {
  const rates: number[] = [];
  const step = async (_index: number, weights: Weights, rate: number): Promise<StepResult> => {
    rates.push(rate);
    const w = weights.parameters[0] as number;
    return {
      loss: (curvature / 2) * w * w + 1,
      weights: { parameters: Float32Array.of(w - rate * curvature * w), optimizer: weights.optimizer },
    };
  };
  return { rates, step };
}

describe('the search of a learning rate', () => {
  it('finds less where the loss bears less', async () => {
    const search = (curvature: number) => findLearningRate('sgd', 8, 40, start, bowl(curvature).step);
    const [flat, steep] = [await search(10), await search(1e4)];
    expect(steep).toBeLessThan(2 / 1e4);
    expect(flat).toBeLessThan(2 / 10);
    expect(flat).toBeGreaterThan(10 * steep);
  });

  it('tries rates from small to large, and stops where the loss has risen', async () => {
    const { rates, step } = bowl(1e4);
    await findLearningRate('sgd', 8, 40, start, step);
    expect(rates).toEqual([...rates].sort((a, b) => a - b));
    expect(rates[0]).toBeCloseTo(1e-5, 12);
    expect(rates.length).toBeLessThan(40);
  });

  it('takes a larger share below eight bits, where more is to be repaired', async () => {
    expect(await findLearningRate('sgd', 4, 40, start, bowl(100).step)).toBeGreaterThan(
      await findLearningRate('sgd', 8, 40, start, bowl(100).step),
    );
  });

  it('never takes more than fine-tuning needs, whatever the network bears', async () => {
    const flat = async (_index: number, weights: typeof start) => ({ loss: 1, weights });
    expect(await findLearningRate('sgd', 4, 40, start, flat)).toBe(0.02);
    expect(await findLearningRate('adam', 4, 40, start, flat)).toBe(0.002);
  });

  it('takes a loss that is no number for too much', async () => {
    let calls = 0;
    const rate = await findLearningRate('adam', 8, 20, start, async (index, weights) => {
      calls++;
      return { loss: index === 3 ? Number.NaN : 1, weights };
    });
    expect(calls).toBe(4);
    expect(rate).toBeGreaterThan(0);
    expect(rate).toBeLessThan(1e-5);
  });

  it('takes a quarter of an epoch, ten steps at least and forty at most', () => {
    expect([1, 40, 100, 1000].map(rangeTestSteps)).toEqual([10, 10, 25, 40]);
  });
});
