import { expect, it } from 'vitest';
import { defaultRecipe, type Recipe } from '../recipe.js';
import { learningRateAt } from './schedule.js';

const rates = (training: Partial<Recipe['training']>, stepsPerEpoch = 2, epochs = 3) =>
  Array.from({ length: stepsPerEpoch * epochs }, (_, step) =>
    Number(learningRateAt({ ...defaultRecipe().training, ...training }, 1, step, stepsPerEpoch * epochs, stepsPerEpoch).toFixed(6)),
  );

it('constant stays', () => {
  expect(rates({ schedule: 'constant' })).toEqual([1, 1, 1, 1, 1, 1]);
});

it('cosine falls to almost nothing: (1 + cos(π·t/T)) / 2', () => {
  expect(rates({ schedule: 'cosine' })).toEqual([1, 0.933013, 0.75, 0.5, 0.25, 0.066987]);
});

it('step falls by a factor every so many epochs', () => {
  expect(rates({ schedule: 'step', stepEpochs: 1, stepFactor: 0.1 })).toEqual([1, 1, 0.1, 0.1, 0.01, 0.01]);
  expect(rates({ schedule: 'step', stepEpochs: 2, stepFactor: 0.5 })).toEqual([1, 1, 1, 1, 0.5, 0.5]);
});
