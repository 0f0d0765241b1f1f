import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bytesOf, npy } from '../data/testing/files.js';
import { zip } from '../data/testing/zip.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { readOnnx } from '../formats/onnx/read.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

/** Normal numbers; the class is where the first channel's mean lies. */
async function samples(count: number, shape: readonly number[]): Promise<string> {
  const random = new Random(11);
  const each = shape.reduce((a, b) => a * b, 1);
  const x = new Float32Array(count * each);
  const y = new BigInt64Array(count);
  for (let i = 0; i < count; i++) {
    const label = i % 3;
    y[i] = BigInt(label);
    for (let j = 0; j < each; j++) x[i * each + j] = random.normal() + (label - 1);
  }
  return shop.file(
    'data.npz',
    zip([
      { name: 'x.npy', data: npy('<f4', [count, ...shape], bytesOf(x)) },
      { name: 'y.npy', data: npy('<i8', [count], bytesOf(y)) },
    ]),
  );
}

it.each([
  ['encoder-time-first-b1-o15', 1, [5, 8]],
  ['vit-b4-o16', 4, [3, 8, 8]],
  ['windows-b3-o13', 3, [8, 4, 4]],
  ['lstm-b1-o17', 1, [5, 6]],
  ['vit-time-first-bopen-o17', 'batch', [3, 8, 8]],
] as const)('%s is trained in batches of 16 and comes back with its batch', async (name, batch, shape) => {
  const path = fileURLToPath(new URL(`../normalise/testing/attention/${name}.onnx`, import.meta.url));
  const recipe = quickRecipe({
    training: { epochs: 3, batchSize: 16, optimizer: 'adam', learningRate: 0.01, distillation: { weight: 0, temperature: 2 } },
  });
  const { report, model, modelPath } = await shop.run(shop.job(path, await samples(160, shape), recipe));
  expect(report.training?.stepsPerEpoch).toBe(Math.floor(report.samples.training / 16));
  expect(report.qat?.value).toBeGreaterThan(report.float.value + 0.2);
  expect(report.parity.top1Agreement).toBeGreaterThan(0.95);
  expect(report.warnings.map((warning) => warning.code)).not.toContain('BATCH_FIXED');
  const int8 = readOnnx(model);
  expect([int8.inputs[0]?.shape, int8.outputs[0]?.shape]).toEqual([
    [batch, ...shape],
    [batch, 3],
  ]);
  const program = await new OrtEngine().load(modelPath, { threads: 1, mode: 'infer' });
  const own = typeof batch === 'number' ? batch : 2;
  const { y } = await program.run({ x: Tensor.float32([own, ...shape], new Float32Array(own * shape.reduce((a, b) => a * b, 1))) });
  expect(y?.shape).toEqual([own, 3]);
  await program.dispose();
});

it('a batch that cannot be opened is said in the report', async () => {
  const path = fileURLToPath(new URL('../normalise/testing/attention/mixes-b3-o13.onnx', import.meta.url));
  const { report } = await shop.run(shop.job(path, await samples(60, [5, 8]), quickRecipe({ method: 'ptq' })));
  expect(report.warnings.find((warning) => warning.code === 'BATCH_FIXED')?.text).toMatch(/batch of 3.*MatMul .* works across samples/);
});
