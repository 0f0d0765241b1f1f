import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import type { DatasetConfig } from '../recipe.js';
import { exampleModel, quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
let clothes: string;
beforeAll(async () => {
  shop = await Workshop.open();
  clothes = await shop.fashion('test', 20);
});
afterAll(() => shop.close());

const job = (config: DatasetConfig, change: Parameters<typeof quickRecipe>[0] = {}) =>
  shop.job(exampleModel, clothes, quickRecipe({ evaluation: { split: 0.5 }, ...change }), { dataset: { path: clothes, config } });

describe('a float model that is not what its owner trained', () => {
  it('stops a training that would begin with negatives, and names the reading that is right', async () => {
    const error = await failure('FLOAT_READ_OTHERWISE', () => shop.run(job({ offset: -255, scale: -1 / 255 })));
    expect(error.place).toEqual({ pointer: '/datasetConfig' });
    expect(error.message).toMatch(/hardly better than chance|its own confidence promises/);
    expect(error.hint).toMatch(/^Set \{"scale": 0\.0039/);
  });

  it('does not ship what PTQ made of a negative image, and the report shows what was tried', async () => {
    const { report } = await shop.run(job({ offset: -255, scale: -1 / 255 }, { method: 'ptq' }));
    expect(report.verdict.decision).toBe('do_not_ship');
    expect(report.verdict.text).toContain('All figures of this report are those of wrong inputs.');
    expect(report.verdict.nextStep).toMatch(/^Set \{"scale": 0\.0039/);
    const better = report.baseline?.tried.find(({ name }) => name === report.baseline?.better);
    expect(better?.value).toBeGreaterThan(0.8);
    expect(report.baseline?.asConfigured?.value).toBeLessThan(0.6);
  });

  it('says nothing where nothing looks wrong', async () => {
    const { report } = await shop.run(job({}, { method: 'ptq' }));
    expect(report.baseline).toBeNull();
    expect(report.verdict.text).not.toContain('float model');
  });

  it('below a stated value: causes in order, what was tried, and which of it comes near', async () => {
    const error = await failure('FLOAT_NOT_AS_EXPECTED', () =>
      shop.run(job({ offset: -255, scale: -1 / 255 }, { method: 'ptq', evaluation: { split: 0.5, expectedFloat: 0.999 } })),
    );
    expect(error.place).toEqual({ pointer: '/evaluation/expectedFloat' });
    expect(error.message).toContain(
      'scale, mean and std, order of the channels (RGB or BGR), layout (NCHW or NHWC), order of the classes, offset of the labels',
    );
    expect(error.message).toMatch(/Tried on 250 samples \(as configured: \d/);
    expect(error.message).toContain('values divided by 255');
  });

  it('goes on where the stated value holds, and stops where it is better than stated', async () => {
    const { report } = await shop.run(job({}, { method: 'ptq', evaluation: { split: 0.5, expectedFloat: 0.91 } }));
    expect(report.baseline).toMatchObject({ expected: 0.91, poor: null, tried: [] });
    const error = await failure('FLOAT_NOT_AS_EXPECTED', () =>
      shop.run(job({}, { method: 'ptq', evaluation: { split: 0.5, expectedFloat: 0.5 } })),
    );
    expect(error.message).toContain('It is better than stated.');
  });

  it('stops where the labels are numbered in another order, and shows the order that was found', async () => {
    const order = [7, 9, 5, 3, 2, 6, 0, 8, 1, 4];
    const data = await shop.fashion('test', 20, (label) => order[label] as number);
    const stopped = (config: DatasetConfig, change: Parameters<typeof quickRecipe>[0]) =>
      failure('FLOAT_CLASS_ORDER', () => shop.run(shop.job(exampleModel, data, quickRecipe(change), { dataset: { path: data, config } })));
    for (const method of ['ptq', 'qat'] as const) {
      const error = await stopped({}, { method });
      expect(error.place).toEqual({ pointer: '/datasetConfig/classes' });
      expect(error.message).toContain('nearly a permutation');
      expect(error.hint).toContain('(label → output): 0 → 6, 1 → 8, 2 → 4, 4 → 9, 5 → 2, 6 → 5, 7 → 0, 8 → 7, 9 → 1.');
    }
    const stated = { method: 'ptq', evaluation: { expectedFloat: 0.9 } } as const;
    const error = await failure('FLOAT_NOT_AS_EXPECTED', () => shop.run(shop.job(exampleModel, data, quickRecipe(stated))));
    expect(error.message).toContain('With the classes in another order: 9');
    expect(error.hint).toContain('0 → 6');
  });

  it('finds the order also where the samples are read wrongly besides, and says both', async () => {
    const data = await shop.fashion('test', 20, (label) => (label * 3) % 10);
    const config = { offset: -255, scale: -1 / 255 };
    const run = () =>
      shop.run(shop.job(exampleModel, data, quickRecipe({ evaluation: { split: 0.5 } }), { dataset: { path: data, config } }));
    const error = await failure('FLOAT_CLASS_ORDER', run);
    expect(error.message).toContain('with the classes in another order and values divided by 255');
    expect(error.hint).toMatch(/^Set \{"scale": 0\.0039.* Number the labels anew \(label → output\): 1 → 7, 2 → 4, 3 → 1,/);
  });
});
