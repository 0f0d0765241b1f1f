import { expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { Graph, type Value } from '../ir/graph.js';
import { affineFromRange } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { type ComparedTensor, comparisonGraph } from './comparison.js';
import { layerErrors } from './layers.js';
import { layerBytes } from './sizes.js';
import { qdqGraph } from './testing/models.js';

const grid = { dtype: 'uint8', qmin: 0, qmax: 255, symmetric: false } as const;
const params = affineFromRange(-1, 1, grid);

/** x [N, 4] · 2 → `a`, + x → `b`; with `steps`, a and b are quantized on the grid of -1 … 1. */
function twoLayers(steps: boolean): Graph {
  const graph = new Graph();
  const x = graph.input('x', { dtype: 'float32', shape: ['N', 4] });
  const scale = graph.constant('s', Tensor.scalar(params.scale));
  const zero = graph.constant('z', new Tensor('uint8', [], Uint8Array.of(params.zeroPoint)));
  const end = (op: 'Mul' | 'Add', inputs: Parameters<Graph['node']>[1], name: string) => {
    const value = graph.node(op, inputs, {}, { name: `${name}_raw` }).output();
    const q = steps ? graph.node('QuantizeLinear', [value, scale, zero], {}, { name: `${name}_q` }).output() : value;
    const out = graph
      .node(steps ? 'DequantizeLinear' : 'Identity', steps ? [q, scale, zero] : [q], {}, { name: `${name}_tap`, outputNames: [name] })
      .output();
    out.type = { dtype: 'float32', shape: ['N', 4] };
    graph.outputs.push(out);
    return out;
  };
  const a = end('Mul', [x, graph.constant('two', Tensor.scalar(2))], 'a');
  end('Add', [a, x], 'b');
  return graph;
}

const engine = new OrtEngine();
const named = (graph: Graph, name: string) => graph.values().find((value) => value.name === name) as Value;

/** Errors of tensors of two graphs, over batches of rows. */
async function errorsOf(
  graphs: { float: Graph; simulation: Graph },
  tensors: readonly ComparedTensor[],
  batches: readonly Tensor<'float32'>[],
  fixedBatch?: number,
) {
  const program = await engine.compile(comparisonGraph(graphs.float, graphs.simulation, tensors), { threads: 1, mode: 'train' });
  try {
    const given = batches.map((x) => ({ x, indices: [] }));
    return await layerErrors({ program, input: 'x', tensors, batches: given, ...(fixedBatch ? { fixedBatch } : {}) });
  } finally {
    await program.dispose();
  }
}

it('layer errors, summed up over batches, are those of the definition', async () => {
  const random = new Random(2);
  const xs = Float32Array.from({ length: 4000 }, () => 0.7 * random.uniform() - 0.35);
  const batches = [600, 400].map((n, i) => Tensor.float32([n, 4], xs.slice(i * 2400, i * 2400 + n * 4)));
  const [float, simulation] = [twoLayers(false), twoLayers(true)];
  const pair = (name: string) => ({ float: named(float, name), simulated: named(simulation, name) });
  const own = { ...params, ...grid };
  const tensors = [
    { ...pair('a'), grid: own },
    { ...pair('b'), grid: own, from: pair('a') },
  ];
  const [a, b] = await errorsOf({ float, simulation }, tensors, batches);

  // The definition, over all values at once.
  const step = (v: number) => Math.round(v / params.scale) + params.zeroPoint;
  const rounded = (v: number) => (Math.min(255, Math.max(0, step(v))) - params.zeroPoint) * params.scale;
  const decibels = (x: number[], y: number[]) => 20 * Math.log10(Math.hypot(...x) / Math.hypot(...x.map((v, i) => v - y[i]!)));
  const trueA = [...xs].map((v) => 2 * v);
  const trueB = [...xs].map((v) => 3 * v);
  expect(a!.sqnrAccumulatedDb).toBeCloseTo(decibels(trueA, trueA.map(rounded)), 2);
  expect(b!.sqnrAccumulatedDb).toBeCloseTo(
    decibels(
      trueB,
      [...xs].map((v) => rounded(rounded(2 * v) + v)),
    ),
    2,
  );
  expect(b!.sqnrLocalDb).toBeCloseTo(decibels(trueB, trueB.map(rounded)), 2);
  // a stays inside of the grid and rounds ideally, 1/√12; b reaches 1.05, where the grid ends at 0.996.
  expect(a!.rmseOverScale).toBeCloseTo(Math.sqrt(1 / 12), 2);
  expect(a!.clipped).toBe(0);
  expect(b!.clipped).toBeCloseTo(trueB.filter((v) => step(v) < 0 || step(v) > 255).length / trueB.length, 2);
  expect(b!.rmseOverScale).toBeGreaterThan(a!.rmseOverScale!);
  expect(a!.range).toEqual([2 * Math.min(...xs), 2 * Math.max(...xs)]);
  expect(a!.sqnrLocalDb).toBeUndefined();
});

/** y = transpose of x [4, 3], with the batch last, rounded to steps of `step`. */
function batchLast(step: number): Graph {
  const graph = new Graph();
  const x = graph.input('x', { dtype: 'float32', shape: [4, 3] });
  const scale = graph.constant('s', Tensor.scalar(step));
  const zero = graph.constant('z', new Tensor('int8', [], new Int8Array(1)));
  const turned = graph.node('Transpose', [x], { perm: [1, 0] }).output();
  const q = graph.node('QuantizeLinear', [turned, scale, zero]).output();
  const y = graph.node('DequantizeLinear', [q, scale, zero], {}, { outputNames: ['y'] }).output();
  y.type = { dtype: 'float32', shape: [3, 4] };
  graph.outputs.push(y);
  return graph;
}

it('tensors may have the batch anywhere, and a model of fixed batch sees whole batches only', async () => {
  const [float, simulation] = [batchLast(0.125), batchLast(1)];
  const x = Float32Array.from({ length: 30 }, (_, i) => 0.25 * i);
  const tensors = [{ float: named(float, 'y'), simulated: named(simulation, 'y') }];
  const errors = (rows: Float32Array) => errorsOf({ float, simulation }, tensors, [Tensor.float32([rows.length / 3, 3], rows)], 4);
  const [eight] = await errors(x.slice(0, 24));
  const [ten] = await errors(x);
  expect(ten).toEqual(eight);
  expect(eight!.range).toEqual([0, 5.75]);
  expect(eight!.sqnrAccumulatedDb).toBeGreaterThan(10);
  const [two] = await errors(x.slice(0, 6));
  expect(two!.range).toEqual([0, 1.25]);
});

it('a program that is not a comparison of these tensors is named', async () => {
  const [float, simulation] = [batchLast(0.125), batchLast(1)];
  const tensor = { float: named(float, 'y'), simulated: named(simulation, 'y') };
  const program = await engine.compile(comparisonGraph(float, simulation, [tensor]), { threads: 1, mode: 'train' });
  const batches = [{ x: Tensor.float32([4, 3], new Float32Array(12)), indices: [] }];
  await expect(layerErrors({ program, input: 'x', tensors: [tensor, tensor] as ComparedTensor[], batches })).rejects.toThrow(
    '8 figures for 2 tensors',
  );
  await program.dispose();
});

it('bytes of a layer are those of its weights, scales and zero points', () => {
  const bytes = layerBytes(qdqGraph());
  expect(bytes.get('conv')).toBe(8 * 9 + 8 * 4 + 8);
  expect(bytes.get('fc')).toBe(5 * 32 + 5 * 4 + 5);
  expect(bytes.has('relu')).toBe(false);
  expect(bytes.has('w1_dq')).toBe(false);
});
