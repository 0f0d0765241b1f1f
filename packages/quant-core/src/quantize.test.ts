import { copyFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import Value from 'typebox/value';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDataset } from './data/dataset.js';
import { failure } from './data/testing/files.js';
import { defaultLimits, stages } from './events.js';
import { readOnnx } from './formats/onnx/read.js';
import { graphOf } from './normalise/testing/oracle.js';
import { type Done, exampleModel, quickRecipe, Workshop } from './pipeline/testing/jobs.js';
import { ReportSchema } from './report/schema.js';
import { images, smallNet } from './train/testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const stagesOf = ({ events }: Done) => events.flatMap((event) => (event.type === 'stage' ? [event.stage] : []));

/** The bytes of constants of a model file. */
function constantsOf(bytes: Uint8Array, names: readonly string[]): number[][] {
  const all = new Map(
    readOnnx(bytes)
      .constants()
      .map((value) => [value.name, value.constant]),
  );
  return names.map((name) => Array.from(all.get(name)?.raw ?? []));
}

/** Names, types and dimensions of a model, as a plain session of the runtime sees it. */
async function faceOf(model: string | Buffer) {
  const session = await (typeof model === 'string' ? ort.InferenceSession.create(model) : ort.InferenceSession.create(model));
  const face = [...session.inputMetadata, ...session.outputMetadata];
  await session.release();
  return face;
}

describe('the example, trained for an epoch', () => {
  let done: Done;
  let evaluation: string;
  beforeAll(async () => {
    evaluation = await shop.fashion('test', 40);
    const job = shop.job(exampleModel, await shop.fashion('train', 20), quickRecipe({ training: { batchSize: 32 }, threads: 2 }), {
      evaluationDataset: { path: evaluation, config: {} },
    });
    done = await shop.run(job);
  }, 120_000);

  it('goes through every stage, and tells what it does', () => {
    expect(stagesOf(done)).toEqual([...stages]);
    expect(done.events.filter((event) => event.type === 'epoch')).toHaveLength(1);
    expect(done.events.flatMap((event) => (event.type === 'checkpoint' ? [[event.stage, event.step]] : []))).toEqual([
      ['ptq', 0],
      ['train', 11],
    ]);
    expect(new Set(done.events.flatMap((event) => (event.type === 'progress' ? [event.stage] : [])))).toContain('train');
  });

  it('writes a report in its schema, with the keys tools may rely on', () => {
    const { report } = done;
    expect([...Value.Errors(ReportSchema, report)]).toEqual([]);
    expect(report).toMatchObject({
      schemaVersion: expect.any(String),
      verdict: { decision: expect.any(String) },
      metric: { name: 'top1' },
      float: { value: expect.any(Number) },
      ptq: { value: expect.any(Number) },
      qat: { value: expect.any(Number) },
      int8: { value: expect.any(Number) },
      change: { points: expect.any(Number), ci95: [expect.any(Number), expect.any(Number)], mcnemarP: expect.any(Number) },
      parity: { top1Agreement: expect.any(Number) },
      size: { floatBytes: expect.any(Number), int8Bytes: done.model.length },
      latency: { float: { p50Ms: expect.any(Number) }, int8: { p50Ms: expect.any(Number) } },
      samples: { evaluation: 250, training: 360, holdout: 40, calibration: 64 },
    });
    expect(report.float.value).toBeGreaterThan(0.85);
    expect(report.parity.top1Agreement).toBeGreaterThanOrEqual(0.996);
    expect(report.change.points).toBeCloseTo(100 * (report.int8.value - report.float.value), 6);
    expect(report.size.int8Bytes).toBeLessThan(0.5 * report.size.floatBytes);
    expect(report.runtime.byOp.QLinearConv).toBe(6);
    expect(report.runtime.byOp.Conv).toBeUndefined();
  });

  it('reports the accuracy that a plain session of ONNX Runtime finds', async () => {
    const dataset = await openDataset(
      evaluation,
      {},
      { workDirectory: shop.directory, limits: defaultLimits, fit: { shape: [1, 28, 28], dtype: 'float32' } },
    );
    const all = Uint32Array.from({ length: dataset.size }, (_, i) => i);
    const { x, labels } = await dataset.batch(all);
    await dataset.close();
    for (const [model, reported] of [
      [done.model, done.report.int8.value],
      [await readFile(exampleModel), done.report.float.value],
    ] as const) {
      // The option stands for exact sums on processors without VNNI, where the fast kernel may saturate.
      const options = { extra: { session: { x64quantprecision: '1' } } } as ort.InferenceSession.SessionOptions;
      const session = await ort.InferenceSession.create(model, options);
      const { logits } = await session.run({ image: new ort.Tensor('float32', x.data, x.shape) });
      await session.release();
      const scores = logits?.data as Float32Array;
      const right = all.filter((row) => {
        const own = [...scores.subarray(row * 10, (row + 1) * 10)];
        return own.indexOf(Math.max(...own)) === labels?.[row];
      });
      expect(reported).toBe(right.length / all.length);
    }
  });

  it('keeps the interface of the float model', async () => {
    expect(await faceOf(done.model)).toEqual(await faceOf(exampleModel));
  });

  it('writes a report to read', async () => {
    expect(await readFile(done.markdownPath, 'utf8')).toContain('top-1');
  });
});

