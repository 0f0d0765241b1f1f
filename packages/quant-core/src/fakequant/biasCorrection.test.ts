import { describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import type { Graph } from '../ir/graph.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { correctBiases } from './biasCorrection.js';
import type { QuantPlan } from './plan.js';
import { type ScaleTable, simulate } from './simulate.js';
import { observedTable, planOf, recipeWith } from './testing/plans.js';

const engine = new OrtEngine();

/** Three layers deep, so that later layers see the errors of earlier ones. */
const net = () =>
  graphOf(`graph net (x: float32[N, 2, 6, 6]) opset 18
    a = Conv(x, w1=float32[6, 2, 3, 3]#, b1=float32[6]#) {pads=[1, 1, 1, 1]} @a
    ra = Relu(a)
    b = Conv(ra, w2=float32[6, 6, 3, 3]#, b2=float32[6]#) {pads=[1, 1, 1, 1]} @b
    rb = Relu(b)
    c = Conv(rb, w3=float32[4, 6, 3, 3]#) @c
    g = GlobalAveragePool(c)
    f = Flatten(g)
    y = Gemm(f, w4=float32[4, 3]#, b4=float32[3]#) @fc
    return y`);

const batch = (seed: number) => {
  const random = new Random(seed);
  return Tensor.float32(
    [32, 2, 6, 6],
    Float32Array.from({ length: 32 * 72 }, () => random.uniform() * 2 - 0.5),
  );
};
async function* samples() {
  for (const seed of [1, 2, 3]) yield { x: batch(seed) };
}

/** Mean of every column of the output over samples. */
async function meanOutput(graph: Graph, seeds: readonly number[]): Promise<number[]> {
  const sums = [0, 0, 0];
  for (const seed of seeds) {
    const { y } = await runGraph(graph, { x: batch(seed) });
    (y!.data as Float32Array).forEach((value, i) => {
      sums[i % 3] = (sums[i % 3] as number) + value;
    });
  }
  return sums.map((sum) => sum / (32 * seeds.length));
}

async function prepared(): Promise<{ graph: Graph; plan: QuantPlan; table: ScaleTable }> {
  const graph = net();
  const plan = planOf(graph, recipeWith({ weights: { bits: 3 }, activations: { bits: 4 } }));
  return { graph, plan, table: await observedTable(graph, plan, { x: batch(1) }) };
}

describe('bias correction', () => {
  it('brings the mean of the quantized outputs back to that of the float network (to what an int32 bias can say), also on new samples', async () => {
    const { graph, plan, table } = await prepared();
    const corrected = await correctBiases(graph, plan, table, samples, engine);
    const off = async (candidate: Graph, seeds: readonly number[]) => {
      const [wanted, found] = [await meanOutput(graph, seeds), await meanOutput(simulate(candidate, plan, table), seeds)];
      return Math.max(...wanted.map((value, i) => Math.abs(value - (found[i] as number))));
    };
    expect(await off(corrected, [1, 2, 3])).toBeLessThan(0.25 * (await off(graph, [1, 2, 3])));
    expect(await off(corrected, [8, 9])).toBeLessThan(0.35 * (await off(graph, [8, 9])));
  });

  it('changes biases alone, and leaves the graph it was given as it was', async () => {
    const { graph, plan, table } = await prepared();
    const before = graph.constants().map((value) => Array.from(value.constant!.raw));
    const corrected = await correctBiases(graph, plan, table, samples, engine);
    expect(graph.constants().map((value) => Array.from(value.constant!.raw))).toEqual(before);
    const inputs = (of: Graph) =>
      of.nodes.filter((node) => node.op === 'Conv' || node.op === 'Gemm').map((node) => node.inputs.map((value) => value?.constant?.raw));
    inputs(corrected).forEach(([, weight, bias], i) => {
      expect(weight).toEqual(inputs(graph)[i]![1]);
      if (bias) expect(bias).not.toEqual(inputs(graph)[i]![2]);
    });
  });

  it('gives the same bytes every time', async () => {
    const { graph, plan, table } = await prepared();
    const bytes = async () =>
      (await correctBiases(graph, plan, table, samples, engine)).constants().map((value) => Array.from(value.constant!.raw));
    expect(await bytes()).toEqual(await bytes());
  });
});
