import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { targets } from '../choices.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { inspectRuntime } from '../evaluate/runtime.js';
import { exactArithmetic } from '../fakequant/exact.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { type ScaleTable, simulate } from '../fakequant/simulate.js';
import { observedTable, outline, planOf, recipeWith, tableOf } from '../fakequant/testing/plans.js';
import { writeOnnx } from '../formats/onnx/write.js';
import type { Graph } from '../ir/graph.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { defaultRecipe, type Recipe } from '../recipe.js';
import { roundHalfEven } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor, toNumbers } from '../tensor/tensor.js';
import { toQdq } from './qdq.js';

const engine = new OrtEngine();
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-qdq-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const net = (input: string, ...lines: string[]) => graphOf([`graph net (x: ${input}) opset 18`, ...lines].join('\n'));

/** Small nets with something of everything that becomes integer. */
const nets: Record<string, () => Graph> = {
  'Conv, Relu, MaxPool, Conv, Gemm': () =>
    net(
      'float32[N, 1, 8, 8]',
      'c1 = Conv(x, w1=float32[4, 1, 3, 3]#, b1=float32[4]#) @conv1',
      'r1 = Relu(c1)',
      'p1 = MaxPool(r1) {kernel_shape=[2, 2], strides=[2, 2]}',
      'c2 = Conv(p1, w2=float32[6, 4, 3, 3]#) @conv2',
      'f = Flatten(c2)',
      'y = Gemm(f, w3=float32[6, 3]#, b3=float32[3]#) @fc',
      'return y',
    ),
  'residual Add, pooling': () =>
    net(
      'float32[N, 4, 4, 4]',
      'a = Conv(x, w1=float32[4, 4, 3, 3]#, b1=float32[4]#) {pads=[1, 1, 1, 1]} @a',
      's = Add(a, x)',
      'r = Relu(s)',
      'g = GlobalAveragePool(r)',
      'f = Flatten(g)',
      'y = Gemm(f, w2=float32[4, 2]#) @b',
      'return y',
    ),
  'depthwise, ReLU6, last Conv': () =>
    net(
      'float32[N, 4, 6, 6]',
      'a = Conv(x, w1=float32[4, 1, 3, 3]#, b1=float32[4]#) {group=4, strides=[2, 2]} @dw',
      'c = Clip(a, lo=float32[]{0}, hi=float32[]{6})',
      'y = Conv(c, w2=float32[8, 4, 1, 1]#, b2=float32[8]#) @pw',
      'return y',
    ),
  'Concat, Sigmoid, Mul': () =>
    net(
      'float32[N, 4, 4, 4]',
      'a = Conv(x, w1=float32[2, 4, 1, 1]#) @a',
      'b = Conv(x, w2=float32[2, 4, 1, 1]#) @b',
      'c = Concat(a, b) {axis=1}',
      'd = Conv(c, w3=float32[4, 4, 1, 1]#) @d',
      's = Sigmoid(d)',
      'm = Mul(s, c)',
      'y = Conv(m, w4=float32[4, 4, 1, 1]#) @e',
      'return y',
    ),
  'Pad on integers': () =>
    net(
      'float32[N, 4, 4, 4]',
      'a = Conv(x, w1=float32[4, 4, 1, 1]#) @a',
      'p = Pad(a, pads=int64[8]{0, 0, 1, 1, 0, 0, 1, 1})',
      'y = Conv(p, w2=float32[2, 4, 3, 3]#) @b',
      'return y',
    ),
  'Pad with a number that is no zero': () =>
    net(
      'float32[N, 4, 4, 4]',
      'a = Conv(x, w1=float32[4, 4, 1, 1]#) @a',
      'p = Pad(a, pads=int64[8]{0, 0, 1, 1, 0, 0, 1, 1}, fill=float32[]{1})',
      'y = Conv(p, w2=float32[2, 4, 3, 3]#) @b',
      'return y',
    ),
  'MatMul and an opaque operator': () =>
    net(
      'float32[N, 3, 6]',
      'q = MatMul(x, w1=float32[6, 6]#) @q',
      'm = Opaque<ai.onnx, Shrink, 1>(q) @shrink',
      'y = MatMul(m, w2=float32[6, 2]#) @v',
      'return y',
    ),
};

const samples = (graph: Graph, count: number): Record<string, Tensor> => {
  const random = new Random(9);
  const shape = [count, ...(graph.inputs[0]!.shape!.slice(1) as number[])];
  return {
    x: Tensor.float32(
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
    ),
  };
};

