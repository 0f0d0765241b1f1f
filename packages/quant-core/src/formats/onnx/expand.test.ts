import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { defaultLimits } from '../../events.js';
import { inferShapes } from '../../ir/infer.js';
import { parse } from '../../ir/text.js';
import { difference, randomFeeds, runGraph } from '../../normalise/testing/oracle.js';
import { Tensor } from '../../tensor/tensor.js';
import { float, floats, info, int, modelBytes, node, ramp, runModel, text } from '../../testing/onnx.js';
import { parseOnnx, readOnnx } from './read.js';
import type { AttributeProto, NodeProto } from './schema.js';
import { writeOnnx } from './write.js';

const microsoft = (op: string, input: string[], output: string[], attributes: AttributeProto[] = []): NodeProto =>
  node(op, input, output, attributes, { domain: 'com.microsoft' });

const both = {
  opsetImport: [
    { domain: '', version: 18 },
    { domain: 'com.microsoft', version: 1 },
  ],
};
const vector = (length: number): Tensor => Tensor.float32([length], ramp(length));
const matrix = (...shape: number[]): Tensor => Tensor.float32(shape, ramp(shape.reduce((a, b) => a * b, 1)));

interface Case {
  what: string;
  nodes: NodeProto[];
  shape?: number[];
  initializers?: Record<string, Tensor>;
  outputs?: string[];
  /** Operators after the expansion. */
  ops: string[];
  opset?: number;
}

const geluOps = ['Mul', 'Erf', 'Add', 'Mul', 'Mul'];
const tanhOps = ['Mul', 'Mul', 'Add', 'Mul', 'Mul', 'Tanh', 'Add', 'Mul', 'Mul'];
const normWeights = { g: vector(4), b: Tensor.float32([4], [1, 2, 3, 4]), d: Tensor.float32([4], [0.5, 0, 1, 2]), k: matrix(2, 3, 4) };

