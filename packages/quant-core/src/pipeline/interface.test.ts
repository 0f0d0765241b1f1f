import { afterAll, beforeAll, expect, it } from 'vitest';
import { bytesOf, npy } from '../data/testing/files.js';
import { decode } from '../formats/onnx/schema.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { info, ints, modelBytes, node } from '../testing/onnx.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const random = Random.for(6, 'interface');
const normal = (count: number) => Float32Array.from({ length: count }, () => random.normal());

it.each([1, 'N'])('writes sizes of an output as declared where the inputs are open (batch %s)', async (batch) => {
  // An exporter that opened height and width of the input alone, and wrote those of the output as it traced them.
  const bytes = modelBytes({
    nodes: [node('Conv', ['x', 'w'], ['z'], [ints('strides', [2, 2]), ints('pads', [1, 1, 1, 1])]), node('Relu', ['z'], ['y'])],
    inputs: [info('x', [batch, 3, 'height', 'width'])],
    outputs: [info('y', [batch, 4, 8, 8])],
    initializers: { w: Tensor.float32([4, 3, 3, 3], normal(108)) },
  });
  const samples = await shop.file('x.npy', npy('<f4', [24, 3, 16, 16], bytesOf(normal(24 * 768))));
  const { model } = await shop.run(shop.job(await shop.file('m.onnx', bytes), samples, quickRecipe({ method: 'ptq' })));
  const [float, int8] = [bytes, model].map((file) => decode('Model', file).graph);
  expect(int8?.output).toEqual(float?.output);
  expect(int8?.input).toEqual(float?.input);
});

it('takes -1 and "?" for any size, as older exporters write them, and leaves them in the file', async () => {
  const bytes = modelBytes({
    nodes: [
      node('Conv', ['x', 'w'], ['z'], [ints('strides', [2, 2]), ints('pads', [1, 1, 1, 1])]),
      node('GlobalAveragePool', ['z'], ['p']),
      node('Flatten', ['p'], ['y']),
    ],
    // Height and width have one name, and need not be equal.
    inputs: [info('x', [-1, 3, '?', '?'])],
    outputs: [info('y', [-1, 4])],
    initializers: { w: Tensor.float32([4, 3, 3, 3], normal(108)) },
  });
  const samples = await shop.file('x.npy', npy('<f4', [24, 3, 8, 16], bytesOf(normal(24 * 384))));
  const { model, report } = await shop.run(shop.job(await shop.file('m.onnx', bytes), samples, quickRecipe({ method: 'ptq' })));
  const [float, int8] = [bytes, model].map((file) => decode('Model', file).graph);
  expect([int8?.input, int8?.output]).toEqual([float?.input, float?.output]);
  expect(report.outputs[0]?.judged).toBe(true);
});
