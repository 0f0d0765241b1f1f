import { describe, expect, it } from 'vitest';
import { findLearningRate, rangeTestSteps } from './rangeTest.js';

/** Gradient descent on `curvature / 2 · w²`: it bears rates below 2 / curvature. */
function bowl(curvature: number) {
  const rates: number[] = [];
  let w = 1;
  const step = async (_index: number, rate: number): Promise<number> => {
    rates.push(rate);
    const loss = (curvature / 2) * w * w + 1;
    w -= rate * curvature * w;
    return loss;
  };
  return { rates, step };
}

describe('the search of a learning rate', () => {
  it('finds less where the loss bears less', async () => {
    const search = (curvature: number) => findLearningRate('sgd', 8, 40, bowl(curvature).step);
    const [flat, steep] = [await search(10), await search(1e4)];
    expect(steep).toBeLessThan(2 / 1e4);
    expect(flat).toBeLessThan(2 / 10);
    expect(flat).toBeGreaterThan(10 * steep);
  });

  it('tries rates from small to large, and stops where the loss has risen', async () => {
    const { rates, step } = bowl(1e4);
    await findLearningRate('sgd', 8, 40, step);
    expect(rates).toEqual([...rates].sort((a, b) => a - b));
    expect(rates[0]).toBeCloseTo(1e-5, 12);
    expect(rates.length).toBeLessThan(40);
  });

  it('takes a larger share below eight bits, where more is to be repaired', async () => {
    expect(await findLearningRate('sgd', 4, 40, bowl(100).step)).toBeGreaterThan(await findLearningRate('sgd', 8, 40, bowl(100).step));
  });

  it('does not take the noise of batches for a rise, where it is told of it', async () => {
    // Every seventh batch is hard, at any rate.
    const step = async (index: number) => (index % 7 === 4 ? 0.6 : 0.2);
    expect(await findLearningRate('sgd', 4, 40, step)).toBeLessThan(1e-3);
    expect(await findLearningRate('sgd', 4, 40, step, true)).toBe(0.02);
    expect(await findLearningRate('sgd', 4, 40, async (index) => (index < 30 ? step(index) : 3), true)).toBeLessThan(0.02);
  });

  it('never takes more than fine-tuning needs, whatever the network bears', async () => {
    const flat = async () => 1;
    expect(await findLearningRate('sgd', 4, 40, flat)).toBe(0.02);
    expect(await findLearningRate('adam', 4, 40, flat)).toBe(0.002);
  });

  it('takes a loss that is not finite for too much', async () => {
    let calls = 0;
    const rate = await findLearningRate('adam', 8, 20, async (index) => {
      calls++;
      return index === 3 ? Number.NaN : 1;
    });
    expect(calls).toBe(4);
    expect(rate).toBeGreaterThan(0);
    expect(rate).toBeLessThan(1e-5);
  });

  it('takes a quarter of an epoch, ten steps at least and forty at most', () => {
    expect([1, 40, 100, 1000].map(rangeTestSteps)).toEqual([10, 10, 25, 40]);
  });
});
