import { describe, expect, it } from 'vitest';
import { graphOf } from '../normalise/testing/oracle.js';
import { evaluationBatch, liveBytes } from './batchSize.js';
import { quickRecipe } from './testing/jobs.js';

/** One convolution on images of any size: a sample of 64×64 takes 48 KiB, its result 1 MiB. */
const graph = graphOf(`graph g (x: float32[N, 3, H, W]) opset 18
  y = Conv(x, w=float32[64, 3, 1, 1]#) {kernel_shape=[1, 1]}
  return y`);
const model = { graph, batch: { kind: 'open', symbol: 'N' } } as const;
const of = (side: number) => ({ dataset: { sampleShapes: [[3, side, side]] } });
const context = (batchSize: number, memoryBytes?: number) =>
  ({ job: { recipe: quickRecipe({ evaluation: { batchSize } }), memoryBytes } }) as Parameters<typeof evaluationBatch>[0];

describe('the batch of an evaluation', () => {
  it('is the one of the recipe where memory holds it', () => {
    expect(evaluationBatch(context(64), model, of(64), graph)).toBe(64);
  });

  it('is the largest that fits where it does not', () => {
    const batch = evaluationBatch(context(64), model, of(512), graph);
    expect(liveBytes(model, of(512), graph, batch)).toBeLessThanOrEqual(2 ** 28);
    expect(liveBytes(model, of(512), graph, batch + 1)).toBeGreaterThan(2 ** 28);
    expect(batch).toBeLessThan(64);
  });

  it('is smaller still where the job may have less', () => {
    expect(evaluationBatch(context(64, 2 ** 28), model, of(512), graph)).toBeLessThan(evaluationBatch(context(64), model, of(512), graph));
  });

  it('is one sample, and never less, where nothing fits', () => {
    expect(evaluationBatch(context(64, 2 ** 20), model, of(512), graph)).toBe(1);
  });

  it('is that of the file where the model insists on one', () => {
    expect(evaluationBatch(context(64), { graph, batch: { kind: 'locked', symbol: 'N', size: 128, obstacle: '' } }, of(512), graph)).toBe(
      128,
    );
  });

  it('is the one of the recipe where no size can be told', () => {
    expect(evaluationBatch(context(64), model, { dataset: { sampleShapes: [] } }, graph)).toBe(64);
    expect(liveBytes(model, { dataset: { sampleShapes: [] } }, graph, 64)).toBeUndefined();
  });
});