async function converted(graph: Graph, recipe: Recipe = defaultRecipe()) {
  const plan = planOf(graph, recipe);
  const table = await observedTable(graph, plan, samples(graph, 64));
  return { plan, ...toQdq(graph, plan, table) };
}

/** Run a graph as a user's session would, every optimization on. */
async function infer(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
  const program = await engine.compile(graph, { threads: 1, mode: 'infer' });
  try {
    return await program.run(feeds);
  } finally {
    await program.dispose();
  }
}

async function train(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
  const program = await engine.compile(graph, { threads: 1, mode: 'train' });
  try {
    return await program.run(feeds);
  } finally {
    await program.dispose();
  }
}

/** Scale of the last quantizer: the size of one step of the output. */
const step = (plan: QuantPlan, table: ScaleTable) => table.activations.at(plan.activations.at(-1)?.group ?? 0)?.scale as number;

const constantOf = (graph: Graph, name: string) => graph.constants().find((value) => value.name === name)?.constant as Tensor;

describe('the int8 model computes what was simulated', () => {
  const recipes: Record<string, Recipe> = Object.fromEntries([
    ...targets.map((target) => [target, recipeWith({}, { target })] as const),
    ['4 bits', recipeWith({ weights: { bits: 4, reduceRange: false }, activations: { bits: 4 } })],
    ['symmetric activations', recipeWith({ activations: { symmetric: true } })],
    ['asymmetric weights per tensor', recipeWith({ weights: { symmetric: false, perChannel: false, reduceRange: false } })],
  ]);
  const cases = Object.keys(nets).flatMap((what) => Object.keys(recipes).map((how) => [what, how] as const));

  it.each(cases)('%s, %s', async (what, how) => {
    const graph = nets[what]?.() as Graph;
    const { plan, graph: artifact, table } = await converted(graph, recipes[how]);
    const feeds = samples(graph, 16);
    const [{ y: simulated }, { y: real }] = [await train(simulate(graph, plan, table), feeds), await infer(artifact, feeds)];
    const [a, b] = [toNumbers(simulated as Tensor), toNumbers(real as Tensor)];
    expect(b).toHaveLength(a.length);
    // Sums of floats are not exact as those of integers are: what lies between two steps may go to either side.
    const apart = Array.from(a, (v, i) => Math.abs(v - (b[i] as number)));
    const size = Math.max(...Array.from(a, Math.abs));
    expect(Math.max(...apart)).toBeLessThan(Math.max(2.01 * step(plan, table), 0.02 * size));
    expect(apart.filter((d) => d > 1e-5 * size).length).toBeLessThan(0.02 * a.length);
  });
});

describe('the simulation in exact sums', () => {
  const layers = ['Conv, Relu, MaxPool, Conv, Gemm', 'depthwise, ReLU6, last Conv', 'Pad on integers', 'MatMul and an opaque operator'];
  const recipes: Record<string, Recipe> = {
    default: defaultRecipe(),
    qnnpack: recipeWith({}, { target: 'qnnpack' }),
    '4 bits': recipeWith({ weights: { bits: 4, reduceRange: false }, activations: { bits: 4 } }),
    'symmetric activations': recipeWith({ activations: { symmetric: true } }),
  };

  it.each(layers.flatMap((what) => Object.keys(recipes).map((how) => [what, how] as const)))(
    'is the int8 model: %s, %s',
    async (what, how) => {
      const graph = nets[what]?.() as Graph;
      const { plan, graph: artifact, table } = await converted(graph, recipes[how]);
      const feeds = samples(graph, 64);
      const { y: exact } = await train(exactArithmetic(simulate(graph, plan, table)), feeds);
      const { y: real } = await infer(artifact, feeds);
      const size = Math.max(...Array.from(toNumbers(real as Tensor), Math.abs));
      const [a, b] = [toNumbers(exact as Tensor), toNumbers(real as Tensor)];
      expect(Math.max(...Array.from(a, (v, i) => Math.abs(v - (b[i] as number))))).toBeLessThan(1e-5 * size);
    },
  );

  it('leaves layers in float alone', () => {
    const graph = nets['MatMul and an opaque operator']?.() as Graph;
    const plan = planOf(graph, recipeWith({ layers: [{ name: 'v', skip: true }] }));
    const exact = exactArithmetic(simulate(graph, plan, tableOf(graph, plan)));
    expect(exact.nodes.filter((node) => node.op === 'MatMul').map((node) => node.name)).toEqual(['q_sum', 'v']);
  });
});

