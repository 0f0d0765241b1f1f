import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { defaultLimits } from '../events.js';
import { inferShapes } from '../ir/infer.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { defaultRecipe } from '../recipe.js';
import { Tensor } from '../tensor/tensor.js';
import { info, ints, modelBytes, node, ramp } from '../testing/onnx.js';
import { smallNet } from '../train/testing/jobs.js';
import { prepareModel, restoreBatch, summarise } from './model.js';
import { exampleModel, Workshop } from './testing/jobs.js';

const engine = new OrtEngine();
let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const inspect = async (text: string, input = 'float32[N, 4]') =>
  summarise(await shop.model(graphOf(`graph g (x: ${input}) opset 18\n${text}`)), defaultLimits, defaultRecipe(), engine);

describe('what a model is', () => {
  it('the example', async () => {
    const summary = await summarise(exampleModel, defaultLimits, defaultRecipe(), engine);
    expect(summary).toMatchObject({ format: 'onnx', opset: 13, trainable: true, float: [], parameters: 54_298 + 480 });
    expect(summary.quantizable.map(({ op }) => op)).toEqual(['Conv', 'Conv', 'Conv', 'Conv', 'Conv', 'Conv', 'Gemm']);
    expect(summary.inputs).toEqual([{ name: 'image', dtype: 'float32', shape: ['batch', 1, 28, 28] }]);
  });

  it('of open image size', async () => {
    const summary = await inspect(
      `c = Conv(x, w=float32[4, 3, 3, 3]#, b=float32[4]#) {kernel_shape=[3, 3]} @conv
      r = Relu(c)
      p = GlobalAveragePool(r)
      f = Flatten(p)
      y = Gemm(f, w2=float32[4, 2]#) @fc
      return y`,
      'float32[N, 3, H, W]',
    );
    expect(summary.quantizable.map(({ node }) => node)).toEqual(['conv', 'fc']);
    expect(summary.trainable).toBe(true);
    expect(summary).not.toHaveProperty('notTrainableBecause');
  });

  it('with an operator that nothing before it learns through', async () => {
    const summary = await inspect(`a = Gemm(x, w1=float32[4, 4]#) @first
      m = Opaque<ai.onnx, Shrink, 1>(a) @shrink
      y = Gemm(m, w2=float32[4, 2]#) @last
      return y`);
    expect(summary.trainable).toBe(true);
    expect(summary.float).toEqual([{ node: 'shrink', op: 'Shrink', reason: 'the operator is not in the list of docs/ops.md' }]);
  });

  it('that a loss cannot be reached in', async () => {
    const summary = await inspect(`a = Gemm(x, w1=float32[4, 4]#) @first
      y = Floor(a) @steps
      return y`);
    expect(summary.trainable).toBe(false);
    expect(summary.notTrainableBecause).toBe('Floor steps has no gradient, and lies between a trained layer and the loss');
  });

  it('of open length, longer than any that is tried at first', async () => {
    const net = (window: number) => `c = Conv(x, w=float32[2, 1, ${window}]#) {kernel_shape=[${window}]} @conv
      m = GlobalMaxPool(c)
      f = Flatten(m)
      y = Gemm(f, w2=float32[2, 2]#) @fc
      return y`;
    expect(await inspect(net(512), 'float32[N, 1, T]')).toMatchObject({ trainable: true });
    // No length is tried that is long enough: it is said, and nothing is refused.
    expect(await inspect(net(20_000), 'float32[N, 1, T]')).toMatchObject({
      trainable: null,
      notes: [expect.stringMatching(/^The sizes T are open, and whether the model can be trained shows only with those of the data/)],
    });
  });

  it('exported in training mode', async () => {
    const text = `n = BatchNormalization(x, g=float32[4]#, b=float32[4]#, m=float32[4]#, v=float32[4]{1, 2, 3, 4}) {training_mode=1} @bn
      y = Gemm(n, w=float32[4, 2]#)
      return y`;
    expect((await inspect(text)).notes).toEqual([expect.stringContaining('BatchNormalization bn')]);
  });

  it('that ends in an operator outside the list', async () => {
    const summary = await inspect(`a = Gemm(x, w1=float32[4, 4]#) @first
      y = Opaque<ai.onnx, Shrink, 1>(a) @shrink
      return y`);
    expect(summary.trainable).toBe(false);
    expect(summary.notTrainableBecause).toBe('Shrink shrink has no gradient, and lies between a trained layer and the loss');
  });

  it('of several outputs, and what each is', async () => {
    const { outputs, trainable } = await inspect('h = Gemm(x, w=float32[4, 3]#)\ns = Softmax(h)\nl = ArgMax(s) {axis=1}\nreturn h, s, l');
    expect(outputs.map(({ name, kind, axis, form, judged, of }) => [name, kind, axis, form, judged, of])).toEqual([
      ['h', 'classes', 1, 'logits', true, 'h'],
      ['s', 'classes', 1, 'probabilities', true, 'h'],
      ['l', 'other', null, 'logits', false, 'l'],
    ]);
    expect(trainable).toBe(true);
  });

  it.each([
    [
      'already quantized',
      'MODEL_ALREADY_QUANTIZED',
      'q = QuantizeLinear(x, s=float32[]{1}, z=uint8[]{0})\ny = DequantizeLinear(q, s, z)\nreturn y',
    ],
    ['of integers alone', 'MODEL_INPUTS_UNSUPPORTED', 'h = Gemm(x, w=float32[4, 2]#)\ny = ArgMax(h) {axis=1}\nreturn y'],
    ['with nothing to quantize', 'MODEL_NOTHING_TO_QUANTIZE', 'y = Relu(x)\nreturn y'],
  ] as const)('%s is refused', async (_what, code, text) => {
    await failure(code, () => inspect(text));
  });
});

