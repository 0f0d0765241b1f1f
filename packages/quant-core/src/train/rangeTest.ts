import type { Recipe } from '../recipe.js';

/** Rates that are tried, from the smallest up. */
const range: Record<Recipe['training']['optimizer'], readonly [number, number]> = { sgd: [1e-5, 0.2], adam: [1e-6, 0.02] };
/** Fine-tuning needs no more, even if a network stands more for a few steps. */
const ceiling: Record<Recipe['training']['optimizer'], number> = { sgd: 0.02, adam: 0.002 };
const mostSteps = 40;
/** Weight of the past in the smoothed loss. */
const smoothing = 0.6;

/** Steps the test takes: never more than a quarter of an epoch, and at least ten. */
export const rangeTestSteps = (stepsPerEpoch: number): number => Math.max(10, Math.min(mostSteps, Math.floor(stepsPerEpoch / 4)));

/**
 * The learning rate that `auto` stands for, by a range test (Smith 2017, arXiv:1506.01186): the rate grows exponentially from step to
 * step until the smoothed loss has risen well above its lowest; a fixed share of that rate is safe to train with. Fine-tuning at
 * 8 bits has little to repair and takes a smaller share than fewer bits do. Networks with folded batch norm differ
 * by orders of magnitude in the rate they bear, which is why no constant would do.
 * With batch norm kept the loss starts low and differs from batch to batch by more than it rises: `noisy` asks for a rise beyond what the
 * spread of the losses explains. `step` runs one training step after the other, on weights of its own, and returns the loss.
 */
export async function findLearningRate(
  optimizer: Recipe['training']['optimizer'],
  lowestBits: number,
  steps: number,
  step: (index: number, rate: number) => Promise<number>,
  noisy = false,
): Promise<number> {
  const [low, high] = range[optimizer];
  const rateAt = (index: number) => low * (high / low) ** (index / (steps - 1));
  let smoothed = 0;
  let lowest = Number.POSITIVE_INFINITY;
  let bearable = high;
  const losses: number[] = [];
  for (let index = 0; index < steps; index++) {
    const loss = await step(index, rateAt(index));
    smoothed = index ? smoothing * smoothed + (1 - smoothing) * loss : loss;
    lowest = Math.min(lowest, smoothed);
    losses.push(loss);
    const margin = noisy ? 2 * spreadOf(losses) : 0;
    if (!Number.isFinite(loss) || smoothed > 1.5 * lowest + 0.05 + margin) {
      bearable = rateAt(Math.max(0, index - 1));
      break;
    }
  }
  const share = lowestBits >= 8 ? 1 / 40 : 1 / 2;
  return Number(Math.min(bearable * share, ceiling[optimizer]).toPrecision(2));
}

/** Standard deviation; 0 of fewer than two. */
function spreadOf(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.length > 1 ? Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)) : 0;
}