describe('what is written', () => {
  it('a net of everything, in full', async () => {
    const float = nets['Conv, Relu, MaxPool, Conv, Gemm']?.() as Graph;
    const plan = planOf(float);
    const { graph } = toQdq(
      float,
      plan,
      tableOf(float, plan, [
        { min: -2, max: 3 },
        { min: 0, max: 4 },
      ]),
    );
    expect(outline(graph).join('\n')).toMatchInlineSnapshot(`
      "w1_dequantize = DequantizeLinear(w1_int8=int8[4, 4, 1, 3], w1_scale=[4], w1_zero_point=int8[4]{0}) {axis=0}
      w2_dequantize = DequantizeLinear(w2_int8=int8[6, 4, 3, 3], w2_scale=[6], w2_zero_point=int8[6]{0}) {axis=0}
      w3_dequantize = DequantizeLinear(w3_int8=int8[6, 3], w3_scale=[3], w3_zero_point=int8[3]{0}) {axis=1}
      b1_dequantize = DequantizeLinear(b1_int32=int32[4]{-1847, 28, -1893, -1092}, b1_scale=[4], b1_zero_point=int32[4]{0}) {axis=0}
      b3_dequantize = DequantizeLinear(b3_int32=int32[3]{4447, 1168, -1772}, b3_scale=[3], b3_zero_point=int32[3]{0}) {axis=0}
      x_quantize = QuantizeLinear(x, x_scale=float32[]{0.019607844}, x_zero_point=uint8[]{102})
      conv1_rows = Gather(x_quantize, conv1_lines=int64[4, 6]) {axis=2}
      conv1_unfold = Reshape(conv1_rows, conv1_shape=int64[4]{0, 4, 6, 8})
      conv1_unfold_dequantize = DequantizeLinear(conv1_unfold, x_scale, x_zero_point)
      c1 = Conv(conv1_unfold_dequantize, w1_dequantize, b1_dequantize) {auto_pad="NOTSET", kernel_shape=[1, 3], pads=[0, 0, 0, 0], strides=[1, 1], dilations=[1, 1]} @conv1
      r1_quantize = QuantizeLinear(c1, r1_scale=float32[]{0.015686275}, r1_zero_point=uint8[]{0})
      r1_dequantize = DequantizeLinear(r1_quantize, r1_scale, r1_zero_point)
      p1 = MaxPool(r1_dequantize) {kernel_shape=[2, 2], strides=[2, 2]}
      p1_quantize = QuantizeLinear(p1, p1_scale=float32[]{0.015686275}, p1_zero_point=uint8[]{0})
      p1_dequantize = DequantizeLinear(p1_quantize, p1_scale, p1_zero_point)
      c2 = Conv(p1_dequantize, w2_dequantize) @conv2
      c2_quantize = QuantizeLinear(c2, c2_scale=float32[]{0.015686275}, c2_zero_point=uint8[]{64})
      c2_dequantize = DequantizeLinear(c2_quantize, c2_scale, c2_zero_point)
      f = Flatten(c2_dequantize)
      f_quantize = QuantizeLinear(f, f_scale=float32[]{0.015686275}, f_zero_point=uint8[]{64})
      f_dequantize = DequantizeLinear(f_quantize, f_scale, f_zero_point)
      y = Gemm(f_dequantize, w3_dequantize, b3_dequantize) @fc
      return y"
    `);
  });

  it('biases as int32, on the scale of the input times that of the weights', async () => {
    const float = nets['Conv, Relu, MaxPool, Conv, Gemm']?.() as Graph;
    const { graph, plan, table } = await converted(float);
    const input = table.activations[plan.activations.find((point) => point.value === 'x')?.group as number]?.scale as number;
    const scale = Float32Array.from(table.weights[0]?.scale as Float32Array, (s) => s * input);
    expect(constantOf(graph, 'b1_scale').data).toEqual(scale);
    const bias = constantOf(float, 'b1').data as Float32Array;
    expect(constantOf(graph, 'b1_int32')).toMatchObject({ dtype: 'int32', shape: [4] });
    expect(Array.from(constantOf(graph, 'b1_int32').data as Int32Array)).toEqual(
      Array.from(bias, (v, i) => roundHalfEven(v / (scale[i] as number))),
    );
    expect(new Set(constantOf(graph, 'b1_zero_point').data as Int32Array)).toEqual(new Set([0]));
  });

  it('a larger weight scale where the bias would not fit int32, with a note', async () => {
    const graph = net('float32[N, 2]', 'y = Gemm(x, w=float32[2, 2]{1e-8, 1, 1e-8, 1}, b=float32[2]{5000, -5000}) @fc', 'return y');
    const plan = planOf(graph);
    const before = await observedTable(graph, plan, samples(graph, 64));
    const { graph: artifact, notes, table } = toQdq(graph, plan, before);
    expect(notes).toEqual([{ node: 'fc', text: 'the scale of channel 0 was raised so that its bias fits int32' }]);
    expect(table.weights[0]?.scale[0]).toBeGreaterThan(before.weights[0]?.scale[0] as number);
    expect(table.weights[0]?.scale[1]).toBe(before.weights[0]?.scale[1]);
    const stored = constantOf(artifact, 'b_int32').data as Int32Array;
    expect(Math.abs(stored[0] as number)).toBeGreaterThan(2 ** 29);
    expect(Math.abs(stored[0] as number)).toBeLessThan(2 ** 31 - 1);
    const { y } = await infer(artifact, samples(graph, 4));
    for (let row = 0; row < 4; row++) expect((y as Tensor<'float32'>).data[2 * row]).toBeCloseTo(5000, 0);
  });

  it('the interface of the float model', async () => {
    for (const name of Object.keys(nets)) {
      const float = nets[name]?.() as Graph;
      const { graph } = await converted(float);
      const face = (g: Graph) => [...g.inputs, ...g.outputs].map((value) => [value.name, value.dtype, value.shape]);
      expect(face(graph)).toEqual(face(float));
      expect(graph.inputs[0]?.shape?.[0]).toBe('N');
    }
  });
});

