import { copyFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { QuantizeJob } from '../events.js';
import type { Graph } from '../ir/graph.js';
import { graphOf } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import type { Report } from '../report/schema.js';
import { images, normedNet, smallNet } from '../train/testing/jobs.js';
import { type Done, quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const stopped = new Error('stopped here');

/** Runs a job that stops at its checkpoint number `at`, as a process does that is killed; gives a copy of that checkpoint. */
async function stoppedAt(at: number, model: string, data: string, recipe: Recipe, from?: string): Promise<string> {
  const kept = join(shop.directory, `kept-${Math.random()}.bin`);
  let seen = 0;
  const running = shop.run(shop.job(model, data, recipe, from === undefined ? {} : { checkpointPath: from }), {
    onEvent: (event) => {
      if (event.type !== 'checkpoint' || seen++ !== at) return;
      copyFileSync(event.path, kept);
      throw stopped;
    },
  });
  await expect(running).rejects.toBe(stopped);
  return kept;
}

/** The report without what is measured in seconds or bytes of memory, and the verdict, which tells of speed. */
function timeless({ verdict: _, latency: __, runtime: ___, provenance, training, ...report }: Report): unknown {
  const { seconds: _1, memory: _2, ...facts } = provenance;
  const { samplesPerSecond: _3, epochs, ...figures } = training ?? { epochs: [] };
  return { ...report, provenance: facts, training: { ...figures, epochs: epochs.map(({ seconds: _4, ...epoch }) => epoch) } };
}

const whereResumed = ({ events }: Done) => events.flatMap((event) => (event.type === 'resumed' ? [[event.stage, event.step]] : []));
const noticesOf = ({ events }: Done) =>
  events.flatMap((event) => (event.type === 'log' ? [event.message] : event.type === 'checkpoint_dropped' ? [event.reason] : []));
const checkpointsOf = ({ events }: Done) => events.flatMap((event) => (event.type === 'checkpoint' ? [[event.stage, event.step]] : []));
const calibrated = ({ events }: Done) => events.some((event) => event.type === 'progress' && event.stage === 'calibrate');
const rounded = ({ events }: Done) => events.some((event) => event.type === 'progress' && event.stage === 'ptq');

const ptqOf = ({ workDirectory }: QuantizeJob) => readFile(join(workDirectory, 'ptq.onnx'));

const four = { weights: { bits: 4 }, activations: { bits: 4 } } as Partial<Recipe['quantization']>;
const perTensor = { weights: { perChannel: false } } as Partial<Recipe['quantization']>;
const short = { roundingIterations: 64 };

describe('a job that goes on from a checkpoint gives the same model and report', () => {
  it.each<[string, () => Promise<Graph> | Graph, Parameters<typeof quickRecipe>[0], Partial<Report['calibration']>]>([
    ['of 8 bits, with a learning rate to be found', () => smallNet(), { training: { epochs: 2, learningRate: 'auto' } }, {}],
    [
      'of 4 bits, with rounding learned and trained on',
      () => smallNet(),
      { quantization: four, calibration: short, training: { epochs: 2 } },
      { adaptiveLayers: 3 },
    ],
    [
      'with channels equalized and biases corrected',
      () => smallNet(),
      { quantization: perTensor, calibration: { equalization: true, biasCorrection: true }, training: { epochs: 2 } },
      { equalizedPairs: 2, correctedBiases: 2 },
    ],
    [
      'with channels equalized, weights rounded, biases corrected, and training from float',
      () => smallNet(),
      {
        quantization: { ...four, ...perTensor },
        calibration: { ...short, equalization: true, biasCorrection: true, rounding: 'adaptive' },
        training: { epochs: 2, start: 'float' },
      },
      { equalizedPairs: 2, adaptiveLayers: 3, correctedBiases: 2 },
    ],
    [
      'with Adam and a bias that two layers share',
      () => shared(),
      { calibration: { biasCorrection: true }, training: { epochs: 2, optimizer: 'adam' } },
      { correctedBiases: 3 },
    ],
  ])('%s', async (_what, net, change, done) => {
    const [model, data] = [await shop.model(await net()), await shop.npz(images(120))];
    const recipe = quickRecipe(change);
    const undisturbed = shop.job(model, data, recipe);
    const whole = await shop.run(undisturbed);
    const places = checkpointsOf(whole);
    expect(places[0]).toEqual(['ptq', 0]);
    expect(places.length).toBeGreaterThan(2);
    expect(whole.report.calibration).toMatchObject(done);
    for (const [at, place] of places.entries()) {
      const from = await stoppedAt(at, model, data, recipe);
      const job = shop.job(model, data, { ...recipe, threads: 2 }, { checkpointPath: from });
      const resumed = await shop.run(job);
      expect(whereResumed(resumed)).toEqual([place]);
      expect(calibrated(resumed) || rounded(resumed)).toBe(false);
      expect(checkpointsOf(resumed)).toEqual(places.slice(at + 1));
      expect(resumed.model.equals(whole.model)).toBe(true);
      expect(await ptqOf(job)).toEqual(await ptqOf(undisturbed));
      const sameThreads = { ...resumed.report, provenance: { ...resumed.report.provenance, recipe: whole.report.provenance.recipe } };
      expect(timeless(sameThreads)).toEqual(timeless(whole.report));
    }
  });

  it('stopped twice, with batch norm kept', async () => {
    const graph = (await normedNet()).graph;
    const [model, data] = [await shop.model(graph), await shop.npz(images(120))];
    const recipe = quickRecipe({ training: { epochs: 3, learningRate: 'auto' } });
    const whole = await shop.run(shop.job(model, data, recipe));
    const first = await stoppedAt(2, model, data, recipe);
    const second = await stoppedAt(0, model, data, recipe, first);
    const resumed = await shop.run(shop.job(model, data, recipe, { checkpointPath: second }));
    expect(whereResumed(resumed)).toEqual([['train', 10]]);
    expect(resumed.model.equals(whole.model)).toBe(true);
    expect(timeless(resumed.report)).toEqual(timeless(whole.report));
  });

  it('of method ptq', async () => {
    const [model, data] = [await shop.model(smallNet()), await shop.npz(images(120))];
    const recipe = quickRecipe({ method: 'ptq', quantization: four, calibration: short });
    const whole = await shop.run(shop.job(model, data, recipe));
    const resumed = await shop.run(shop.job(model, data, recipe, { checkpointPath: await stoppedAt(0, model, data, recipe) }));
    expect(calibrated(resumed) || rounded(resumed)).toBe(false);
    expect(checkpointsOf(resumed)).toEqual([]);
    expect(resumed.model.equals(whole.model)).toBe(true);
    expect(timeless(resumed.report)).toEqual(timeless(whole.report));
  });
});

describe('a checkpoint that does not fit is dropped, and the job starts from the beginning', () => {
  const recipe = quickRecipe();
  let [model, data, kept] = ['', '', ''];
  let whole: Done;
  beforeAll(async () => {
    [model, data] = [await shop.model(smallNet()), await shop.npz(images(120))];
    whole = await shop.run(shop.job(model, data, recipe));
    kept = await stoppedAt(1, model, data, recipe);
  });

  it.each<[string, (bytes: Buffer) => Uint8Array, RegExp]>([
    ['one that is cut off', (bytes) => bytes.subarray(0, bytes.length - 100), /cannot be read/],
    [
      'one with a flipped bit',
      (bytes) => bytes.fill((bytes.at(-500) as number) ^ 4, bytes.length - 500, bytes.length - 499),
      /not those that were written/,
    ],
    ['one of another version', (bytes) => Buffer.concat([Buffer.from('OCTETCP2'), bytes.subarray(8)]), /not a checkpoint of this version/],
    ['an empty file', () => new Uint8Array(), /not a checkpoint/],
  ])('%s', async (_what, change, reason) => {
    const path = await shop.file('damaged.bin', change(await readFile(kept)));
    const done = await shop.run(shop.job(model, data, recipe, { checkpointPath: path }));
    expect(whereResumed(done)).toEqual([]);
    expect(noticesOf(done)).toEqual([...noticesOf(whole), expect.stringMatching(reason)].sort());
    expect(done.model.equals(whole.model)).toBe(true);
    expect(timeless(done.report)).toEqual(timeless(whole.report));
  });

  it.each<[string, () => Promise<{ model?: string; data?: string; recipe?: Recipe }>]>([
    ['that of another recipe', async () => ({ recipe: quickRecipe({ training: { learningRate: 0.002 } }) })],
    ['that of another model', async () => ({ model: await shop.model(smallNet(3)) })],
    ['that of other data', async () => ({ data: await shop.npz(images(121)) })],
  ])('%s', async (_what, other) => {
    const own = { model, data, recipe, ...(await other()) };
    const done = await shop.run(shop.job(own.model, own.data, own.recipe, { checkpointPath: kept }));
    expect(noticesOf(done)).toContainEqual(
      expect.stringMatching(/another model, dataset or configuration, or by another version of Octet/),
    );
    expect(checkpointsOf(done)).toHaveLength(2);
  });

  it('one whose arrays are those of another network, at its training', async () => {
    const { readArrayFile, writeArrayFile } = await import('../train/arrayFile.js');
    const { value, arrays } = await readArrayFile(kept);
    const path = await shop.file('short.bin', new Uint8Array());
    await writeArrayFile(path, value, { ...arrays, 'training/parameters': new Float32Array(3) });
    const done = await shop.run(shop.job(model, data, recipe, { checkpointPath: path }));
    expect(noticesOf(done)).toContainEqual(expect.stringContaining('no array parameters'));
    expect(done.model.equals(whole.model)).toBe(true);
  });
});

it('the two newest checkpoints are left in the work directory', async () => {
  const [model, data] = [await shop.model(smallNet()), await shop.npz(images(120))];
  const paths: string[] = [];
  await shop.run(shop.job(model, data, quickRecipe({ training: { epochs: 3 } })), {
    onEvent: (event) => {
      if (event.type === 'checkpoint') paths.push(event.path);
    },
  });
  expect(paths).toHaveLength(4);
  const there = await Promise.all(
    paths.map((path) =>
      readFile(path).then(
        () => true,
        () => false,
      ),
    ),
  );
  expect(there).toEqual([false, false, true, true]);
});

/** Two layers read one bias. */
function shared(): Graph {
  return graphOf(`graph shared (x: float32[N, 1, 8, 8]) opset 18
    c = Conv(x, w1=float32[8, 1, 3, 3]#, b=float32[8]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @conv
    r = Relu(c)
    d = Conv(r, w2=float32[8, 8, 3, 3]#, b) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @middle
    e = Relu(d)
    p = MaxPool(e) {kernel_shape=[4, 4], strides=[4, 4]}
    f = Flatten(p)
    h = Gemm(f, w3=float32[32, 2]#, b3=float32[2]#) @fc
    return h`);
}
