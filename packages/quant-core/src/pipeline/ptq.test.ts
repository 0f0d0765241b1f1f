import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Recipe } from '../recipe.js';
import { Tensor } from '../tensor/tensor.js';
import { images, smallNet } from '../train/testing/jobs.js';
import { quickRecipe, Workshop, withoutMetadata } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const run = async (quantization: Partial<Recipe['quantization']>, calibration: Partial<Recipe['calibration']> = {}) => {
  const recipe = quickRecipe({
    method: 'ptq',
    quantization,
    calibration: { roundingIterations: 40, ...calibration } as Recipe['calibration'],
  });
  return shop.run(shop.job(await shop.model(smallNet()), await shop.npz(images(120)), recipe));
};

describe('what is done for a PTQ model', () => {
  it('8 bits per channel: nothing', async () => {
    const { report } = await run({});
    expect(report.calibration).toEqual({ equalizedPairs: 0, adaptiveLayers: 0, roundingError: null, correctedBiases: 0 });
  });

  it('4 bits: weights are rounded adaptively, and the integers of the file are those', async () => {
    const [adaptive, nearest] = [await run({ weights: { bits: 4 } }), await run({ weights: { bits: 4 } }, { rounding: 'nearest' })];
    const { calibration } = adaptive.report;
    expect(calibration).toMatchObject({ equalizedPairs: 0, correctedBiases: 0 });
    expect(calibration.adaptiveLayers).toBeGreaterThan(0);
    expect(calibration.roundingError).toBeLessThan(1);
    expect(adaptive.report.parity.top1Agreement).toBe(1);
    expect(withoutMetadata(adaptive.model)).not.toEqual(withoutMetadata(nearest.model));
    expect(adaptive.events.filter((event) => event.type === 'progress' && event.stage === 'ptq').at(-1)).toMatchObject({
      done: 3,
      total: 3,
      unit: 'layers',
    });
    expect(nearest.report.calibration).toEqual({ equalizedPairs: 0, adaptiveLayers: 0, roundingError: null, correctedBiases: 2 });
  });

  it('one scale for the tensor: channels are equalized first', async () => {
    const { report } = await run({ weights: { perChannel: false } });
    expect(report.calibration).toEqual({ equalizedPairs: 2, adaptiveLayers: 0, roundingError: null, correctedBiases: 0 });
    expect(report.parity.top1Agreement).toBe(1);
    const off = await run({ weights: { perChannel: false } }, { equalization: false });
    expect(off.report.calibration.equalizedPairs).toBe(0);
  });

  it('one channel that dwarfs the others: equalized at 8 bits per channel too', async () => {
    const net = smallNet();
    for (const value of net.constants()) {
      const tensor = value.constant as Tensor<'float32'>;
      const each = value.name === 'w1' ? 9 : value.name === 'b1' ? 1 : 0;
      if (each)
        value.constant = Tensor.float32(
          tensor.shape,
          tensor.data.map((v, i) => (i < each ? 300 * v : v)),
        );
    }
    const recipe = quickRecipe({ method: 'ptq' });
    const { report } = await shop.run(shop.job(await shop.model(net), await shop.npz(images(120)), recipe));
    expect(report.calibration.equalizedPairs).toBe(2);
  });

  it('all of it, where the recipe says so, at 8 bits too', async () => {
    const { report } = await run({}, { equalization: true, rounding: 'adaptive', biasCorrection: true });
    expect(report.calibration.equalizedPairs).toBe(2);
    expect(report.calibration.correctedBiases).toBe(2);
    expect(report.parity.top1Agreement).toBe(1);
  });
});