describe('activations after a layer', () => {
  const body = (act: string) =>
    net('float32[N, 2]', 'h = Gemm(x, w1=float32[2, 2]#) @a', act, 'y = Gemm(r, w2=float32[2, 2]#) @b', 'return y');
  const left = (graph: Graph, range: { min: number; max: number }, recipe?: Recipe) => {
    const plan = planOf(graph, recipe);
    return toQdq(graph, plan, tableOf(graph, plan, [{ min: -1, max: 1 }, range])).graph.nodes.filter(
      (node) => node.op === 'Relu' || node.op === 'Clip',
    ).length;
  };
  const relu6 = 'r = Clip(h, lo=float32[]{0}, hi=float32[]{6})';

  it.each([
    ['Relu whose zero is the bottom of the grid', 'r = Relu(h)', { min: 0, max: 3 }, 0],
    ['Relu with the zero inside the grid', 'r = Relu(h)', { min: -1, max: 3 }, 1],
    ['ReLU6 on a grid that ends at 6', relu6, { min: 0, max: 6 }, 0],
    ['ReLU6 on a grid that ends before 6', relu6, { min: 0, max: 4 }, 0],
    ['ReLU6 on a grid that goes beyond 6', relu6, { min: 0, max: 6.1 }, 1],
    ['Clip from 1', 'r = Clip(h, lo=float32[]{1}, hi=float32[]{6})', { min: 0, max: 6 }, 1],
    ['Relu, then Clip', 'q = Relu(h)\nr = Clip(q, _, hi=float32[]{6})', { min: 0, max: 6 }, 0],
    ['Clip of which only the Relu below is exact', 'q = Clip(h, _, hi=float32[]{2})\nr = Relu(q)', { min: 0, max: 3 }, 1],
  ])('%s', (_what, act, range, wanted) => {
    expect(left(body(act), range)).toBe(wanted);
  });

  it('stays on a symmetric grid', () => {
    expect(left(body('r = Relu(h)'), { min: 0, max: 3 }, recipeWith({ activations: { symmetric: true } }))).toBe(1);
  });
});