it('a fixed batch is opened through an operator that no rule is for, and put back', async () => {
  const path = await shop.file(
    'lp.onnx',
    modelBytes({
      nodes: [node('LpPool', ['x'], ['p'], [ints('kernel_shape', [2, 2])]), node('Flatten', ['p'], ['f']), node('Gemm', ['f', 'w'], ['y'])],
      inputs: [info('x', [2, 1, 4, 4])],
      outputs: [info('y', [2, 3])],
      initializers: { w: Tensor.float32([9, 3], ramp(27)) },
    }),
  );
  const model = await prepareModel(path, defaultLimits, engine);
  expect(model.batch).toMatchObject({ kind: 'opened', size: 2 });
  expect(model.graph.outputs[0]?.shape).toEqual([model.batch.symbol, 3]);
  const copy = restoreBatch(model.graph.clone(), model);
  inferShapes(copy);
  expect(copy.nodes.map((each) => each.output().shape)).toEqual([
    [2, 1, 3, 3],
    [2, 9],
    [2, 3],
  ]);
});

it('a fixed batch is opened, and put back', async () => {
  const graph = smallNet();
  for (const value of [...graph.inputs, ...graph.nodes.flatMap((node) => node.outputs)]) {
    if (value.type?.shape) value.type = { ...value.type, shape: value.type.shape.map((dim) => (dim === 'N' ? 3 : dim)) };
  }
  const model = await prepareModel(await shop.model(graph), defaultLimits, engine);
  expect(model.batch).toMatchObject({ kind: 'opened', size: 3 });
  expect(model.graph.inputs[0]?.shape).toEqual([model.batch.symbol, 1, 8, 8]);
  expect(model.original.inputs[0]?.shape).toEqual([3, 1, 8, 8]);
  const copy = restoreBatch(model.graph.clone(), model);
  expect([...copy.inputs, ...copy.outputs].map((value) => value.shape?.[0])).toEqual([3, 3]);
});
