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
