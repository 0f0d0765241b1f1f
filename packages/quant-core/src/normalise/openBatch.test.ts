import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { InputSpec } from '../data/materialise.js';
import { readOnnx } from '../formats/onnx/read.js';
import type { Graph } from '../ir/graph.js';
import { bindDims, inferShapes } from '../ir/infer.js';
import { verify } from '../ir/verify.js';
import { Tensor } from '../tensor/tensor.js';
import { openBatch, type RunEach } from './openBatch.js';
import { difference, graphOf, randomFeeds, runGraph } from './testing/oracle.js';

const run: RunEach = async (graph, feeds) => {
  const results = [];
  for (const each of feeds) results.push(await runGraph(graph, each));
  return results;
};
const evaluate = (graph: Graph) => runGraph(graph);

const specsOf = (graph: Graph): InputSpec[] =>
  graph.inputs.map(({ name, dtype, shape }) => ({
    name,
    dtype: dtype as InputSpec['dtype'],
    shape: (shape ?? []).slice(1).map((dim) => (typeof dim === 'number' ? dim : undefined)),
  }));

describe('networks exported by PyTorch for a fixed batch', () => {
  const folder = fileURLToPath(new URL('./testing/attention/', import.meta.url));
  const files = readdirSync(folder);
  const load = (file: string): Graph => {
    const graph = readOnnx(readFileSync(folder + file));
    inferShapes(graph);
    return graph;
  };
  const batchOf = (file: string) => Number(/-b(\d+)-/.exec(file)?.[1]);

  it.each(files.filter((file) => batchOf(file) > 0 && file !== 'mixes-b3-o13.onnx'))('%s takes any batch', async (file) => {
    const fixed = load(file);
    const batch = batchOf(file);
    const graph = fixed.clone();
    expect(await openBatch(graph, specsOf(graph), { evaluate, run })).toEqual({ fixedBatch: batch, symbol: 'N' });
    verify(graph);
    for (const value of [...graph.inputs, ...graph.outputs]) expect(value.shape?.[0]).toBe('N');
    const five = graph.clone();
    bindDims(five, { N: 5 });
    const feeds = randomFeeds(five, 3);
    const { y } = await runGraph(graph, feeds);
    const x = feeds.x as Tensor;
    for (let sample = 0; sample < 5; sample++) {
      // The sample among copies of the first: what stands beside it must not matter.
      const each = x.size / 5;
      const data = new Float32Array(each * batch);
      for (let i = 0; i < batch; i++)
        data.set(x.as('float32').data.subarray(i ? 0 : sample * each, (i ? 0 : sample * each) + each), i * each);
      const alone = await runGraph(fixed, { x: Tensor.float32([batch, ...x.shape.slice(1)], data) });
      const row = (tensor: Tensor | undefined, at: number, of: number): Tensor => {
        const length = (tensor?.size ?? 0) / of;
        return Tensor.float32([length], (tensor as Tensor).as('float32').data.slice(at * length, (at + 1) * length));
      };
      expect(difference({ y: row(alone.y, 0, batch) }, { y: row(y, sample, 5) })).toBeLessThan(1e-5);
    }
  });

  it('samples that attend to one another stay together', async () => {
    const graph = load('mixes-b3-o13.onnx');
    const result = await openBatch(graph, specsOf(graph), { evaluate, run });
    expect(result).toMatchObject({ fixedBatch: 3, symbol: undefined });
    expect(result.obstacle).toMatch(/MatMul .* works across samples/);
    expect(graph.inputs[0]?.shape).toEqual([3, 5, 8]);
  });

  it.each(files.filter((file) => file.includes('-bopen-')))('%s is open already, its shapes known', async (file) => {
    const graph = load(file);
    expect(await openBatch(graph, specsOf(graph), { evaluate, run })).toEqual({ fixedBatch: undefined, symbol: 'batch' });
    expect(graph.outputs[0]?.shape).toEqual(['batch', 3]);
  });
});

const net = `graph g (x: float32[2, 4]) opset 18
  g = Gemm(x, v=float32[4, 6]#, u=float32[6]#)
  y = Relu(g)
  return y`;

describe('a batch that was opened is proved by running', () => {
  it.each<[string, (y: Float32Array) => void, RegExp]>([
    ['another number', (y) => y.fill(7, 6, 7), /output "y" of a sample changes/],
    ['samples in another order', (y) => y.copyWithin(0, 6, 12), /output "y" of a sample changes/],
    ['not a number', (y) => y.fill(Number.NaN, 0, 1), /output "y" of a sample changes/],
  ])('%s keeps it closed', async (_, spoil, message) => {
    const graph = graphOf(net);
    const spoilt: RunEach = async (some, feeds) => {
      const results = await run(some, feeds);
      const y = results[0]?.y as Tensor;
      if (some.inputs[0]?.shape?.[0] === 'N') spoil(y.as('float32').data);
      return results;
    };
    const result = await openBatch(graph, specsOf(graph), { evaluate, run: spoilt });
    expect(result).toMatchObject({ fixedBatch: 2, symbol: undefined });
    expect(result.obstacle).toMatch(message);
    expect(graph.inputs[0]?.shape).toEqual([2, 4]);
  });

  it('an export in training mode is opened in inference form, where statistics are those of the file', async () => {
    const graph = graphOf(`graph g (x: float32[2, 4, 3]) opset 18
      d = Dropout(x, ratio=float32[]{0.5}, train=bool[]{1})
      y, m, v = BatchNormalization(d, s=float32[4]#, b=float32[4]#, mean=float32[4]#, var=float32[4]{2}) {training_mode=1}
      return y`);
    expect(await openBatch(graph, specsOf(graph), { evaluate, run })).toEqual({ fixedBatch: 2, symbol: 'N' });
    expect(graph.nodes.map((node) => [node.op, node.attrs])).toEqual([['BatchNormalization', { training_mode: undefined }]]);
  });

  it('a graph that does not run stays as it is', async () => {
    const graph = graphOf(net);
    const result = await openBatch(graph, specsOf(graph), { evaluate, run: () => Promise.reject(new Error('no kernel')) });
    expect(result.obstacle).toMatch(/does not run on random samples: no kernel/);
    expect(graph.inputs[0]?.shape).toEqual([2, 4]);
  });

  it('sizes left open, tables and truth values get values that fit', async () => {
    const graph = graphOf(`graph g (x: int64[1, S], m: bool[1, S]) opset 18
      e = Gather(table=float32[5, 4]#, x)
      u = Unsqueeze(m, a=int64[1]{2})
      w = Where(u, e, zero=float32[]{0})
      y = ReduceMean(w, a2=int64[1]{1}) {keepdims=0}
      return y`);
    const specs = specsOf(graph).map((spec) => (spec.name === 'x' ? { ...spec, table: { name: 'table', rows: 5 } } : spec));
    expect(await openBatch(graph, specs, { evaluate, run })).toEqual({ fixedBatch: 1, symbol: 'N' });
    expect(graph.inputs.map((value) => value.shape)).toEqual([
      ['N', 'S'],
      ['N', 'S'],
    ]);
  });
});
