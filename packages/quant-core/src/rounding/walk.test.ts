import { describe, expect, it } from 'vitest';
import type { Engine } from '../engine/engine.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { extract } from '../ir/extract.js';
import type { Graph, Node } from '../ir/graph.js';
import { graphOf, randomFeeds, runGraph } from '../normalise/testing/oracle.js';
import { Tensor } from '../tensor/tensor.js';
import { Walk } from './walk.js';

const ort = new OrtEngine();

/** An engine that counts the nodes it is given. */
function counting(): { engine: Engine; nodes: number[] } {
  const nodes: number[] = [];
  const engine = Object.create(ort) as Engine;
  engine.compile = (graph, options) => {
    nodes.push(graph.nodes.length);
    return ort.compile(graph, options);
  };
  return { engine, nodes };
}

/** Branches that meet again, a weight that is computed, a value that is read far ahead. */
const net = () =>
  graphOf(`graph net (x: float32[N, 2, 6, 6]) opset 18
    a = Conv(x, w1=float32[4, 2, 3, 3]#) {pads=[1, 1, 1, 1]} @a
    ra = Relu(a)
    q = Sub(w2=float32[4, 4, 1, 1]#, half=float32[]{0.5})
    b = Conv(ra, q) @b
    d = Conv(ra, w3=float32[4, 4, 3, 3]#) {pads=[1, 1, 1, 1]} @d
    s = Add(b, d)
    p = GlobalAveragePool(s)
    f = Flatten(p)
    m = ReduceMean(x, ax=int64[2]{2, 3}) {keepdims=0}
    c = Concat(f, m) {axis=1}
    y = Gemm(c, w4=float32[6, 3]#) @fc
    return y`);

const batches = [1, 2, 3].map((seed) => randomFeeds(net(), seed));
const layersOf = (graph: Graph) => graph.nodes.filter((node) => ['a', 'b', 'd', 'fc'].includes(node.name));

/** What each layer reads and gives, walked to, batch by batch. */
async function walked(graph: Graph, most: number, engine: Engine = ort, onLayer?: (layer: Node) => void): Promise<Tensor[][]> {
  const layers = layersOf(graph);
  const walk = new Walk(
    graph,
    layers.map((layer) => layer.output()),
    engine,
    most,
  );
  const all: Tensor[][] = [];
  for (const layer of layers) {
    const kept = walk.batches;
    const step = await walk.to(layer.input(0), 9, layer.output());
    const results: Tensor[] = [];
    for (let i = 0; i < (kept ?? batches.length); i++) results.push(await step.run(i, kept === undefined ? (batches[i] ?? {}) : {}));
    await step.end(true);
    all.push(results);
    onLayer?.(layer);
  }
  return all;
}

describe('a walk through a network', () => {
  it.each([
    ['with results kept', 2 ** 20],
    ['with nothing kept', 0],
    ['with only small parts kept', 9 * 4 * (4 + 2 + 72)],
  ])('gives what the whole network does, %s', async (_, most) => {
    const graph = net();
    const found = await walked(graph, most);
    for (const [i, layer] of layersOf(graph).entries()) {
      const part = extract(graph, graph.inputs, [layer.output()]);
      for (const [b, feeds] of batches.entries()) {
        const wanted = (await runGraph(part, feeds))[layer.output().name] as Tensor;
        const got = found[i]?.[b] as Tensor;
        expect(got.shape).toEqual(wanted.shape);
        for (let k = 0; k < wanted.size; k++) expect(got.data[k]).toBeCloseTo(wanted.data[k] as number, 4);
      }
    }
  });

  it('sees weights that change ahead of it', async () => {
    const graph = net();
    const found = await walked(graph, 2 ** 20, ort, (layer) => {
      const weight = layer.name === 'a' ? layer.input(1) : undefined;
      if (weight) weight.constant = Tensor.zeros('float32', [4, 2, 3, 3]);
    });
    expect(found[0]?.[0]?.data.some((x) => x !== 0)).toBe(true);
    expect(found[2]?.[0]?.data.every((x) => x === 0)).toBe(true);
  });

  it('compiles every node a few times at most, however deep the network is', async () => {
    const depth = 40;
    const lines = Array.from(
      { length: depth },
      (_, i) => `c${i} = Conv(${i ? `r${i - 1}` : 'x'}, w${i}=float32[2, 2, 1, 1]#) @c${i}\nr${i} = Relu(c${i})`,
    );
    const graph = graphOf(`graph deep (x: float32[N, 2, 3, 3]) opset 18\n${lines.join('\n')}\nreturn r${depth - 1}`);
    const { engine, nodes } = counting();
    const layers = graph.nodes.filter((node) => node.op === 'Conv');
    const walk = new Walk(
      graph,
      layers.map((layer) => layer.output()),
      engine,
    );
    for (const layer of layers) {
      const step = await walk.to(layer.input(0), 3, layer.output());
      await step.run(0, randomFeeds(graph));
      await step.end(true);
    }
    expect(nodes.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(3 * depth);
  });

  it('a part of which not every batch was seen is not built upon', async () => {
    const graph = net();
    const layers = layersOf(graph);
    const walk = new Walk(
      graph,
      layers.map((layer) => layer.output()),
      ort,
    );
    for (const layer of layers) {
      const step = await walk.to(layer.input(0), 9, layer.output());
      await step.run(0, batches[0] ?? {});
      await step.end(false);
      expect(walk.batches).toBeUndefined();
    }
  });
});
