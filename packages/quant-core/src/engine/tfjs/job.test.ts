import Module from 'node:module';
import Value from 'typebox/value';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { failure } from '../../data/testing/files.js';
import { graphOf } from '../../normalise/testing/oracle.js';
import { type Done, quickRecipe, Workshop } from '../../pipeline/testing/jobs.js';
import { ReportSchema } from '../../report/schema.js';
import { images, smallNet } from '../../train/testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const recipe = (engine: 'auto' | 'ort' | 'tfjs') => quickRecipe({ engine, training: { epochs: 3, learningRate: 0.02, batchSize: 16 } });
const job = async (engine: 'auto' | 'ort' | 'tfjs') =>
  shop.run(shop.job(await shop.model(smallNet()), await shop.npz(images(240)), recipe(engine)));
const codes = ({ report }: Done) => report.warnings.map((warning) => warning.code);
const lossesOf = ({ report }: Done) => report.training?.epochs.map((epoch) => epoch.loss) ?? [];

/** As on a platform that onnxruntime-node has no binary for. */
async function withoutOnnxRuntime<T>(body: () => Promise<T>): Promise<T> {
  const loader = Module as unknown as { _load: (request: string, ...rest: unknown[]) => unknown };
  const load = loader._load;
  loader._load = (request, ...rest) => {
    if (request === 'onnxruntime-node') throw new Error("Cannot find module '../bin/napi-v6/plan9/mips/onnxruntime_binding.node'");
    return load(request, ...rest);
  };
  try {
    return await body();
  } finally {
    loader._load = load;
  }
}

it('a job trains in TF.js as in ONNX Runtime, and its model is measured in ONNX Runtime', async () => {
  const [wanted, got] = [await job('ort'), await job('tfjs')];
  const [expected, losses] = [lossesOf(wanted), lossesOf(got)];
  expect(losses).toHaveLength(3);
  for (const [i, loss] of losses.entries()) expect(Math.abs(loss - (expected[i] as number))).toBeLessThan(0.02 * (expected[i] as number));
  expect(Math.abs(got.report.int8.value - wanted.report.int8.value)).toBeLessThanOrEqual(0.05);
  expect(codes(got)).toContain('ENGINE_TFJS');
  expect(codes(wanted)).not.toContain('ENGINE_TFJS');
  expect(got.report.runtime.name).toBe('onnxruntime');
  expect(got.report.runtime.integerNodes).toBeGreaterThan(0);
  expect(got.report.provenance.recipe.engine).toBe('tfjs');
  expect(Object.keys(got.report.provenance.versions)).toEqual(['octet', 'onnxruntime', 'tfjs', 'node']);
  expect(got.report.parity.top1Agreement).toBeGreaterThan(0.97);
});

it('a whole job runs where ONNX Runtime has no binary, and its report says what was not measured', async () => {
  const done = await withoutOnnxRuntime(() => job('auto'));
  expect([...Value.Errors(ReportSchema, done.report)]).toEqual([]);
  expect(codes(done)).toEqual(expect.arrayContaining(['ENGINE_FALLBACK', 'NOT_RUN_ON_INTEGERS']));
  expect(done.report.warnings.find((warning) => warning.code === 'ENGINE_FALLBACK')?.text).toContain('plan9/mips');
  expect(done.report.runtime).toMatchObject({ name: 'tfjs', integerNodes: 0 });
  expect(done.report.runtime.floatNodes).toBeGreaterThan(3);
  expect(done.report.runtime.boundaryNodes).toBeGreaterThan(3);
  expect(done.report.provenance.versions).toHaveProperty('tfjs');
  expect(done.report.provenance.versions).not.toHaveProperty('onnxruntime');
  expect(done.report.int8.value).toBeGreaterThan(0.8);
  // The model is an ordinary int8 model, and ONNX Runtime says the same of it.
  const again = await job('ort');
  expect(Math.abs(done.report.float.value - again.report.float.value)).toBeLessThan(0.001);
  expect(Math.abs(done.report.int8.value - again.report.int8.value)).toBeLessThanOrEqual(0.05);
});

it('an operator that TF.js lacks ends the job by name, and ONNX Runtime asked for is not replaced', async () => {
  const graph = graphOf(`graph g (x: float32[N, 1, 8, 8]) opset 18
    c = Conv(x, w=float32[4, 1, 3, 3]#) {kernel_shape=[3, 3]} @conv
    s = Opaque<ai.onnx, Shrink, 1>(c) @shrunk
    f = Flatten(s)
    y = Gemm(f, v=float32[144, 2]#) @fc
    return y`);
  const [path, data] = [await shop.model(graph), await shop.npz(images(40))];
  const error = await failure('ENGINE_UNSUPPORTED_OP', () => shop.run(shop.job(path, data, { ...recipe('tfjs'), method: 'ptq' })));
  expect(error.place).toMatchObject({ op: 'Shrink' });
  await withoutOnnxRuntime(async () => {
    const refused = await failure('ENGINE_UNAVAILABLE', () => shop.run(shop.job(path, data, recipe('ort'))));
    expect(refused.message).toContain('onnxruntime-node cannot be loaded on');
  });
});
