import type { Recipe } from '../recipe.js';

/** Learning rate at `step` (from 0) of `total`, all epochs counted through. */
export function learningRateAt(training: Recipe['training'], base: number, step: number, total: number, stepsPerEpoch: number): number {
  switch (training.schedule) {
    case 'constant':
      return base;
    case 'cosine':
      return base * 0.5 * (1 + Math.cos((Math.PI * step) / total));
    case 'step':
      return base * training.stepFactor ** Math.floor(step / (stepsPerEpoch * training.stepEpochs));
  }
}

/**
 * The learning rate that `auto` stands for. Fine-tuning a trained network: small enough to keep what it knows, larger
 * where fewer bits leave more to repair, and proportional to the square root of the batch.
 */
export function automaticLearningRate(training: Recipe['training'], lowestBits: number): number {
  const base = training.optimizer === 'adam' ? 0.0005 : 0.01;
  const room = lowestBits >= 8 ? 0.5 : 1;
  return base * room * Math.sqrt(training.batchSize / 64);
}
