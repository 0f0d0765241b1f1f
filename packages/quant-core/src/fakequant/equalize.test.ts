import { describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import type { Graph, Node } from '../ir/graph.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { equalize, hasOutlierChannel } from './equalize.js';
import { layerPairs } from './pairs.js';
import { planOf } from './testing/plans.js';

const engine = new OrtEngine();

const batch = (shape: readonly number[], seed = 1) => {
  const random = new Random(seed);
  return Tensor.float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );
};
const only = (x: Tensor) =>
  async function* () {
    yield { x };
  };

/** Channels of the weights of very different size, as folded batch norm leaves them. */
function uneven(graph: Graph): Graph {
  for (const value of graph.constants()) {
    const tensor = value.constant as Tensor<'float32'>;
    if (!/^[wb]\d/.test(value.name)) continue;
    const each = value.name.startsWith('b') || /^wm/.test(value.name) ? 1 : tensor.size / (tensor.shape[0] as number);
    value.constant = Tensor.float32(
      tensor.shape,
      tensor.data.map((v, i) => v * 4 ** ((Math.floor(i / each) % 4) - 2)),
    );
  }
  return graph;
}

const equalized = async (text: string, shape: readonly number[]) => {
  const graph = uneven(graphOf(`graph net (${text.split('|')[0]}) opset 18\n${text.split('|')[1]}`));
  const x = batch(shape);
  const result = await equalize(graph, planOf(graph), only(x), engine);
  const [before, after] = [await runGraph(graph, { x }), await runGraph(result.graph, { x })];
  const [wanted, found] = [before.y?.data as Float32Array, after.y?.data as Float32Array];
  const size = wanted.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  const off = wanted.reduce((a, v, i) => Math.max(a, Math.abs(v - (found[i] as number))), 0) / size;
  return { before: graph, after: result.graph, off, names: result.pairs.map(({ first, second }) => `${first}-${second}`) };
};

const largest = (values: Iterable<number>) => [...values].reduce((a, v) => Math.max(a, Math.abs(v)), 0);
const weight = (graph: Graph, node: string) => graph.nodes.find((one) => one.name === node)?.input(1).constant as Tensor<'float32'>;

const image = [4, 2, 8, 8];

