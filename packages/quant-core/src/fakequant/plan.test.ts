import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { OctetError } from '../errors.js';
import { defaultLimits } from '../events.js';
import { readModel } from '../formats/read.js';
import type { Graph } from '../ir/graph.js';
import { normalise } from '../normalise/index.js';
import { rebatch } from '../normalise/rebatch.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import type { QuantPlan } from './plan.js';
import { simulate } from './simulate.js';
import { outline, planOf, recipeWith, tableOf } from './testing/plans.js';

/** What the simulation computes, without the fake quant of weights. */
function placement(graph: Graph, recipe?: Recipe): string {
  const plan = planOf(graph, recipe);
  const weights = new RegExp(`^(${plan.weights.map((point) => point.value).join('|')})_(quantize|range|dequantize) `);
  return outline(simulate(graph, plan, tableOf(graph, plan)))
    .filter((line) => !weights.test(line))
    .map((line) => line.replace(/_scale=float32\[\]\{[^}]*\}/g, '_scale').replace(/_zero_point=uint8\[\]\{\d+\}/g, '_zero_point'))
    .join('\n');
}

const conv = (body: string, input = 'float32[N, 4, 4, 4]') => graphOf(`graph g (x: ${input}) opset 18\n${body}`);

const groupOf = (plan: QuantPlan, value: string) => plan.activations.find((point) => point.value === value)?.group;

