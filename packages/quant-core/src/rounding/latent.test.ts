import { describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { scalesOfWeights, simulate } from '../fakequant/simulate.js';
import { observedTable, planOf, recipeWith } from '../fakequant/testing/plans.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { latentWeights } from './latent.js';
import { adaptRounding } from './round.js';

/** One layer whose weights have the scale 1, with other weights on request. */
const layer = (weights: readonly number[]) => {
  const graph = graphOf('graph g (x: float32[N, 4]) opset 18\ny = Gemm(x, w=float32[1, 4]#) {transB=1}\nreturn y');
  graph.nodes[0]!.input(1).constant = Tensor.float32([1, 4], weights);
  return graph;
};
const weightsOf = (graph: ReturnType<typeof layer>) => [...graph.nodes[0]!.input(1).constant!.as('float32').data];
const plan = planOf(layer([0, 0, 0, 0]), recipeWith({ weights: { bits: 4 } }));
const ranges = new Map([['w', { scale: Float32Array.of(1) }]]);

describe('the weights that training begins with', () => {
  it('lie as near to the float ones as the integers allow', () => {
    const start = latentWeights(layer([0.4, 0.6, -0.25, -3]), layer([1, 0, 0, -3]), plan, ranges);
    expect(weightsOf(start)).toEqual([0.55, 0.45, -0.25, -3].map(Math.fround));
  });

  it('beyond the grid stay where they were', () => {
    expect(weightsOf(latentWeights(layer([9, -9, 7.2, 7.9]), layer([7, -7, 7, 7]), plan, ranges))).toEqual(
      [9, -9, 7.2, 7.45].map(Math.fround),
    );
  });

  it('are those of the rounded graph where no scale was found with the rounding', () => {
    expect(weightsOf(latentWeights(layer([1, 2, 3, 4]), layer([5, 6, 7, 7]), plan, new Map()))).toEqual([5, 6, 7, 7]);
  });

  it('are rounded to the integers that were learned, in every layer', async () => {
    const graph = graphOf(`graph net (x: float32[N, 2, 6, 6]) opset 18
      a = Conv(x, w1=float32[6, 2, 3, 3]#, b1=float32[6]#) {pads=[1, 1, 1, 1]}
      ra = Relu(a)
      f = Flatten(ra)
      y = Gemm(f, w2=float32[3, 216]#, b2=float32[3]#) {transB=1}
      return y`);
    const random = new Random(5);
    const level = Float32Array.from({ length: 64 }, () => random.normal());
    const x = Tensor.float32(
      [64, 2, 6, 6],
      Float32Array.from({ length: 64 * 72 }, (_, i) => (level[Math.floor(i / 72)] as number) + 0.3 * random.normal()),
    );
    async function* samples() {
      yield { x };
    }
    const plan = planOf(graph, recipeWith({ weights: { bits: 3 } }));
    const table = await observedTable(graph, plan, { x });
    const engine = new OrtEngine();
    const rounded = await adaptRounding({ graph, plan, table, samples, count: 64, engine, iterations: 200, seed: 1, wanted: () => true });
    const start = latentWeights(graph, rounded.graph, plan, rounded.ranges);
    const own = { ...table, weights: scalesOfWeights(graph, plan, rounded.ranges) };
    const [wanted, found, nearest] = [
      await runGraph(simulate(rounded.graph, plan, own), { x }),
      await runGraph(simulate(start, plan, own), { x }),
      await runGraph(simulate(graph, plan, own), { x }),
    ];
    expect(found).toEqual(wanted);
    expect(nearest).not.toEqual(wanted);
  });
});
