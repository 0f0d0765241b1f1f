import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { defaultLimits } from '../events.js';
import { readOnnx } from '../formats/onnx/read.js';
import { graphOf } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import { images, smallNet } from '../train/testing/jobs.js';
import { keptNorms } from './batchNorm.js';
import { checkTrainable, planFor, prepareModel } from './model.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const norm = (at: number, channels: number) =>
  `g${at}=float32[${channels}]#, e${at}=float32[${channels}]#, m${at}=float32[${channels}]#, v${at}=float32[${channels}]{${new Array(channels).fill(2)}}`;

/** As an exporter leaves it when it does not fold. */
const net = () =>
  graphOf(`graph net (x: float32[N, 1, 8, 8]) opset 18
    c = Conv(x, w1=float32[4, 1, 3, 3]#) {kernel_shape=[3, 3]} @conv
    n = BatchNormalization(c, ${norm(1, 4)})
    r = Relu(n)
    d = Conv(r, w2=float32[8, 4, 3, 3]#) {kernel_shape=[3, 3], strides=[2, 2]} @second
    o = BatchNormalization(d, ${norm(2, 8)})
    e = Relu(o)
    f = Flatten(e)
    y = Gemm(f, w3=float32[32, 2]#, b3=float32[2]#) @fc
    return y`);

async function choose(graph: ReturnType<typeof net>, training: Partial<Recipe['training']>, bits = 8) {
  const model = await prepareModel(await shop.model(graph), defaultLimits, new OrtEngine());
  const recipe = quickRecipe({ training, quantization: { weights: { bits } } });
  const plan = planFor(model, recipe);
  return keptNorms(model, plan, recipe, checkTrainable(model, plan));
}

describe('which batch norms are kept', () => {
  it('all that come after a layer, when it is asked for', async () => {
    expect((await choose(net(), { batchNorm: 'keep' })).kept.map(({ node }) => node)).toEqual(['conv', 'second']);
    const folded = await choose(net(), { batchNorm: 'fold' });
    expect(folded).toEqual({ kept: [], note: '2 folded into their layers before training.' });
  });

  it('by itself those after weights of few bits', async () => {
    for (const [bits, count] of [
      [2, 2],
      [3, 0],
      [4, 0],
      [8, 0],
    ] as const)
      expect((await choose(net(), {}, bits)).kept, `${bits} bits`).toHaveLength(count);
    expect((await choose(net(), { batchSize: 1 }, 2)).note).toBe('Nothing to keep: batches of 1 are too small for statistics.');
  });

  it('none of a file without any: a note, and an error where they were asked for', async () => {
    const note = 'Nothing to keep: the file has no BatchNormalization: the exporter folded it into the layers, or the network has none.';
    for (const batchNorm of ['auto', 'fold'] as const) expect(await choose(smallNet(), { batchNorm })).toEqual({ kept: [], note });
    const error = await failure('CONFIG_IMPOSSIBLE', () => choose(smallNet(), { batchNorm: 'keep' }));
    expect(error.place.pointer).toBe('/training/batchNorm');
    expect(error.hint).toContain('TrainingMode.PRESERVE');
  });

  it('none where no layer comes before', async () => {
    const alone = graphOf(`graph net (x: float32[N, 4]) opset 18
      r = Relu(x)
      n = BatchNormalization(r, ${norm(1, 4)})
      s = Sigmoid(n)
      y = Gemm(s, w=float32[4, 2]#, b=float32[2]#) @fc
      return y`);
    const error = await failure('CONFIG_IMPOSSIBLE', () => choose(alone, { batchNorm: 'keep' }));
    expect(error.message).toContain('none of the 1 BatchNormalization nodes of the file comes after a layer');
  });

  it('none before an operator that has no gradient', async () => {
    const graph = graphOf(`graph net (x: float32[N, 4]) opset 18
      a = Gemm(x, w1=float32[4, 4]#) @first
      n = BatchNormalization(a, ${norm(1, 4)})
      r = Round(n)
      c = Gemm(r, w2=float32[4, 4]#) @last
      y = BatchNormalization(c, ${norm(2, 4)})
      return y`);
    expect((await choose(graph, { batchNorm: 'keep' })).kept.map(({ node }) => node)).toEqual(['last']);
  });

  it('none with batches of one sample', async () => {
    expect((await choose(net(), { batchNorm: 'keep', batchSize: 2 })).kept).toHaveLength(2);
    const error = await failure('CONFIG_IMPOSSIBLE', () => choose(net(), { batchNorm: 'keep', batchSize: 1 }));
    expect(error.place.pointer).toBe('/training/batchSize');
  });
});

it('a job that keeps batch norm gives the int8 model of the folded network, and the same one from a checkpoint', async () => {
  const [model, data] = [await shop.model(net()), await shop.npz(images(320))];
  const recipe = quickRecipe({ training: { batchNorm: 'keep', epochs: 2, learningRate: 0.05 } });
  const job = shop.job(model, data, recipe);
  const checkpoint = join(shop.directory, 'after-one-epoch.bin');
  let saved: Promise<void> | undefined;
  const whole = await shop.run(job, {
    onEvent: (event) => {
      if (event.type === 'checkpoint' && event.stage === 'train') saved ??= copyFile(event.path, checkpoint);
    },
  });
  await saved;
  expect(whole.report.training?.batchNorm).toEqual({ kept: 2, frozenAtStep: 14, reestimated: true, note: '' });
  expect(whole.report.parity.top1Agreement).toBe(1);
  expect(readOnnx(whole.model).nodes.map((node) => node.op)).not.toContain('BatchNormalization');
  expect(whole.report.qat?.value).toBeGreaterThan(whole.report.ptq.value);
  const resumed = await shop.run(shop.job(model, data, recipe, { checkpointPath: checkpoint }));
  expect(resumed.report.provenance.artifactSha256).toBe(whole.report.provenance.artifactSha256);
  expect(resumed.report.training?.epochs.map(({ loss }) => loss)).toEqual(whole.report.training?.epochs.map(({ loss }) => loss));
});