describe('a job', () => {
  const small = async () => ({ model: await shop.model(smallNet()), data: await shop.npz(images(160)) });

  it('done twice, and on two threads, and from its checkpoint, gives the same bytes', async () => {
    const { model, data } = await small();
    const recipe = quickRecipe({ training: { epochs: 2, learningRate: 'auto' } });
    const kept = join(shop.directory, 'first-epoch.bin');
    const { model: once } = await shop.run(shop.job(model, data, recipe), {
      onEvent: (event) => {
        if (event.type === 'checkpoint' && event.step === 7) copyFileSync(event.path, kept);
      },
    });
    expect((await shop.run(shop.job(model, data, recipe))).model.equals(once)).toBe(true);
    expect((await shop.run(shop.job(model, data, { ...recipe, threads: 2 }))).model.equals(once)).toBe(true);
    const resumed = await shop.run(shop.job(model, data, recipe, { checkpointPath: kept }));
    expect(resumed.events.flatMap((event) => (event.type === 'epoch' ? [event.epoch] : []))).toEqual([2]);
    expect(resumed.model.equals(once)).toBe(true);
  });

  it('of method ptq trains nothing', async () => {
    const { model, data } = await small();
    const done = await shop.run(shop.job(model, data, quickRecipe({ method: 'ptq' })));
    expect(stagesOf(done)).toEqual(stages.filter((stage) => stage !== 'train' && stage !== 'convert'));
    expect(done.report.qat).toBeNull();
    expect(done.report.training).toBeNull();
    expect(done.report.int8.from).toBe('ptq');
    expect(done.report.int8.value).toBe(done.report.ptq.value);
  });

  it('on a model of a fixed batch keeps its interface', async () => {
    const graph = smallNet();
    for (const value of [...graph.inputs, ...graph.nodes.flatMap((node) => node.outputs)]) {
      if (value.type?.shape) value.type = { ...value.type, shape: value.type.shape.map((dim) => (dim === 'N' ? 1 : dim)) };
    }
    const path = await shop.model(graph);
    const done = await shop.run(shop.job(path, await shop.npz(images(96)), quickRecipe()));
    expect(await faceOf(done.model)).toEqual(await faceOf(path));
    expect((await faceOf(done.model))[0]).toMatchObject({ shape: [1, 1, 8, 8] });
    expect(done.report.samples.evaluation).toBe(19);
  });

  it('on a model that takes images of any size leaves it that', async () => {
    const graph = graphOf(`graph any (x: float32[N, 1, H, W]) opset 18
      c = Conv(x, w=float32[8, 1, 3, 3]#, b=float32[8]#) {kernel_shape=[3, 3]} @conv
      r = Relu(c)
      p = GlobalAveragePool(r)
      f = Flatten(p)
      y = Gemm(f, w2=float32[8, 2]#) @fc
      return y`);
    const path = await shop.model(graph);
    const done = await shop.run(shop.job(path, await shop.npz(images(160)), quickRecipe()));
    expect(await faceOf(done.model)).toEqual(await faceOf(path));
    expect((await faceOf(done.model))[0]).toMatchObject({ shape: ['N', 1, 'H', 'W'] });
    expect(done.report.training?.epochs).toHaveLength(1);
  });

  it('refuses an override that matches no layer, and names some that exist', async () => {
    const { model, data } = await small();
    const recipe = quickRecipe({
      quantization: {
        layers: [
          { name: 'conv', skip: true },
          { name: 'layer9/*', skip: true },
        ],
      },
    });
    const error = await failure('CONFIG_IMPOSSIBLE', () => shop.run(shop.job(model, data, recipe)));
    expect(error.place.pointer).toBe('/quantization/layers/1');
    expect(error.hint).toContain('"conv"');
  });

  it('estimates its memory, and does not start where that cannot be enough', async () => {
    const dataset = await shop.fashion('train', 30);
    const of = (training: object, memoryBytes: number) =>
      failure('TRAIN_TOO_LARGE', () => shop.run({ ...shop.job(exampleModel, dataset, quickRecipe({ training })), memoryBytes }));
    const error = await of({ batchSize: 512 }, 200 * 2 ** 20);
    expect(error).toMatchObject({ place: { pointer: '/training/batchSize' } });
    const fitting = Number(/Set training.batchSize to (\d+)/.exec(error.hint)?.[1]);
    expect(fitting).toBeGreaterThanOrEqual(16);
    expect(fitting).toBeLessThan(512);
    expect((await of({ batchSize: 32 }, 2 ** 20)).hint).toContain('method "ptq"');
    const { report } = await shop.run({
      ...shop.job(exampleModel, dataset, quickRecipe({ training: { batchSize: fitting } })),
      memoryBytes: 200 * 2 ** 20,
    });
    const { estimatedBytes, peakBytes, peakBytesByStage } = report.provenance.memory;
    expect(estimatedBytes).toBeGreaterThan(2 ** 27);
    expect(peakBytes).toBeGreaterThan(2 ** 27);
    // The report is being written when it is filled in.
    expect(Object.keys(peakBytesByStage ?? {})).toEqual(stages.filter((stage) => stage !== 'report'));
    for (const peak of Object.values(peakBytesByStage ?? {})) {
      expect(peak).toBeGreaterThan(2 ** 25);
      expect(peak).toBeLessThanOrEqual(peakBytes);
    }
    const refused = await failure('JOB_TOO_LARGE', () =>
      shop.run({ ...shop.job(exampleModel, dataset, quickRecipe({ method: 'ptq' })), memoryBytes: 2 ** 20 }),
    );
    expect(refused.message).toContain('one sample needs at least');
  });

  it('that misses its gate says so', async () => {
    const data = await shop.fashion('test', 40);
    const rough = { weights: { bits: 2, reduceRange: false }, activations: { bits: 2 } };
    const recipe = quickRecipe({ method: 'ptq', quantization: rough, gate: { maxDrop: 1 } });
    const done = await shop.run(shop.job(exampleModel, data, recipe));
    expect(done.gatePassed).toBe(false);
    expect(done.report.gate).toEqual({ maxDrop: 1, passed: false });
    expect(done.report.verdict.decision).toBe('do_not_ship');
    expect(done.report.int8.value).toBeLessThan(done.report.float.value - 0.01);
  });

  it('without labels distils, and compares with the float model', async () => {
    const { report } = await shop.run(
      shop.job(await shop.model(smallNet(2, 'y = Softmax(h)')), await shop.npz(images(160, 'unlabelled')), quickRecipe()),
    );
    expect(report.task).toBe('unlabelled');
    expect(report.metric.name).toBe('agreement');
    expect(report.training?.loss).toBe('distillation');
    expect(report.int8.value).toBeGreaterThan(0.8);
  });

  it('with values fits them', async () => {
    const { report } = await shop.run(shop.job(await shop.model(smallNet(1)), await shop.npz(images(160, 'regression')), quickRecipe()));
    expect(report.task).toBe('regression');
    expect(report.training?.loss).toBe('mse');
    expect(report.change.mcnemarP).toBeNull();
  });

  it('takes a model of one layer after a Flatten', async () => {
    const graph = graphOf(`graph mlp (x: float32[N, 1, 8, 8]) opset 18
      f = Flatten(x)
      y = Gemm(f, w=float32[64, 2]#, b=float32[2]#) @fc
      return y`);
    const { report } = await shop.run(shop.job(await shop.model(graph), await shop.npz(images(160)), quickRecipe()));
    expect(report.agreement).toBeGreaterThan(0.9);
    expect(report.parity.top1Agreement).toBe(1);
  });

  it('tells which weights an operator without a gradient keeps from being trained, and leaves them as they were', async () => {
    const graph = graphOf(`graph net (x: float32[N, 1, 8, 8]) opset 18
      c = Conv(x, w1=float32[4, 1, 3, 3]#, b1=float32[4]#) @first
      s = Opaque<ai.onnx, Shrink, 1>(c) @shrink
      f = Flatten(s)
      y = Gemm(f, w2=float32[144, 2]#, b2=float32[2]#) @fc
      return y`);
    const recipe = quickRecipe({ training: { weightDecay: 0.5 } });
    const job = shop.job(await shop.model(graph), await shop.npz(images(160)), recipe);
    const { report } = await shop.run(job);
    expect(report.warnings.find((warning) => warning.code === 'NOT_TRAINED')?.text).toContain('2 weights were not trained');
    const names = ['w1_int8', 'w1_scale', 'w2_int8', 'w2_scale'];
    const integers = async (of: string) => constantsOf(await readFile(join(job.workDirectory, of)), names);
    const [ptq, qat] = [await integers('ptq.onnx'), await integers('qat.onnx')];
    expect(ptq[0]).not.toEqual([]);
    expect(qat.slice(0, 2)).toEqual(ptq.slice(0, 2));
    expect(qat.slice(2)).not.toEqual(ptq.slice(2));
  });

  it('that is cancelled stops where it is', async () => {
    const { model, data } = await small();
    const controller = new AbortController();
    const job = shop.job(model, data, quickRecipe({ training: { epochs: 50 } }));
    const seen: string[] = [];
    await failure('CANCELLED', () =>
      shop.run(job, {
        signal: controller.signal,
        onEvent: (event) => {
          if (event.type === 'stage') seen.push(event.stage);
          if (event.type === 'epoch') controller.abort();
        },
      }),
    );
    expect(seen.at(-1)).toBe('train');
  });
});
