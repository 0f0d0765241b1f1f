import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { simulate } from '../fakequant/simulate.js';
import { observedTable, planOf } from '../fakequant/testing/plans.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { bindDims } from '../ir/infer.js';
import { graphOf, randomFeeds } from '../normalise/testing/oracle.js';
import { peakBytes } from '../train/memory.js';
import { type ComparedTensor, comparisonGraph, comparisonOutput, figures } from './comparison.js';

const depth = 8;

/** Convolutions with Relu one after the other, a shortcut around each pair of them. */
function chain(): Graph {
  const lines = ['r0 = Conv(x, first=float32[4, 3, 1, 1]#) {kernel_shape=[1, 1]}'];
  for (let layer = 1; layer <= depth; layer++) {
    lines.push(`c${layer} = Conv(r${layer - 1}, w${layer}=float32[4, 4, 3, 3]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @conv${layer}`);
    if (layer % 2 === 0) lines.push(`s${layer} = Add(c${layer}, r${layer - 2})`);
    lines.push(`r${layer} = Relu(${layer % 2 === 0 ? 's' : 'c'}${layer})`);
  }
  return graphOf(`graph chain (x: float32[N, 3, 12, 12]) opset 18\n${lines.join('\n')}\nreturn r${depth}`);
}

/** The chain, its simulation, and every convolution as a tensor to compare. */
async function compared() {
  const float = chain();
  const plan = planOf(float);
  const feeds = randomFeeds(float);
  const simulation = simulate(float, plan, await observedTable(float, plan, feeds));
  const nodes = (graph: Graph) => new Map(graph.nodes.map((node) => [node.name, node]));
  const [own, other] = [nodes(float), nodes(simulation)];
  const values = new Map(simulation.values().map((value) => [value.name, value]));
  const tensors = Array.from({ length: depth }, (_, at): ComparedTensor => {
    const node = own.get(`conv${at + 1}`) as Node;
    return {
      float: node.output(),
      simulated: (other.get(node.name) as Node).output(),
      from: { float: node.input(0), simulated: values.get(node.input(0).name) as Value },
    };
  });
  return { float, simulation, tensors, feeds };
}

it('gives eight figures of each tensor, the last first, and no tensor', async () => {
  const { float, simulation, tensors, feeds } = await compared();
  const program = await new OrtEngine().compile(comparisonGraph(float, simulation, tensors), { threads: 1, mode: 'train' });
  const results = await program.run(feeds);
  await program.dispose();
  expect(Object.keys(results)).toEqual([comparisonOutput]);
  const found = results[comparisonOutput]?.as('float32').data as Float32Array;
  expect(found).toHaveLength(depth * figures.length);
  const counts = Array.from({ length: depth }, (_, at) => found[at * figures.length]);
  expect(new Set(counts)).toEqual(new Set([(feeds.x?.shape[0] as number) * 4 * 144]));
  // Errors pile up along the chain; of a layer alone they do not.
  const share = (name: 'noise' | 'local', at: number) =>
    (found[at * figures.length + figures.indexOf(name)] as number) / (found[at * figures.length + figures.indexOf('signal')] as number);
  expect(share('noise', 0)).toBeGreaterThan(2 * share('local', 0));
});

it('holds a few tensors at a time, however many are compared', async () => {
  const { float, simulation, tensors } = await compared();
  const live = (count: number) => {
    const graph = comparisonGraph(float, simulation, tensors.slice(0, count));
    bindDims(graph, { N: 16 });
    return peakBytes(graph) / (16 * 4 * 144 * 4);
  };
  expect(live(depth)).toBeLessThan(live(2) + 3);
  expect(live(depth)).toBeLessThan(depth + 4);
});

it('lets the runtime be done with a layer before it goes on to the next but one', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'octet-comparison-'));
  try {
    const { float, simulation, tensors, feeds } = await compared();
    const options = { threads: 1, mode: 'train', profilePrefix: join(directory, 'p') } as const;
    const program = await new OrtEngine().compile(comparisonGraph(float, simulation, tensors), options);
    await program.run(feeds);
    await program.dispose();
    const [file] = await readdir(directory);
    const events = JSON.parse(await readFile(join(directory, file as string), 'utf8')) as { name: string }[];
    const ran = events.flatMap(({ name }) => /^c(\d+)_figures_kernel_time$/.exec(name)?.[1] ?? []);
    expect(ran).toEqual(Array.from({ length: depth }, (_, at) => String(at + 1)));
    // How many layers ahead a convolution is computed, in either network.
    let done = 0;
    let ahead = 0;
    for (const { name } of events) {
      const figuresAt = /^c(\d+)_figures_kernel_time$/.exec(name)?.[1];
      const layer = /^c(?:onv)?(\d+)(?:_\d+)?(?:_nchwc)?_kernel_time$/.exec(name)?.[1];
      if (figuresAt) done = Number(figuresAt);
      if (layer) ahead = Math.max(ahead, Number(layer) - done);
    }
    expect(ahead).toBeGreaterThan(0);
    expect(ahead).toBeLessThanOrEqual(2);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
