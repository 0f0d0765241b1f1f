import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { planQuantization } from '../../fakequant/plan.js';
import { writeOnnx } from '../../formats/onnx/write.js';
import type { Graph } from '../../ir/graph.js';
import { verify } from '../../ir/verify.js';
import { difference, graphOf, randomFeeds, runGraph } from '../../normalise/testing/oracle.js';
import { defaultRecipe } from '../../recipe.js';
import { lossSpec } from '../../tasks/testing/specs.js';
import { allocate } from '../../tensor/dtype.js';
import { Random } from '../../tensor/random.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { parameterLayout } from '../../train/parameters.js';
import { buildTrainingStep, stepOutputs } from '../../train/step.js';
import { smallNet } from '../../train/testing/jobs.js';
import { OrtEngine } from './ort.js';
import { cutGraph, PartedSession } from './segments.js';

/** A chain of layers with weights on grids and a connection past every second layer; every tenth layer's result is an output too. */
function chain(layers: number): Graph {
  const lines: string[] = [];
  for (let i = 0; i < layers; i++) {
    const from = i ? `r${i - 1}` : 'x';
    lines.push(
      `q${i} = QuantizeLinear(w${i}=float32[4, 4]#, s${i}=float32[]{0.02}, z${i}=int8[]{0})`,
      `d${i} = DequantizeLinear(q${i}, t${i}=float32[]{0.02}, u${i}=int8[]{0})`,
      `m${i} = MatMul(${from}, d${i})`,
      i % 2 && i > 1 ? `a${i} = Add(m${i}, r${i - 2})` : `a${i} = Sigmoid(m${i})`,
      `r${i} = Tanh(a${i})`,
    );
  }
  const outputs = lines.flatMap((_, i) => (i < layers && i % 10 === 9 ? [`r${i}`] : []));
  return graphOf(`graph chain (x: float32[N, 4]) opset 18\n${lines.join('\n')}\nreturn r${layers - 1}, ${outputs.slice(0, -1).join(', ')}`);
}

const sizes = (parts: readonly Graph[]) => parts.map((part) => part.nodes.length);

describe('a large graph in parts', () => {
  it('gives what it does as a whole', async () => {
    const graph = chain(60);
    const parts = cutGraph(graph, { whole: 100, part: 70 });
    for (const part of parts) verify(part);
    expect(sizes(parts).reduce((a, b) => a + b)).toBe(graph.nodes.length);
    expect(Math.max(...sizes(parts))).toBeLessThanOrEqual(70);
    // What crosses is the chain and the connection past a layer, and no weight.
    for (const part of parts.slice(1)) expect(part.inputs.length).toBeLessThanOrEqual(2);
    const sessions = [];
    for (const part of parts) sessions.push(await ort.InferenceSession.create(writeOnnx(part), { logSeverityLevel: 3 }));
    const names = graph.outputs.map(({ name }) => name);
    const session = new PartedSession(sessions, names);
    const feeds = randomFeeds(graph);
    const x = feeds.x as Tensor<'float32'>;
    for (let again = 0; again < 2; again++) {
      const results = await session.run(
        { x: new ort.Tensor('float32', x.data, x.shape) },
        Object.fromEntries(names.map((name) => [name, null])),
      );
      const found = Object.fromEntries(
        names.map((name) => [name, Tensor.float32(results[name]?.dims ?? [], results[name]?.data as Float32Array)]),
      );
      expect(Object.keys(results).sort()).toEqual([...names].sort());
      expect(difference(await runGraph(graph, feeds), found)).toBeLessThan(1e-4);
    }
    await session.release();
  });

  it('a small graph stays whole', () => {
    const graph = chain(10);
    expect(cutGraph(graph)).toEqual([graph]);
  });

  it('parts end where the least crosses', () => {
    // Seven values at once between every two narrow places.
    const block = (i: number) => {
      const wide = Array.from({ length: 7 }, (_, k) => `v${i}_${k} = Sin(${i ? `n${i - 1}` : 'x'})`);
      return [...wide, `n${i} = Sum${i}(${wide.map((_, k) => `v${i}_${k}`).join(', ')})`.replace(/Sum\d+/, 'Max')];
    };
    const graph = graphOf(
      `graph g (x: float32[N, 2]) opset 18\n${Array.from({ length: 12 }, (_, i) => block(i).join('\n')).join('\n')}\nreturn n11`,
    );
    const parts = cutGraph(graph, { whole: 20, part: 21 });
    expect(parts.length).toBeGreaterThan(4);
    for (const part of parts.slice(1)) expect(part.inputs).toHaveLength(1);
  });

  it('a graph with values of unknown type between its parts is loaded whole', async () => {
    const lines = Array.from({ length: 8100 }, (_, i) => `r${i} = ${i % 2 ? 'Neg' : 'Abs'}(${i ? `r${i - 1}` : 'x'})`);
    const graph = graphOf(`graph g (x: int32[N, 2]) opset 18\n${lines.join('\n')}\nreturn r8099`);
    for (const node of graph.nodes) for (const value of node.outputs) if (!graph.outputs.includes(value)) value.type = undefined;
    const program = await new OrtEngine().compile(graph, { threads: 1, mode: 'train' });
    const { r8099 } = await program.run({ x: new Tensor('int32', [1, 2], Int32Array.of(3, -4)) });
    expect(Array.from(r8099?.data as Int32Array)).toEqual([-3, -4]);
    await program.dispose();
  });

  it('a training step gives the same loss and gradient', async () => {
    const net = smallNet();
    const { graph } = buildTrainingStep({
      graph: net,
      batch: 4,
      batchSymbol: 'N',
      layout: parameterLayout(net),
      plan: planQuantization(net, defaultRecipe()),
      loss: lossSpec(net.outputs[0]?.name as string),
      observe: true,
    });
    const random = new Random(5);
    const feeds = Object.fromEntries(
      graph.inputs.map(({ name, dtype = 'float32', shape = [] }) => {
        const data = allocate(dtype, sizeOf(shape as number[]));
        const scale = name.includes('cale') ? 0 : 1;
        if (data instanceof Float32Array)
          data.forEach((_, i) => {
            data[i] = 0.05 + scale * random.normal();
          });
        return [name, new Tensor(dtype, shape as number[], data)];
      }),
    );
    expect(cutGraph(graph, { whole: 20, part: 25 }).length).toBeGreaterThan(3);
    const [whole, parted] = [new OrtEngine(), new OrtEngine(2 ** 29, { whole: 20, part: 25 })];
    const results = [];
    for (const one of [whole, parted]) {
      const program = await one.compile(graph, { threads: 1, mode: 'train' });
      results.push(await program.run(feeds));
      await program.dispose();
    }
    expect(results[1]?.[stepOutputs.gradient]?.data.some((x) => x !== 0)).toBe(true);
    expect(difference(results[0] ?? {}, results[1] ?? {})).toBeLessThan(1e-5);
  });

  it('the engine cuts a graph of more than 8,000 nodes', async () => {
    const lines = Array.from({ length: 8100 }, (_, i) => `r${i} = ${i % 2 ? 'Neg' : 'Abs'}(${i ? `r${i - 1}` : 'x'})`);
    const graph = graphOf(`graph g (x: float32[N, 2]) opset 18\n${lines.join('\n')}\nreturn r8099`);
    const program = await new OrtEngine().compile(graph, { threads: 1, mode: 'train' });
    const { r8099 } = await program.run({ x: Tensor.float32([1, 2], [3, -4]) });
    expect(Array.from(r8099?.data as Float32Array)).toEqual([-3, -4]);
    await program.dispose();
  });
});
