import { afterAll, beforeAll, expect, it } from 'vitest';
import { images, smallNet } from '../train/testing/jobs.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

it.each([
  ['batches of one sample', 24, 1, 17],
  ['fewer samples than a batch', 12, 64, 1],
  ['a last batch that is not full is left out', 40, 16, 1],
])('%s', async (_, samples, batchSize, steps) => {
  const recipe = quickRecipe({ training: { batchSize }, evaluation: { batchSize } });
  const { report } = await shop.run(shop.job(await shop.model(smallNet()), await shop.npz(images(samples)), recipe));
  expect(report.training?.stepsPerEpoch).toBe(steps);
  expect(Number.isFinite(report.training?.epochs[0]?.loss)).toBe(true);
  expect(report.samples.evaluation + report.samples.training + report.samples.holdout).toBe(samples);
});
