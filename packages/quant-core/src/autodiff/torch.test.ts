import { readFileSync } from 'node:fs';
import { inflateSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { readOnnx } from '../formats/onnx/read.js';
import { GraphBuilder, staticShape } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { bindDims, inferShapes } from '../ir/infer.js';
import { verify } from '../ir/verify.js';
import { normalise } from '../normalise/index.js';
import { runGraph } from '../normalise/testing/oracle.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { differentiate } from './build.js';

/** A network as PyTorch exports it, and its gradients as PyTorch computes them. Arrays are base64, little-endian. */
interface Recorded {
  name: string;
  /** The ONNX file, deflated. */
  model: string;
  inputs: Record<string, { shape: number[]; dtype: 'float32' | 'int64'; data: string }>;
  /** The loss is the sum of the output times these. */
  weights: { shape: number[]; data: string };
  output: string;
  /** By name of the input or parameter. */
  gradients: Record<string, string>;
}

/** Written by scripts/torch-oracle.py. */
const recorded = JSON.parse(readFileSync(new URL('testing/torch.json', import.meta.url), 'utf8')) as { torch: string; cases: Recorded[] };

const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));
const floats = (text: string) => new Float32Array(bytes(text).buffer);

function inputTensor({ shape, dtype, data }: Recorded['inputs'][string]): Tensor {
  return dtype === 'int64' ? new Tensor('int64', shape, new BigInt64Array(bytes(data).buffer)) : new Tensor('float32', shape, floats(data));
}

/** Let everything that was a parameter be fed. */
function openParameters(graph: Graph, names: ReadonlySet<string>): Map<string, Tensor> {
  const values = new Map<string, Tensor>();
  for (const value of graph.constants()) {
    if (!value.constant || !names.has(value.name)) continue;
    values.set(value.name, value.constant);
    value.constant = undefined;
    graph.inputs.push(value);
  }
  return values;
}

/** Largest difference, relative to the largest element. */
function distance(got: ArrayLike<number>, wanted: Float32Array): number {
  expect(got.length).toBe(wanted.length);
  const scale = wanted.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
  return wanted.reduce((most, v, i) => Math.max(most, Math.abs(v - (got[i] as number)) / scale), 0);
}

it.each(recorded.cases)(`$name: gradients of PyTorch ${recorded.torch}`, async ({ model, inputs, weights, output, gradients }) => {
  const graph = readOnnx(inflateSync(bytes(model)));
  const feeds: Record<string, Tensor> = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, inputTensor(input)]));
  for (const [name, tensor] of openParameters(graph, new Set(Object.keys(gradients)))) feeds[name] = tensor;
  await normalise(graph, { evaluate: runGraph });
  bindDims(graph, Object.fromEntries(Object.entries(feeds).flatMap(([, { shape }]) => (shape[0] === undefined ? [] : [['N', shape[0]]]))));
  verify(graph);
  const b = new GraphBuilder(graph);
  const [result] = graph.outputs as [Value];
  expect(staticShape(result)).toEqual(weights.shape);
  const product = b.op('Mul', [result, b.constant(new Tensor('float32', weights.shape, floats(weights.data)), 'loss_weights')]);
  const loss = b.op('ReduceSum', [product], { keepdims: 0 });
  inferShapes(graph);
  const wanted = graph.inputs.filter((value) => gradients[value.name] !== undefined);
  expect(wanted.map((value) => value.name).sort()).toEqual(Object.keys(gradients).sort());
  const found = differentiate(graph, loss, wanted);
  graph.outputs.push(...wanted.map((value) => b.op('Identity', [found.get(value)])));
  inferShapes(graph);
  const names = graph.outputs.map((value) => value.name);
  const program = await new OrtEngine().compile(graph, { threads: 1, mode: 'train' });
  const results = await program.run(feeds);
  await program.dispose();
  const of = (at: number) => results[names[at] as string]?.data as Float32Array;
  expect(distance(of(0), floats(output)), 'output').toBeLessThan(1e-4);
  for (const [i, value] of wanted.entries()) {
    expect(sizeOf(staticShape(value))).toBe(of(i + 1).length);
    expect(distance(of(i + 1), floats(gradients[value.name] as string)), value.name).toBeLessThan(2e-4);
  }
});
