import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bytesOf, failure, npy } from '../data/testing/files.js';
import { zip } from '../data/testing/zip.js';
import { graphOf } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import { Random } from '../tensor/random.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const count = 80;
const random = new Random(5);
const noise = Float32Array.from({ length: count * 36 }, () => random.normal());
const x = { name: 'x.npy', data: npy('<f4', [count, 1, 6, 6], bytesOf(noise)) };
const labels = (shape: number[], each: (i: number) => number) => ({
  name: 'y.npy',
  data: npy('<i8', shape, bytesOf(BigInt64Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => BigInt(each(i))))),
});

const body = 'c = Conv(x, w1=float32[8, 1, 3, 3]#, b1=float32[8]#) {pads=[1, 1, 1, 1]} @body\nr = Relu(c)';
const map = `${body}\ny = Conv(r, w2=float32[2, 8, 1, 1]#) @map\nreturn y`;
const heads = `${body}\np = GlobalAveragePool(r)\nf = Flatten(p)\na = Gemm(f, w2=float32[8, 2]#) @a\nb = Gemm(f, w3=float32[8, 3]#) @b\nreturn a, b`;

async function run(text: string, members: { name: string; data: Buffer }[], recipe: Partial<Recipe> = {}) {
  const model = await shop.model(graphOf(`graph net (x: float32[N, 1, 6, 6]) opset 18\n${text}`));
  return (await shop.run(shop.job(model, await shop.file('data.npz', zip(members)), quickRecipe(recipe)))).report;
}
const rows = (report: Awaited<ReturnType<typeof run>>) => report.outputs.map(({ name, kind, labelled }) => [name, kind, labelled]);

describe('whole jobs on', () => {
  it('a class for every pixel: trained, and judged by the mean IoU', async () => {
    const report = await run(map, [x, labels([count, 6, 6], (i) => ((noise[i] as number) > 0 ? 1 : 0))], { method: 'qat' });
    expect(report.task).toBe('dense_classification');
    expect(rows(report)).toEqual([['y', 'classes', true]]);
    expect(report.outputs[0]?.metrics.map(({ name }) => name)).toEqual(['mean_iou', 'position_accuracy']);
    expect(report.training?.epochs).toHaveLength(1);
  });

  it('a map without labels: never an argmax over the flattened map', async () => {
    const report = await run(map, [x], { method: 'ptq' });
    expect(report.outputs[0]).toMatchObject({ kind: 'values', labelled: false, fidelity: { agreement: null } });
    expect(report.outputs[0]?.fidelity?.sqnrDb).toBeGreaterThan(20);
    expect(report.verdict.text).toContain('SQNR');
    expect(report.verdict.decision).not.toBe('do_not_ship');
  });

  it('two outputs: the labels go to the one they fit, and both are trained', async () => {
    const report = await run(heads, [x, labels([count], (i) => i % 3)], { method: 'qat' });
    expect(rows(report)).toEqual([
      ['a', 'values', false],
      ['b', 'classes', true],
    ]);
    expect(report.warnings.map(({ text }) => text).join()).toContain('The labels are taken for output "b"');
  });

  it('a mean over axes: axes are no weights that stay float', async () => {
    const mean = `${body}\nm = ReduceMean(r, axes=int64[2]{2, 3}) {keepdims=0}\ny = Gemm(m, w2=float32[8, 3]#) @b\nreturn y`;
    const report = await run(mean, [x], { method: 'ptq' });
    expect(report.layers.find(({ op }) => op === 'ReduceMean')).toMatchObject({ precision: 'float', parameters: 0 });
    expect(report.warnings.map(({ code }) => code)).not.toContain('LAYERS_STAY_FLOAT');
  });

  it('two outputs, neither of which the labels fit', async () => {
    await failure('DATASET_CLASSES', () => run(heads, [x, labels([count], (i) => i % 5)], { method: 'ptq' }));
  });
});