describe('cross-layer equalization', () => {
  it.each([
    [
      'Relu between two Conv',
      'x: float32[N, 2, 8, 8]|    a = Conv(x, w1=float32[8, 2, 3, 3]#, b1=float32[8]#) @a\n    r = Relu(a)\n    y = Conv(r, w2=float32[4, 8, 3, 3]#) @b\n    return y',
      image,
      ['a-b'],
    ],
    [
      'nothing between',
      'x: float32[N, 2, 8, 8]|    a = Conv(x, w1=float32[8, 2, 3, 3]#, b1=float32[8]#) @a\n    y = Conv(a, w2=float32[4, 8, 3, 3]#) @b\n    return y',
      image,
      ['a-b'],
    ],
    [
      'a depthwise Conv in the middle of a chain',
      'x: float32[N, 2, 8, 8]|    a = Conv(x, w1=float32[8, 2, 1, 1]#, b1=float32[8]#) @a\n    r = Relu(a)\n    d = Conv(r, w2=float32[8, 1, 3, 3]#, b2=float32[8]#) {group=8, pads=[1, 1, 1, 1]} @d\n    s = LeakyRelu(d) {alpha=0.2}\n    y = Conv(s, w3=float32[4, 8, 1, 1]#, b3=float32[4]#) @p\n    return y',
      image,
      ['a-d', 'd-p'],
    ],
    [
      'groups',
      'x: float32[N, 2, 8, 8]|    a = Conv(x, w1=float32[8, 2, 1, 1]#, b1=float32[8]#) @a\n    r = Relu(a)\n    y = Conv(r, w2=float32[6, 4, 3, 3]#) {group=2} @g\n    return y',
      image,
      ['a-g'],
    ],
    [
      'pooling, padding and flattening',
      'x: float32[N, 2, 8, 8]|    a = Conv(x, w1=float32[8, 2, 3, 3]#, b1=float32[8]#) @a\n    r = PRelu(a, slope=float32[8, 1, 1]#)\n    q = Pad(r, pads=int64[8]{0, 0, 1, 1, 0, 0, 1, 1})\n    m = MaxPool(q) {kernel_shape=[2, 2], strides=[2, 2]}\n    v = AveragePool(m) {kernel_shape=[2, 2]}\n    f = Flatten(v)\n    y = Gemm(f, w2=float32[72, 5]#, b2=float32[5]#) @fc\n    return y',
      image,
      ['a-fc'],
    ],
    [
      'Gemm with transposed weights',
      'x: float32[N, 6]|    a = Gemm(x, w1=float32[8, 6]#, b1=float32[8]#) {transB=1} @a\n    r = Relu(a)\n    y = Gemm(r, w2=float32[5, 8]#, b2=float32[5]#) {transB=1} @b\n    return y',
      [16, 6],
      ['a-b'],
    ],
    [
      'MatMul with its bias in an Add',
      'x: float32[N, 3, 6]|    a = MatMul(x, wm1=float32[6, 8]#) @a\n    p = Add(a, b1=float32[8]#)\n    r = Relu(p)\n    y = MatMul(r, wm2=float32[8, 5]#) @b\n    return y',
      [4, 3, 6],
      ['a-b'],
    ],
  ] as const)('%s: other weights, the same result', async (_, text, shape, names) => {
    const { before, after, off, ...rest } = await equalized(text, shape);
    expect(rest.names).toEqual(names);
    expect(off).toBeLessThan(1e-5);
    for (const layer of names.flatMap((pair) => pair.split('-'))) expect(weight(after, layer).data).not.toEqual(weight(before, layer).data);
  });

  it('makes the ranges of both sides equal, channel by channel, where no peak is in the way', async () => {
    const text =
      'x: float32[N, 6]|    a = Gemm(x, v1=float32[8, 6]#, b1=float32[8]#) {transB=1} @a\n    r = Relu(a)\n    y = Gemm(r, wm2=float32[8, 5]#) @b\n    return y';
    const { before, after } = await equalized(text, [64, 6]);
    const spread = (of: Graph) => {
      const [w1, w2] = [weight(of, 'a'), weight(of, 'b')];
      const ratios = Array.from(
        { length: 8 },
        (_, i) => largest(w1.data.subarray(6 * i, 6 * i + 6)) / largest(w2.data.subarray(5 * i, 5 * i + 5)),
      );
      return Math.max(...ratios) / Math.min(...ratios);
    };
    expect(spread(before)).toBeGreaterThan(1.5);
    expect(spread(after)).toBeCloseTo(1, 3);
  });

  it('lets no activation grow beyond the peak that it had', async () => {
    const graph = uneven(
      graphOf(`graph net (x: float32[N, 6]) opset 18
        a = Gemm(x, w1=float32[8, 6]#, b1=float32[8]#) {transB=1} @a
        r = Relu(a)
        z = Gemm(r, w2=float32[5, 8]#) {transB=1} @b
        return r, z`),
    );
    // A dead channel: small weights after a large bias, which equal ranges alone would scale up.
    const first = graph.nodes[0] as Node;
    for (let k = 0; k < 6; k++) weight(graph, 'a').data[k] = 0.001 * (k + 1);
    (first.input(2).constant?.data as Float32Array)[0] = 50;
    // r is an output here, so that it can be looked at; the pass sees the graph without that.
    const x = batch([64, 6]);
    const hidden = graph.clone();
    hidden.outputs.splice(0, 1);
    const result = await equalize(hidden, planOf(hidden), only(x), engine);
    result.graph.outputs.push(result.graph.values().find((value) => value.name === 'r') as never);
    const [before, after] = [await runGraph(graph, { x }), await runGraph(result.graph, { x })];
    expect(result.pairs).toHaveLength(1);
    expect(largest(after.r?.data as Float32Array)).toBeLessThanOrEqual(largest(before.r?.data as Float32Array) * 1.0001);
  });

  it('a Clip from 0: channels that reach its bound keep their scale, the rest computes the same on the samples', async () => {
    const graph = uneven(
      graphOf(`graph net (x: float32[N, 6]) opset 18
        a = Gemm(x, w1=float32[8, 6]#, b1=float32[8]#) {transB=1} @a
        r = Clip(a, low=float32[]{0}, high=float32[]{6})
        y = Gemm(r, w2=float32[5, 8]#) {transB=1} @b
        return y`),
    );
    const x = batch([64, 6]);
    const result = await equalize(graph, planOf(graph), only(x), engine);
    const [before, after] = [await runGraph(graph, { x }), await runGraph(result.graph, { x })];
    const found = after.y?.data as Float32Array;
    before.y?.as('float32').data.forEach((v, i) => {
      expect(found[i]).toBeCloseTo(v, 3);
    });
    const rows = (of: Graph, i: number) => Array.from(weight(of, 'a').data.subarray(6 * i, 6 * i + 6));
    const kept = Array.from({ length: 8 }, (_, i) => i).filter((i) => rows(graph, i).every((v, k) => v === rows(result.graph, i)[k]));
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThan(8);
  });

  it('channels of zeros stay finite and as they are', async () => {
    const graph = graphOf(`graph net (x: float32[N, 6]) opset 18
      a = Gemm(x, w1=float32[4, 6]#, b1=float32[4]#) {transB=1} @a
      r = Relu(a)
      y = Gemm(r, w2=float32[5, 4]#) {transB=1} @b
      return y`);
    const first = weight(graph, 'a');
    first.data.fill(0, 0, 6);
    for (let row = 0; row < 5; row++) weight(graph, 'b').data[row * 4 + 1] = 0;
    const result = await equalize(graph, planOf(graph), only(batch([16, 6])), engine);
    expect(Array.from(weight(result.graph, 'a').data).every(Number.isFinite)).toBe(true);
    expect(Array.from(weight(result.graph, 'a').data.subarray(0, 12))).toEqual(Array.from(first.data.subarray(0, 12)));
    const bias = (of: Graph) => Array.from(of.nodes[0]?.input(2).constant?.data as Float32Array).slice(0, 2);
    expect(bias(result.graph)).toEqual(bias(graph));
  });

  it('leaves the graph it was given as it was', async () => {
    const text =
      'x: float32[N, 6]|    a = Gemm(x, w1=float32[8, 6]#) {transB=1} @a\n    y = Gemm(a, w2=float32[5, 8]#) {transB=1} @b\n    return y';
    const graph = uneven(graphOf(`graph net (${text.split('|')[0]}) opset 18\n${text.split('|')[1]}`));
    const before = graph.constants().map((value) => Array.from(value.constant!.raw));
    await equalize(graph, planOf(graph), only(batch([8, 6])), engine);
    expect(graph.constants().map((value) => Array.from(value.constant!.raw))).toEqual(before);
  });
});

