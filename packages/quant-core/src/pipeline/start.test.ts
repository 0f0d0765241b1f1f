import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { graphOf } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import { images, smallNet } from '../train/testing/jobs.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const run = async (
  weights: object,
  training: Partial<Recipe['training']> = {},
  calibration: Partial<Recipe['calibration']> = {},
  graph = smallNet(),
) => {
  const base = quickRecipe({ quantization: { weights } as Recipe['quantization'] });
  const recipe = {
    ...base,
    training: { ...base.training, ...training },
    calibration: { ...base.calibration, roundingIterations: 40, ...calibration },
  };
  return shop.run(shop.job(await shop.model(graph), await shop.npz(images(120)), recipe));
};

describe('training begins with', () => {
  it('what PTQ has rounded adaptively, and ends with other bytes than from the float model; twice with the same', async () => {
    const [first, second, float] = [await run({ bits: 4 }), await run({ bits: 4 }), await run({ bits: 4 }, { start: 'float' })];
    expect([first, second, float].map(({ report }) => report.training?.start)).toEqual(['rounded', 'rounded', 'float']);
    expect(first.report.training?.epochs.map(({ loss }) => loss)).toEqual(second.report.training?.epochs.map(({ loss }) => loss));
    expect(first.report.training?.epochs.map(({ loss }) => loss)).not.toEqual(float.report.training?.epochs.map(({ loss }) => loss));
    expect(await readFile(first.markdownPath, 'utf8')).toContain('Training began with the weights that PTQ had rounded adaptively.');
  });

  it('an equalized model, where PTQ equalized before it rounded', async () => {
    const { report } = await run({ bits: 4, perChannel: false });
    expect(report.calibration.equalizedPairs).toBe(2);
    expect(report.training?.start).toBe('rounded');
    expect(report.parity.top1Agreement).toBe(1);
  });

  it.each([
    ['8 bits', { bits: 8 }, {}, {}],
    ['rounding to nearest', { bits: 4 }, {}, { rounding: 'nearest' }],
    ['scales that are observed', { bits: 4 }, { scales: 'observed' }, {}],
    ['scales that cannot be learned', { bits: 4, symmetric: false, perChannel: false }, {}, {}],
  ] as const)('the float model, with %s', async (_what, weights, training, calibration) => {
    expect((await run(weights, training, calibration)).report.training?.start).toBe('float');
  });

  it('the float model, with batch norm that is kept: the rounding knows it folded', async () => {
    const graph = graphOf(`graph net (x: float32[N, 1, 8, 8]) opset 18
      c = Conv(x, w1=float32[4, 1, 3, 3]#) {kernel_shape=[3, 3]} @conv
      n = BatchNormalization(c, g=float32[4]#, e=float32[4]#, m=float32[4]#, v=float32[4]{2, 2, 2, 2})
      r = Relu(n)
      f = Flatten(r)
      y = Gemm(f, w2=float32[144, 2]#, b2=float32[2]#) @fc
      return y`);
    const of = async (batchNorm: 'keep' | 'fold') => (await run({ bits: 4 }, { batchNorm }, {}, graph)).report.training;
    const [kept, folded] = [await of('keep'), await of('fold')];
    expect([kept?.batchNorm.kept, kept?.start]).toEqual([1, 'float']);
    expect([folded?.batchNorm.kept, folded?.start]).toEqual([0, 'rounded']);
  });
});