const cases: Case[] = [
  { what: 'Gelu', nodes: [microsoft('Gelu', ['x'], ['y'])], ops: geluOps },
  { what: 'Gelu, opset 20', nodes: [microsoft('Gelu', ['x'], ['y'])], ops: ['Gelu'], opset: 20 },
  { what: 'BiasGelu', nodes: [microsoft('BiasGelu', ['x', 'b'], ['y'])], initializers: { b: vector(4) }, ops: ['Add', ...geluOps] },
  { what: 'FastGelu', nodes: [microsoft('FastGelu', ['x', 'b'], ['y'])], initializers: { b: vector(4) }, ops: ['Add', ...tanhOps] },
  { what: 'FastGelu, opset 21', nodes: [microsoft('FastGelu', ['x'], ['y'])], ops: ['Gelu'], opset: 21 },
  { what: 'QuickGelu', nodes: [microsoft('QuickGelu', ['x'], ['y'], [float('alpha', 1.5)])], ops: ['Mul', 'Sigmoid', 'Mul'] },
  ...['Relu', 'Sigmoid', 'Tanh', 'HardSwish'].map((activation) => ({
    what: `FusedConv with ${activation}`,
    nodes: [microsoft('FusedConv', ['x', 'w', 'b', 'z'], ['y'], [text('activation', activation)])],
    shape: [1, 2, 4, 4],
    initializers: { w: matrix(3, 2, 3, 3), b: vector(3), z: matrix(1, 3, 2, 2) },
    ops: ['Conv', 'Add', activation],
  })),
  {
    what: 'FusedConv with LeakyRelu',
    nodes: [microsoft('FusedConv', ['x', 'w'], ['y'], [text('activation', 'LeakyRelu'), floats('activation_params', [0.3])])],
    shape: [1, 2, 4, 4],
    initializers: { w: matrix(3, 2, 3, 3) },
    ops: ['Conv', 'LeakyRelu'],
  },
  {
    what: 'FusedConv with Clip',
    nodes: [microsoft('FusedConv', ['x', 'w'], ['y'], [text('activation', 'Clip'), floats('activation_params', [-1, 2])])],
    shape: [1, 2, 4, 4],
    initializers: { w: matrix(3, 2, 3, 3) },
    ops: ['Conv', 'Clip'],
  },
  {
    what: 'FusedGemm',
    nodes: [
      microsoft('FusedGemm', ['x', 'w', 'b'], ['y'], [int('transB', 1), text('activation', 'LeakyRelu'), float('activation_alpha', 0.2)]),
    ],
    shape: [3, 4],
    initializers: { w: matrix(5, 4), b: vector(5) },
    ops: ['Gemm', 'LeakyRelu'],
  },
  {
    what: 'FusedMatMul',
    nodes: [microsoft('FusedMatMul', ['x', 'w'], ['y'], [int('transB', 1), float('alpha', 0.5)])],
    initializers: { w: matrix(5, 4) },
    ops: ['Transpose', 'MatMul', 'Mul'],
  },
  {
    what: 'FusedMatMul, both turned',
    nodes: [microsoft('FusedMatMul', ['x', 'w'], ['y'], [int('transA', 1), int('transB', 1)])],
    initializers: { w: matrix(2, 5, 3) },
    ops: ['Transpose', 'Transpose', 'MatMul'],
  },
  {
    what: 'SkipLayerNormalization',
    nodes: [microsoft('SkipLayerNormalization', ['x', 'k', 'g', 'b', 'd'], ['y', '', '', 's'], [float('epsilon', 0.01)])],
    initializers: normWeights,
    outputs: ['y', 's'],
    ops: ['Add', 'Add', 'LayerNormalization', 'Identity'],
  },
  {
    what: 'SkipSimplifiedLayerNormalization',
    nodes: [microsoft('SkipSimplifiedLayerNormalization', ['x', 'k', 'g'], ['y'], [float('epsilon', 0.01)])],
    initializers: normWeights,
    ops: ['Add', 'Mul', 'ReduceMean', 'Add', 'Sqrt', 'Div', 'Mul'],
  },
  {
    what: 'SimplifiedLayerNormalization, opset 23',
    nodes: [node('SimplifiedLayerNormalization', ['x', 'g'], ['y'], [float('epsilon', 0.01), int('axis', -1)])],
    initializers: normWeights,
    ops: ['RMSNormalization'],
    opset: 23,
  },
  {
    what: 'Attention',
    nodes: [microsoft('Attention', ['x', 'w', 'b'], ['y'], [int('num_heads', 2)])],
    initializers: { w: matrix(4, 12), b: vector(12) },
    ops: 'MatMul Add Split Reshape Transpose Reshape Transpose MatMul Mul Softmax Reshape Transpose MatMul Transpose Reshape'.split(' '),
  },
  { what: 'Sum', nodes: [node('Sum', ['x', 'b', 'k'], ['y'])], initializers: { b: vector(4), k: matrix(2, 3, 4) }, ops: ['Add', 'Add'] },
  { what: 'Sum of one', nodes: [node('Sum', ['x'], ['y'])], ops: ['Identity'] },
  {
    what: 'Mean',
    nodes: [node('Mean', ['x', 'b', 'k'], ['y'])],
    initializers: { b: vector(4), k: matrix(2, 3, 4) },
    ops: ['Add', 'Add', 'Mul'],
  },
];

const modelOf = ({ nodes, shape = [2, 3, 4], initializers = {}, outputs = ['y'], opset = 18 }: Omit<Case, 'ops' | 'what'>) =>
  modelBytes({
    nodes,
    inputs: [info('x', shape)],
    outputs: outputs.map((name) => info(name, undefined)),
    initializers,
    model: { ...both, opsetImport: [{ domain: '', version: opset }, both.opsetImport[1] as object] },
  });

describe('expansions', () => {
  it.each(cases)('$what computes the same in standard operators', async ({ ops, ...rest }) => {
    const before = modelOf(rest);
    const graph = readOnnx(before);
    inferShapes(graph);
    expect(graph.nodes.map(({ opName }) => opName).sort()).toEqual([...ops].sort());
    const shape = rest.shape ?? [2, 3, 4];
    const feeds: Record<string, [number[], number[]]> = { x: [ramp(shape.reduce((a, b) => a * b, 1)), shape] };
    const [wanted, got] = [await runModel(before, feeds), await runModel(writeOnnx(graph), feeds)];
    expect(Object.keys(got)).toEqual(Object.keys(wanted));
    for (const [name, { data, dims }] of Object.entries(wanted)) {
      expect(got[name]?.dims).toEqual(dims);
      for (const [i, value] of data.entries()) expect(got[name]?.data[i]).toBeCloseTo(value, 4);
    }
    for (const output of graph.outputs) expect(output.shape).toEqual(wanted[output.name]?.dims);
  });

  it.each([
    ['statistics that are read', [microsoft('SkipLayerNormalization', ['x', 'x', 'g'], ['z', 'mean']), node('Add', ['z', 'mean'], ['y'])]],
    ['a mask', [microsoft('Attention', ['x', 'w', 'b', 'm'], ['y'], [int('num_heads', 2)])]],
    ['an activation that is not known', [microsoft('FusedConv', ['x', 'w'], ['y'], [text('activation', 'Cosine')])]],
  ])('leaves %s to the runtime', (_, nodes) => {
    const initializers = { g: vector(4), w: matrix(4, 12), b: vector(12), m: Tensor.int64([2], [1, 1]) };
    const graph = readOnnx(modelOf({ nodes, initializers }));
    expect(graph.nodes[0]?.op).toBe('Opaque');
  });
});