describe('grids', () => {
  it.each([
    [4, false, -7, 7],
    [8, true, -63, 63],
    [2, false, -1, 1],
  ])('weights of %s bits, reduced %s, stay inside', async (bits, reduceRange, qmin, qmax) => {
    const { graph } = await converted(nets['Conv, Relu, MaxPool, Conv, Gemm']?.() as Graph, recipeWith({ weights: { bits, reduceRange } }));
    for (const name of ['w1', 'w2', 'w3']) {
      const integers = Array.from(constantOf(graph, `${name}_int8`).data as Int8Array);
      expect(Math.min(...integers)).toBeGreaterThanOrEqual(qmin);
      expect(Math.max(...integers)).toBeLessThanOrEqual(qmax);
      expect(Math.max(...integers.map(Math.abs))).toBe(qmax);
    }
  });

  it.each([
    [4, false, 15],
    [8, true, 127],
  ])('activations of %s bits, reduced %s, stay inside for any input', async (bits, reduceRange, qmax) => {
    const float = nets['Conv, Relu, MaxPool, Conv, Gemm']?.() as Graph;
    const { graph } = await converted(float, recipeWith({ inputBits: bits, activations: { bits, reduceRange } }));
    const clips = graph.nodes
      .filter((node) => node.op === 'DequantizeLinear' && node.input(0).dtype === 'uint8')
      .map((node) => node.input(0));
    expect(clips.length).toBe(5);
    graph.outputs.splice(0, graph.outputs.length, ...clips);
    const wild = samples(float, 8);
    (wild.x as Tensor<'float32'>).data.forEach((v, i, all) => {
      all[i] = v * 1e4;
    });
    for (const tensor of Object.values(await infer(graph, wild))) {
      expect(tensor.dtype).toBe('uint8');
      expect(Math.max(...(tensor.data as Uint8Array))).toBeLessThanOrEqual(qmax);
    }
  });
});

describe('what ONNX Runtime makes of it', () => {
  const integers = async (graph: Graph, recipe?: Recipe) => {
    const { graph: artifact } = await converted(graph, recipe);
    const path = join(directory, 'model.onnx');
    await writeFile(path, writeOnnx(artifact));
    return inspectRuntime({ engine, path, threads: 1, feeds: samples(graph, 1), directory, runs: 1 });
  };

  it.each([
    ['Conv, Relu, MaxPool, Conv, Gemm', { QLinearConv: 2, QGemm: 1 }],
    ['residual Add, pooling', { QLinearConv: 1, QLinearAdd: 1, QLinearGlobalAveragePool: 1 }],
    ['depthwise, ReLU6, last Conv', { QLinearConv: 2 }],
    ['Concat, Sigmoid, Mul', { QLinearConv: 4, QLinearSigmoid: 1, QLinearMul: 1, QLinearConcat: 1 }],
    ['Pad on integers', { QLinearConv: 2, Pad: 1 }],
  ])('%s: integer kernels and nothing in float', async (what, wanted) => {
    const figures = await integers(nets[what]?.() as Graph);
    expect(figures.byOp).toMatchObject(wanted);
    expect(figures.floatNodes).toBe(0);
    expect(figures.byOp.Conv).toBeUndefined();
    expect(figures.byOp.QuantizeLinear).toBe(1);
    expect(figures.byOp.DequantizeLinear ?? 0).toBeLessThanOrEqual(1);
  });
});

/** VPMADDUBSW: two products of u8 and s8, added in int16 that saturates. */
const pair = (u1: number, s1: number, u2: number, s2: number) => Math.max(-32_768, Math.min(32_767, u1 * s1 + u2 * s2));

describe('x86 without VNNI adds pairs in saturating int16', () => {
  it.each([
    ['onnxruntime', true],
    ['x86', true],
    ['fbgemm', true],
    ['qnnpack', false],
  ] as const)('the grids of %s are safe from it: %s', (target, safe) => {
    const plan = planOf(nets['Conv, Relu, MaxPool, Conv, Gemm']?.() as Graph, recipeWith({}, { target }));
    const { qmin, qmax } = plan.weights[0]!.grid;
    const top = plan.groups[0]!.grid.qmax;
    const corners = [qmin, qmax].flatMap((s1) => [qmin, qmax].map((s2) => pair(top, s1, top, s2) === top * s1 + top * s2));
    expect(corners.every(Boolean)).toBe(safe);
  });

  it('dot products keep their sum with weights of 7 bits, and lose it with 8', () => {
    const random = new Random(4);
    const dot = (largest: number) => {
      let [exact, kernel] = [0, 0];
      for (let i = 0; i < 256; i += 2) {
        // Weights that agree in sign where the activations are large, as in a channel of few bits of pattern.
        const [u1, u2] = [255 - random.below(20), 255 - random.below(20)];
        const [s1, s2] = [largest - random.below(8), largest - random.below(8)];
        exact += u1 * s1 + u2 * s2;
        kernel += pair(u1, s1, u2, s2);
      }
      return { exact, kernel };
    };
    const seven = dot(63);
    expect(seven.kernel).toBe(seven.exact);
    const eight = dot(127);
    expect(eight.kernel).toBeLessThan(0.6 * eight.exact);
  });
});
