import { describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { type ScaleTable, scalesOfWeights, simulate } from '../fakequant/simulate.js';
import { observedTable, planOf, recipeWith } from '../fakequant/testing/plans.js';
import type { Graph, Node } from '../ir/graph.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { matrixForm } from './matrix.js';
import { gradientGraph, names, type RoundingLayer } from './programs.js';
import { adaptRounding, type RoundingJob } from './round.js';

const engine = new OrtEngine();

const net = () =>
  graphOf(`graph net (x: float32[N, 2, 6, 6]) opset 18
    a = Conv(x, w1=float32[6, 2, 3, 3]#, b1=float32[6]#) {pads=[1, 1, 1, 1]} @a
    ra = Relu(a)
    d = Conv(ra, w2=float32[6, 1, 3, 3]#, b2=float32[6]#) {group=6} @d
    rd = Clip(d, low=float32[]{0}, high=float32[]{4})
    f = Flatten(rd)
    y = Gemm(f, w3=float32[3, 96]#, b3=float32[3]#) {transB=1} @fc
    return y`);

/** Images of one brightness and a little noise: of inputs that are independent of each other the nearest integers would be the best ones. */
const batch = (seed: number) => {
  const random = new Random(seed);
  const level = Float32Array.from({ length: 64 }, () => random.normal());
  return Tensor.float32(
    [64, 2, 6, 6],
    Float32Array.from({ length: 64 * 72 }, (_, i) => (level[Math.floor(i / 72)] as number) + 0.3 * random.normal()),
  );
};
async function* samples() {
  for (const seed of [1, 2, 3, 4]) yield { x: batch(seed) };
}

async function jobOf(
  weights: { bits: number; symmetric?: boolean; perChannel?: boolean } = { bits: 3 },
  change: Partial<RoundingJob> = {},
) {
  const graph = net();
  const plan = planOf(graph, recipeWith({ weights }));
  const table = await observedTable(graph, plan, { x: batch(1) });
  const job: RoundingJob = { graph, plan, table, samples, count: 256, engine, iterations: 400, seed: 7, wanted: () => true, ...change };
  return { graph, plan, table, job };
}

/** Squared difference between the float network and the simulation of another, on samples that nobody has seen. */
async function off(float: Graph, other: Graph, plan: QuantPlan, table: ScaleTable): Promise<number> {
  const x = batch(99);
  const [wanted, found] = [await runGraph(float, { x }), await runGraph(simulate(other, plan, table), { x })];
  return (wanted.y!.data as Float32Array).reduce((sum, v, i) => sum + (v - (found.y!.data[i] as number)) ** 2, 0);
}

const weightOf = (graph: Graph, name: string) => graph.nodes.find((node) => node.name === name)?.input(1).constant as Tensor<'float32'>;

describe('adaptive rounding', () => {
  it.each([
    ['per channel', { bits: 3 }],
    ['per tensor', { bits: 3, perChannel: false }],
    ['with a zero point', { bits: 3, perChannel: false, symmetric: false }],
  ])('%s: the result is nearer to the float network than with the nearest integers', async (_, weights) => {
    const { graph, plan, table, job } = await jobOf(weights);
    const rounded = await adaptRounding(job);
    const own = { activations: table.activations, weights: scalesOfWeights(rounded.graph, plan, rounded.ranges) };
    expect(await off(graph, rounded.graph, plan, own)).toBeLessThan(0.75 * (await off(graph, graph, plan, table)));
    for (const layer of rounded.layers) if (layer.taken) expect(layer.adaptive).toBeLessThan(layer.nearest);
    expect(rounded.layers.map(({ node }) => node)).toEqual(['a', 'd', 'fc']);
  });

  it('every weight goes to one of its two neighbours on its own grid, and stays there when it is quantized', async () => {
    const { graph, plan, table, job } = await jobOf();
    const rounded = await adaptRounding(job);
    const again = scalesOfWeights(rounded.graph, plan, rounded.ranges);
    plan.weights.forEach((point, index) => {
      const { scale } = table.weights[index]!;
      expect(again[index]).toEqual(table.weights[index]);
      const [before, after] = [weightOf(graph, point.node), weightOf(rounded.graph, point.node)];
      const each = before.size / scale.length;
      let moved = 0;
      before.data.forEach((w, i) => {
        const s = scale[Math.floor(i / each)] as number;
        const q = (after.data[i] as number) / s;
        expect(Math.abs(q - Math.round(q))).toBeLessThan(1e-4);
        expect(Math.abs(q - w / s)).toBeLessThan(1.0001);
        if (Math.abs(q - w / s) > 0.5001) moved++;
      });
      expect(moved).toBeGreaterThan(0);
    });
  });

  it('rounds only what is wanted, and leaves the graph it was given as it was', async () => {
    const { graph, job } = await jobOf({ bits: 3 }, { wanted: (point) => point.node === 'd', iterations: 20 });
    const before = graph.constants().map((value) => Array.from(value.constant!.raw));
    const done: number[][] = [];
    const rounded = await adaptRounding({ ...job, onLayer: (...progress) => done.push(progress) });
    expect(graph.constants().map((value) => Array.from(value.constant!.raw))).toEqual(before);
    expect(weightOf(rounded.graph, 'a')).toBe(weightOf(graph, 'a'));
    expect([...rounded.ranges.keys()]).toEqual(['w2']);
    expect(done).toEqual([[1, 1]]);
  });

  it('leaves a constant alone that two layers share', async () => {
    const graph = graphOf(`graph net (x: float32[N, 2, 6, 6]) opset 18
      a = Conv(x, w=float32[2, 2, 3, 3]#) @a
      y = Conv(a, w) @b
      return y`);
    const plan = planOf(graph, recipeWith({ weights: { bits: 3 } }));
    const table = await observedTable(graph, plan, { x: batch(1) });
    const { layers } = await adaptRounding({ graph, plan, table, samples, count: 256, engine, iterations: 5, seed: 7, wanted: () => true });
    expect(layers).toEqual([]);
  });

  it('gives the same bytes for a seed', async () => {
    const { job } = await jobOf({ bits: 3 }, { iterations: 60 });
    const bytes = async (seed: number) =>
      (await adaptRounding({ ...job, seed })).graph.constants().map((value) => Array.from(value.constant!.raw));
    expect(await bytes(7)).toEqual(await bytes(7));
    expect(await bytes(7)).not.toEqual(await bytes(8));
  });

  it('stops when the job is cancelled', async () => {
    const { job } = await jobOf();
    const stop = new AbortController();
    const running = adaptRounding({ ...job, signal: stop.signal, onLayer: () => stop.abort() });
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('the loss of adaptive rounding', () => {
  const v = [0.4, -1.1, 0.9, 0.2, -0.3, 1.7];
  const floor = [-1, 0, 2, -3, 1, 0];
  const [scale, beta, lambda] = [0.5, 3, 0.2];
  const x = [1, -2, 0.5, 0.3, 1.5, -0.7];
  const y = [0.4, 1.2, -0.6, 2];
  const bias = [0.1, -0.2];

  /** The formula, row by row: 2 rows, 3 inputs, 2 outputs, Relu. */
  function loss(at: readonly number[]): number {
    const h = at.map((u) => Math.min(1, Math.max(0, 1.2 / (1 + Math.exp(-u)) - 0.1)));
    const w = h.map((part, i) => scale * Math.min(2, Math.max(-3, (floor[i] as number) + part)));
    let error = 0;
    for (let row = 0; row < 2; row++) {
      for (let o = 0; o < 2; o++) {
        const sum = [0, 1, 2].reduce((all, k) => all + (x[row * 3 + k] as number) * (w[k * 2 + o] as number), bias[o] as number);
        error += (Math.max(0, sum) - Math.max(0, y[row * 2 + o] as number)) ** 2;
      }
    }
    return error / 2 + lambda * h.reduce((sum, part) => sum + 1 - Math.abs(2 * part - 1) ** beta, 0);
  }

  it('its gradient is that of the formula, by finite differences', async () => {
    const node = graphOf('graph one (x: float32[N, 3]) opset 18\na = Gemm(x, w=float32[3, 2]#)\ny = Relu(a)\nreturn y').nodes;
    const layer: RoundingLayer = {
      form: matrixForm(node[0] as Node, [3, 2]),
      activation: [node[1] as Node],
      bias: Tensor.float32([1, 1, 2], bias),
      floor: Tensor.float32([1, 3, 2], floor),
      scale: Tensor.float32([1, 3, 2], new Float32Array(6).fill(scale)),
      low: -3,
      high: 2,
    };
    const results = await runGraph(gradientGraph(layer, 2), {
      [names.x]: Tensor.float32([1, 2, 3], x),
      [names.y]: Tensor.float32([1, 2, 2], y),
      [names.v]: Tensor.float32([1, 3, 2], v),
      [names.beta]: Tensor.scalar(beta),
      [names.lambda]: Tensor.scalar(lambda),
    });
    const found = results[names.gradient]!.data as Float32Array;
    v.forEach((_, i) => {
      const moved = (step: number) => loss(v.map((u, k) => (k === i ? u + step : u)));
      expect(found[i]).toBeCloseTo((moved(1e-5) - moved(-1e-5)) / 2e-5, 3);
    });
    expect(found.some((g) => Math.abs(g) > 0.01)).toBe(true);
  });
});