describe('what the optimizer of ONNX Runtime makes of a net', () => {
  const folder = mkdtempSync(join(tmpdir(), 'octet-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  const nets: Record<string, string> = {
    convolutions: `graph g (x: float32[2, 4, 6, 6]) opset 18
      a = Conv(x, w1=float32[8, 4, 3, 3]{0.1}, b1=float32[8]{0.2}) {pads=[1, 1, 1, 1]}
      r = Relu(a)
      c = Conv(r, w2=float32[8, 8, 1, 1]{0.05}, b2=float32[8]{0.1})
      s = Add(c, r)
      t = Relu(s)
      d = Conv(t, w3=float32[4, 8, 3, 3]{0.03})
      y = Sigmoid(d)
      return y`,
    transformer: `graph g (x: float32[2, 3, 8]) opset 18
      q = MatMul(x, wq=float32[8, 8]{0.1})
      k = MatMul(x, wk=float32[8, 8]{0.2})
      kt = Transpose(k) {perm=[0, 2, 1]}
      p = MatMul(q, kt)
      ps = Mul(p, scale=float32[]{0.35})
      a = Softmax(ps)
      v = MatMul(a, x)
      h = Add(v, x)
      n = LayerNormalization(h, g=float32[8]{1.5}, b=float32[8]{0.5})
      f = MatMul(n, wf=float32[8, 16]{0.05})
      fb = Add(f, bf=float32[16]{0.1})
      div = Div(fb, root=float32[]{1.4142135})
      erf = Erf(div)
      one = Add(erf, unit=float32[]{1})
      both = Mul(fb, one)
      g1 = Mul(both, half=float32[]{0.5})
      y = MatMul(g1, wo=float32[16, 4]{0.1})
      return y`,
  };

  it.each(Object.keys(nets))('%s', async (name) => {
    const graph = parse(nets[name] as string);
    inferShapes(graph);
    const path = join(folder, `${name}.onnx`);
    const session = await ort.InferenceSession.create(writeOnnx(graph), {
      graphOptimizationLevel: 'extended',
      optimizedModelFilePath: path,
      logSeverityLevel: 4,
    });
    await session.release();
    const file = readFileSync(path);
    expect(Object.keys(parseOnnx(file, defaultLimits).source.ops).filter((op) => op.startsWith('com.microsoft.'))).not.toEqual([]);
    const optimized = readOnnx(file);
    inferShapes(optimized);
    expect(optimized.nodes.filter(({ op }) => op === 'Opaque' || op === 'FusedMatMul').map(({ opName }) => opName)).toEqual([]);
    const feeds = randomFeeds(graph);
    expect(difference(await runGraph(graph, feeds), await runGraph(optimized, feeds))).toBeLessThan(1e-4);
  });
});

it('says where a file with kernels of the optimizer comes from', () => {
  const bytes = modelBytes({
    nodes: [node('ReorderInput', ['x'], ['y'], [], { domain: 'com.microsoft.nchwc' })],
    model: {
      opsetImport: [
        { domain: '', version: 18 },
        { domain: 'com.microsoft.nchwc', version: 1 },
      ],
    },
  });
  expect(() => readOnnx(bytes)).toThrow(
    expect.objectContaining({ code: 'MODEL_UNSUPPORTED_OP', hint: expect.stringContaining('the model it was made from') }),
  );
});

it('says that operators of onnxruntime-extensions come before or after a network', () => {
  const domain = 'com.microsoft.extensions';
  const bytes = modelBytes({
    nodes: [node('DecodeImage', ['x'], ['y'], [], { domain })],
    model: {
      opsetImport: [
        { domain: '', version: 18 },
        { domain, version: 1 },
      ],
    },
  });
  expect(() => readOnnx(bytes)).toThrow(
    expect.objectContaining({ code: 'MODEL_UNSUPPORTED_OP', hint: expect.stringContaining('Send the network without them') }),
  );
});