describe('pairs that are none', () => {
  const conv = 'a = Conv(x, w1=float32[4, 2, 3, 3]#, b1=float32[4]#) {pads=[1, 1, 1, 1]} @a';
  const next = (from: string) => `y = Conv(${from}, w2=float32[4, 4, 3, 3]#) {pads=[1, 1, 1, 1]} @b`;
  it.each([
    ['a Sigmoid does not scale along', `${conv}\nr = Sigmoid(a)\n${next('r')}\nreturn y`],
    ['a Clip from below 0', `${conv}\nr = Clip(a, low=float32[]{-1}, high=float32[]{1})\n${next('r')}\nreturn y`],
    [
      'two activations one after the other',
      `${conv}\nq = Relu(a)\nr = Clip(q, low=float32[]{0}, high=float32[]{6})\n${next('r')}\nreturn y`,
    ],
    ['another reader', `${conv}\nr = Relu(a)\n${next('r')}\nz = Add(y, r)\nreturn z`],
    ['a result of the model', `${conv}\nr = Relu(a)\n${next('r')}\nreturn y, r`],
    ['a constant that is added', `${conv}\nr = Add(a, c=float32[4, 1, 1]#)\n${next('r')}\nreturn y`],
    ['padding with 1', `${conv}\nr = Pad(a, p=int64[8]{0, 0, 1, 1, 0, 0, 1, 1}, one=float32[]{1})\n${next('r')}\nreturn y`],
    [
      'padding of channels',
      `q = Conv(x, w1=float32[2, 2, 3, 3]#) @a\nr = Pad(q, p=int64[8]{0, 1, 0, 0, 0, 1, 0, 0})\n${next('r')}\nreturn y`,
    ],
    ['weights that two layers share', `a = Conv(x, w=float32[2, 2, 3, 3]#) @a\nr = Relu(a)\ny = Conv(r, w) @b\nreturn y`],
    ['a transposed image', `${conv}\nr = Transpose(a) {perm=[0, 1, 3, 2]}\n${next('r')}\nreturn y`],
  ])('%s', (_, body) => {
    const graph = graphOf(`graph net (x: float32[N, 2, 8, 8]) opset 18\n${body}`);
    expect(layerPairs(graph, planOf(graph)).map(({ first, second }) => `${first.name}-${second.name}`)).toEqual([]);
  });

  it('a layer that the plan leaves in float', () => {
    const graph = graphOf(`graph net (x: float32[N, 2, 8, 8]) opset 18\n${conv}\nr = Relu(a)\n${next('r')}\nreturn y`);
    const plan = planOf(graph);
    expect(layerPairs(graph, plan)).toHaveLength(1);
    expect(layerPairs(graph, { ...plan, weights: plan.weights.slice(0, 1) })).toEqual([]);
  });
});

describe('a channel that dwarfs the others', () => {
  const loud = (factor: number) => {
    const graph = graphOf(
      'graph net (x: float32[N, 6]) opset 18\n    a = Gemm(x, w1=float32[8, 6]#, b1=float32[8]#) {transB=1} @a\n    r = Relu(a)\n    y = Gemm(r, w2=float32[5, 8]#) {transB=1} @b\n    return y',
    );
    for (const value of graph.constants()) {
      const tensor = value.constant as Tensor<'float32'>;
      const each = value.name === 'w1' ? 6 : 1;
      if (/^[wb]1/.test(value.name))
        value.constant = Tensor.float32(
          tensor.shape,
          tensor.data.map((v, i) => (Math.floor(i / each) === 3 ? v * factor : v)),
        );
    }
    return graph;
  };

  it.each([
    [1, false],
    [30, true],
    [300, true],
  ])('%i times as large: %s', async (factor, found) => {
    const graph = loud(factor);
    expect(await hasOutlierChannel(graph, planOf(graph), only(batch([64, 6])), engine)).toBe(found);
  });
});