/** Run something that must be refused. */
function refusal(run: () => unknown): OctetError {
  try {
    run();
  } catch (error) {
    if (error instanceof OctetError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

const cnn = () =>
  conv(
    `c1 = Conv(x, w1=float32[4, 1, 3, 3]#, b1=float32[4]#) @conv1
    r1 = Relu(c1)
    p1 = MaxPool(r1) {kernel_shape=[2, 2], strides=[2, 2]}
    c2 = Conv(p1, w2=float32[6, 4, 3, 3]#) @conv2
    f = Flatten(c2)
    y = Gemm(f, w3=float32[6, 3]#, b3=float32[3]#) @fc
    return y`,
    'float32[N, 1, 8, 8]',
  );

describe('where fake quant goes', () => {
  it('Conv, Relu, MaxPool, Conv, Gemm: one quantizer after the Relu, one scale through the pool, a float result', () => {
    expect(placement(cnn())).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      c1 = Conv(x_dequantize, w1_dequantize, b1_1=[4]) @conv1
      r1 = Relu(c1)
      r1_quantize = QuantizeLinear(r1, group_1_scale, group_1_zero_point)
      r1_dequantize = DequantizeLinear(r1_quantize, group_1_scale, group_1_zero_point)
      p1 = MaxPool(r1_dequantize) {kernel_shape=[2, 2], strides=[2, 2]}
      p1_quantize = QuantizeLinear(p1, group_1_scale, group_1_zero_point)
      p1_dequantize = DequantizeLinear(p1_quantize, group_1_scale, group_1_zero_point)
      c2 = Conv(p1_dequantize, w2_dequantize) @conv2
      c2_quantize = QuantizeLinear(c2, group_2_scale, group_2_zero_point)
      c2_dequantize = DequantizeLinear(c2_quantize, group_2_scale, group_2_zero_point)
      f = Flatten(c2_dequantize)
      f_quantize = QuantizeLinear(f, group_2_scale, group_2_zero_point)
      f_dequantize = DequantizeLinear(f_quantize, group_2_scale, group_2_zero_point)
      y = Gemm(f_dequantize, w3_dequantize, b3_1=[3]) @fc
      return y"
    `);
  });

  it('quantizes both inputs and the output of a residual Add', () => {
    const graph = conv(`a = Conv(x, w1=float32[4, 4, 1, 1]#) @a
      s = Add(a, x)
      r = Relu(s)
      y = Conv(r, w2=float32[2, 4, 1, 1]#) @b
      return y`);
    expect(placement(graph)).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      a = Conv(x_dequantize, w1_dequantize)
      a_quantize = QuantizeLinear(a, group_1_scale, group_1_zero_point)
      a_dequantize = DequantizeLinear(a_quantize, group_1_scale, group_1_zero_point)
      s = Add(a_dequantize, x_dequantize)
      r = Relu(s)
      r_quantize = QuantizeLinear(r, group_2_scale, group_2_zero_point)
      r_dequantize = DequantizeLinear(r_quantize, group_2_scale, group_2_zero_point)
      y_dequantize = Conv(r_dequantize, w2_dequantize) @b
      y_quantize = QuantizeLinear(y_dequantize, group_3_scale, group_3_zero_point)
      y = DequantizeLinear(y_quantize, group_3_scale, group_3_zero_point) @y_dequantize
      return y"
    `);
  });

  it('puts the quantizer of a depthwise layer after its ReLU6', () => {
    const graph = conv(`a = Conv(x, w1=float32[4, 1, 3, 3]#) {group=4} @dw
      c = Clip(a, lo=float32[]{0}, hi=float32[]{6})
      y = Conv(c, w2=float32[2, 4, 1, 1]#) @pw
      return y`);
    expect(placement(graph)).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      a = Conv(x_dequantize, w1_dequantize) {group=4} @dw
      c = Clip(a, lo=float32[]{0}, hi=float32[]{6})
      c_quantize = QuantizeLinear(c, group_1_scale, group_1_zero_point)
      c_dequantize = DequantizeLinear(c_quantize, group_1_scale, group_1_zero_point)
      y_dequantize = Conv(c_dequantize, w2_dequantize) @pw
      y_quantize = QuantizeLinear(y_dequantize, group_2_scale, group_2_zero_point)
      y = DequantizeLinear(y_quantize, group_2_scale, group_2_zero_point) @y_dequantize
      return y"
    `);
  });

  it('gives all that a Concat joins one scale', () => {
    const graph = conv(`a = Conv(x, w1=float32[2, 4, 1, 1]#) @a
      b = Conv(x, w2=float32[2, 4, 1, 1]#) @b
      c = Concat(a, b) {axis=1}
      y = Conv(c, w3=float32[2, 4, 1, 1]#) @c3
      return y`);
    const plan = planOf(graph);
    expect(['a', 'b', 'c'].map((value) => groupOf(plan, value))).toEqual([1, 1, 1]);
    expect(plan.activations.filter((point) => point.repeats).map((point) => point.value)).toEqual(['c']);
    expect(placement(graph)).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      a = Conv(x_dequantize, w1_dequantize)
      b = Conv(x_dequantize, w2_dequantize)
      a_quantize = QuantizeLinear(a, group_1_scale, group_1_zero_point)
      b_quantize = QuantizeLinear(b, group_1_scale, group_1_zero_point)
      a_dequantize = DequantizeLinear(a_quantize, group_1_scale, group_1_zero_point)
      b_dequantize = DequantizeLinear(b_quantize, group_1_scale, group_1_zero_point)
      c = Concat(a_dequantize, b_dequantize) {axis=1}
      c_quantize = QuantizeLinear(c, group_1_scale, group_1_zero_point)
      c_dequantize = DequantizeLinear(c_quantize, group_1_scale, group_1_zero_point)
      y_dequantize = Conv(c_dequantize, w3_dequantize) @c3
      y_quantize = QuantizeLinear(y_dequantize, group_2_scale, group_2_zero_point)
      y = DequantizeLinear(y_quantize, group_2_scale, group_2_zero_point) @y_dequantize
      return y"
    `);
  });

  it('leaves a product of two activations in float', () => {
    const graph = conv(
      `q = MatMul(x, w=float32[4, 4]#) @q
      y = MatMul(q, x) @qk
      return y`,
      'float32[N, 4, 4]',
    );
    expect(placement(graph)).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      q = MatMul(x_dequantize, w_dequantize)
      y = MatMul(q, x) @qk
      return y"
    `);
    expect(planOf(graph).float).toEqual([
      { node: 'qk', op: 'MatMul', reason: 'it multiplies two computed tensors, and only products with constant weights become int8' },
    ]);
  });

  it('leaves an operator outside the list in float, and names it', () => {
    const graph = conv(`a = Conv(x, w1=float32[4, 4, 1, 1]#) @a
      m = Opaque<ai.onnx, Shrink, 1>(a) @shrink
      y = Conv(m, w2=float32[2, 4, 1, 1]#) @b
      return y`);
    expect(placement(graph)).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      a = Conv(x_dequantize, w1_dequantize)
      a_quantize = QuantizeLinear(a, group_1_scale, group_1_zero_point)
      a_dequantize = DequantizeLinear(a_quantize, group_1_scale, group_1_zero_point)
      m = Opaque<ai.onnx, Shrink, 1>(a_dequantize) @shrink
      m_quantize = QuantizeLinear(m, group_2_scale, group_2_zero_point)
      m_dequantize = DequantizeLinear(m_quantize, group_2_scale, group_2_zero_point)
      y_dequantize = Conv(m_dequantize, w2_dequantize) @b
      y_quantize = QuantizeLinear(y_dequantize, group_3_scale, group_3_zero_point)
      y = DequantizeLinear(y_quantize, group_3_scale, group_3_zero_point) @y_dequantize
      return y"
    `);
    expect(planOf(graph).float).toEqual([{ node: 'shrink', op: 'Shrink', reason: 'the operator is not in the list of docs/ops.md' }]);
  });

  it('clips the integers of a weight whose grid is narrower than int8', () => {
    const graph = conv(`y = Conv(x, w=float32[2, 4, 1, 1]#) @a
      return y`);
    const lines = outline(simulate(graph, planOf(graph), tableOf(graph, planOf(graph)))).filter((line) => line.startsWith('w_'));
    expect(lines).toEqual([
      'w_quantize = QuantizeLinear(w=[2, 4, 1, 1], w_scale=[2], w_zero_point=int8[2]{0}) {axis=0}',
      'w_range = Clip(w_quantize, w_qmin=int8[]{-63}, w_qmax=int8[]{63})',
      'w_dequantize = DequantizeLinear(w_range, w_scale, w_zero_point) {axis=0}',
    ]);
  });

  it('the example model, as it has always been', async () => {
    const path = fileURLToPath(new URL('../../../../examples/fashion-mnist/model.onnx', import.meta.url));
    const { graph } = await readModel(path, defaultLimits);
    rebatch(graph);
    await normalise(graph, { evaluate: runGraph });
    const plan = planOf(graph);
    expect(plan.float).toEqual([]);
    await expect(`${placement(graph)}\n`).toMatchFileSnapshot('./testing/fashion-mnist.txt');
  });
});

describe('ranges', () => {
  it('observes what moves elements in float, as nothing else tells its range', () => {
    const graph = conv(
      `f = Flatten(x)
      y = Gemm(f, w=float32[4, 3]#) @fc
      return y`,
      'float32[N, 1, 2, 2]',
    );
    expect(planOf(graph).activations).toEqual([{ value: 'f', group: 0, readers: ['fc'] }]);
  });

  it('knows those of Sigmoid and Tanh beforehand, through what moves them too', () => {
    const graph = conv(`a = Conv(x, w1=float32[2, 4, 1, 1]#) @a
      s = Sigmoid(a)
      f = Flatten(s)
      g = Gemm(f, w2=float32[32, 8]#) @fc
      t = Tanh(g)
      y = Gemm(t, w3=float32[8, 2]#) @last
      return y`);
    const plan = planOf(graph);
    expect(groupOf(plan, 'f')).toBe(groupOf(plan, 's'));
    expect(plan.groups[groupOf(plan, 's') as number]?.fixed).toEqual({ scale: 1 / 256, zeroPoint: 0 });
    expect(plan.groups[groupOf(plan, 't') as number]?.fixed).toEqual({ scale: 1 / 128, zeroPoint: 128 });
  });

  it('observes a group that joins a known range with another one', () => {
    const join = (second: string) =>
      conv(`a = Conv(x, w1=float32[2, 4, 1, 1]#) @a
        s = Sigmoid(a)
        t = ${second}(a)
        v = Conv(t, w2=float32[2, 2, 1, 1]#) @v
        c = Concat(s, t) {axis=1}
        z = Conv(c, w3=float32[2, 4, 1, 1]#) @z
        y = Concat(v, z) {axis=1}
        return y`);
    for (const second of ['Tanh', 'HardSwish']) {
      const plan = planOf(join(second));
      expect(groupOf(plan, 's')).toBe(groupOf(plan, 't'));
      expect(plan.groups[groupOf(plan, 's') as number]?.fixed).toBeUndefined();
    }
    const same = planOf(join('HardSigmoid'));
    expect(same.groups[groupOf(same, 's') as number]?.fixed).toEqual({ scale: 1 / 256, zeroPoint: 0 });
  });

  it('lets a Pad share the scale of its input only where it fills with 0', () => {
    const pad = (fill: number) =>
      planOf(
        conv(`a = Conv(x, w1=float32[2, 4, 1, 1]#) @a
          p = Pad(a, pads=int64[8]{0, 0, 1, 1, 0, 0, 1, 1}, fill=float32[]{${fill}})
          y = Conv(p, w2=float32[2, 2, 3, 3]#) @b
          return y`),
      );
    expect(groupOf(pad(0), 'p')).toBe(groupOf(pad(0), 'a'));
    expect(groupOf(pad(7), 'p')).not.toBe(groupOf(pad(7), 'a'));
    expect(pad(7).activations.find((point) => point.value === 'p')?.repeats).toBeUndefined();
  });
});

describe('what the recipe says', () => {
  const skipped = (recipe: Recipe) => planOf(cnn(), recipe).float.filter((entry) => entry.reason === 'left in float by the configuration');

  it('skips layers by name pattern and by operator', () => {
    expect(skipped(recipeWith({ layers: [{ name: 'conv?', skip: true }] })).map((entry) => entry.node)).toEqual(['conv1', 'conv2']);
    expect(skipped(recipeWith({ layers: [{ op: 'Gemm', skip: true }] })).map((entry) => entry.node)).toEqual(['fc']);
    expect(
      skipped(
        recipeWith({
          layers: [
            { op: 'Conv', skip: true },
            { name: 'conv2', skip: false },
          ],
        }),
      ).map((entry) => entry.node),
    ).toEqual(['conv1']);
  });

  it('takes the float path around a layer that is skipped', () => {
    expect(placement(cnn(), recipeWith({ layers: [{ name: 'conv2', skip: true }] }))).toMatchInlineSnapshot(`
      "x_quantize = QuantizeLinear(x, group_0_scale, group_0_zero_point)
      x_dequantize = DequantizeLinear(x_quantize, group_0_scale, group_0_zero_point)
      c1 = Conv(x_dequantize, w1_dequantize, b1_1=[4]) @conv1
      r1 = Relu(c1)
      r1_quantize = QuantizeLinear(r1, group_1_scale, group_1_zero_point)
      r1_dequantize = DequantizeLinear(r1_quantize, group_1_scale, group_1_zero_point)
      p1 = MaxPool(r1_dequantize) {kernel_shape=[2, 2], strides=[2, 2]}
      c2 = Conv(p1, w2=[6, 4, 3, 3]) @conv2
      f = Flatten(c2)
      f_quantize = QuantizeLinear(f, group_2_scale, group_2_zero_point)
      f_dequantize = DequantizeLinear(f_quantize, group_2_scale, group_2_zero_point)
      y = Gemm(f_dequantize, w3_dequantize, b3_1=[3]) @fc
      return y"
    `);
  });

  it.each([
    ['onnxruntime', { weight: [-63, 63], activation: [0, 255], axis: 0 }],
    ['x86', { weight: [-127, 127], activation: [0, 127], axis: 0 }],
    ['fbgemm', { weight: [-127, 127], activation: [0, 127], axis: 0 }],
    ['qnnpack', { weight: [-127, 127], activation: [0, 255], axis: undefined }],
  ] as const)('preset %s', (target, { weight, activation, axis }) => {
    const plan = planOf(cnn(), recipeWith({}, { target }));
    expect(plan.weights[0]?.grid).toEqual({ dtype: 'int8', qmin: weight[0], qmax: weight[1], symmetric: true });
    expect(plan.groups[0]?.grid).toEqual({ dtype: 'uint8', qmin: activation[0], qmax: activation[1], symmetric: false });
    expect(plan.weights.map((point) => point.axis)).toEqual(axis === undefined ? [undefined, undefined, undefined] : [0, 0, 1]);
  });

  it('reduces the range of weights and of activations separately, by layer', () => {
    const plan = planOf(
      cnn(),
      recipeWith({
        weights: { bits: 4, reduceRange: false },
        layers: [
          { name: 'conv2', weights: { bits: 8 }, activations: { bits: 4 } },
          { op: 'Gemm', weights: { reduceRange: true, perChannel: false } },
        ],
      }),
    );
    expect(plan.weights.map(({ grid, axis }) => [grid.qmin, grid.qmax, axis])).toEqual([
      [-7, 7, 0],
      [-127, 127, 0],
      [-3, 3, undefined],
    ]);
    expect(plan.activations.map(({ value, group }) => [value, plan.groups[group]?.grid.qmax])).toEqual([
      ['x', 255],
      ['r1', 255],
      ['p1', 255],
      ['c2', 15],
      ['f', 15],
    ]);
  });

  it('keeps the samples at 8 bits where activations have fewer, unless it is told otherwise', () => {
    const widths = (quantization: Parameters<typeof recipeWith>[0], rest = {}) => {
      const plan = planOf(cnn(), recipeWith({ activations: { bits: 4 }, ...quantization }, rest));
      return plan.activations.map(({ value, group }) => [value, plan.groups[group]?.grid.qmax]);
    };
    expect(widths({}).slice(0, 2)).toEqual([
      ['x', 255],
      ['r1', 15],
    ]);
    expect(widths({ inputBits: 4 })[0]).toEqual(['x', 15]);
    expect(widths({}, { target: 'x86' })[0]).toEqual(['x', 127]);
    expect(widths({ inputBits: 6, layers: [{ name: 'conv1', activations: { bits: 5 } }] }).slice(0, 2)).toEqual([
      ['x', 63],
      ['r1', 31],
    ]);
  });

  it('refuses per-channel weights that are asymmetric, and grids of one bit', () => {
    const asymmetric = refusal(() => planOf(cnn(), recipeWith({ weights: { symmetric: false } })));
    expect(asymmetric.code).toBe('CONFIG_IMPOSSIBLE');
    expect(asymmetric.place).toMatchObject({ node: 'conv1', op: 'Conv' });
    expect(planOf(cnn(), recipeWith({ weights: { symmetric: false, perChannel: false, reduceRange: false } })).weights[0]?.grid.qmin).toBe(
      -128,
    );
    expect(refusal(() => planOf(cnn(), recipeWith({ activations: { bits: 2, reduceRange: true } }))).code).toBe('CONFIG_IMPOSSIBLE');
  });

  it('refuses a model in which nothing can be int8, and names a layer', () => {
    const product = conv(
      `y = MatMul(x, x) @product
      return y`,
      'float32[N, 4, 4]',
    );
    const error = refusal(() => planOf(product));
    expect(error.code).toBe('MODEL_NOTHING_TO_QUANTIZE');
    expect(error.place).toEqual({ node: 'product', op: 'MatMul' });
    const bare = refusal(() => planOf(conv('y = Relu(x)\nreturn y')));
    expect(bare.message).toMatch(/it has no Conv, Gemm or MatMul, only Relu/);
    expect(refusal(() => planOf(cnn(), recipeWith({ layers: [{ name: '*', skip: true }] }))).code).toBe('MODEL_NOTHING_TO_QUANTIZE');
  });
});
