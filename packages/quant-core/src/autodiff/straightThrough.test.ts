import { describe, expect, it } from 'vitest';
import { insertFakeQuant } from '../fakequant/insert.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { gridEnds } from '../fakequant/scales.js';
import { scaleConstants } from '../fakequant/simulate.js';
import { planOf, recipeWith } from '../fakequant/testing/plans.js';
import { GraphBuilder } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { parse } from '../ir/text.js';
import { runGraph } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import type { AffineParams } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import { differentiate } from './build.js';
import { straightThrough } from './straightThrough.js';

/** The identity as weights of a Gemm: its gradient is what comes in. */
const identity = (n: number) =>
  Tensor.float32(
    [n, n],
    Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
  );

const graphOf = (n: number, body: string): Graph => {
  const constants = new Map(['w1', 'w2'].map((name) => [name, identity(n)]));
  const graph = parse(`graph g (x: float32[1, ${n}]) opset 18\n${body.replaceAll('SQUARE', `float32[${n}, ${n}]#`)}\n`, constants);
  inferShapes(graph);
  return graph;
};

/** Gradient of the sum of the output by the input, with fake quant on the scales given for each group. */
async function gradient(
  graph: Graph,
  recipe: Recipe,
  groups: readonly AffineParams[],
  x: readonly number[],
  byWeight?: number,
  learned: 'weight' | 'activation' | 'none' = 'none',
): Promise<number[]> {
  const plan: QuantPlan = planOf(graph, recipe);
  const b = new GraphBuilder(graph);
  const weight = byWeight === undefined ? undefined : graph.input('trained', { dtype: 'float32', shape: [x.length, x.length] });
  if (weight) graph.nodes.find((node) => node.op === 'Gemm')?.setInput(1, weight);
  const shared = groups.map((params, i) => scaleConstants(graph, `g${i}`, 'uint8', params.scale, params.zeroPoint));
  const weightScale = byWeight ?? 1 / 63;
  const weights = plan.weights.map((_, index) => scaleConstants(graph, `w${index}`, 'int8', weightScale, 0));
  const inserted = insertFakeQuant(graph, plan, {
    activation: (group) => shared[group] as { scale: Value; zeroPoint: Value },
    weight: (index) => weights[index] as { scale: Value; zeroPoint: Value },
  });
  const end = (value: number) => b.scalar(value);
  const custom = straightThrough(inserted, plan, {
    activationEnds: (group) => {
      const ends = gridEnds(groups[group] as AffineParams, (plan.groups[group] as QuantPlan['groups'][number]).grid);
      return { low: end(ends.min), high: end(ends.max) };
    },
    weightEnds: (index) => {
      const grid = (plan.weights[index] as QuantPlan['weights'][number]).grid;
      return weight ? { low: end(grid.qmin * weightScale), high: end(grid.qmax * weightScale) } : undefined;
    },
    learned: { activation: () => learned === 'activation', weight: () => learned === 'weight' },
  });
  inferShapes(graph);
  const loss = b.op('ReduceSum', [graph.outputs[0]], { keepdims: 0 });
  inferShapes(graph);
  const scales = { weight: weights[0]?.scale, activation: shared[0]?.scale, none: undefined };
  const wrt = scales[learned] ?? weight ?? (graph.inputs[0] as Value);
  const gradients = differentiate(graph, loss, [wrt], custom);
  const result = b.op('Identity', [gradients.get(wrt)], {}, 'result');
  graph.outputs.splice(0, graph.outputs.length, result);
  inferShapes(graph);
  const row = Tensor.float32([1, x.length], x);
  const feeds: Record<string, Tensor> = weight
    ? {
        x: Tensor.float32(
          [1, x.length],
          x.map(() => 1),
        ),
        trained: Tensor.float32(
          weight.shape as number[],
          Array.from({ length: x.length ** 2 }, (_, i) => x[i % x.length] as number),
        ),
      }
    : { x: row };
  const { result: out } = await runGraph(graph, feeds);
  return Array.from(out?.data as Float32Array, (v) => v + 0);
}

const fourBits = recipeWith({ inputBits: 4, activations: { bits: 4 }, weights: { perChannel: false } });
const one = 'y = Gemm(x, w1=SQUARE) @fc\nreturn y';

describe('straight-through estimator on real kernels', () => {
  it('passes between the ends of the grid and at them, and stops outside', async () => {
    // Integers 0 … 15 at scale 0.5 around zero point 4 reach from -2 to 5.5.
    const x = [-100, -2.001, -2, -1.99, 0, 0.1, 5.49, 5.5, 5.501, 1e30];
    expect(await gradient(graphOf(x.length, one), fourBits, [{ scale: 0.5, zeroPoint: 4 }], x)).toEqual([0, 0, 1, 1, 1, 1, 1, 1, 0, 0]);
  });

  it('passes what rounds to an end only when it lies inside', async () => {
    const x = [-0.2, 0, 7.5, 7.7];
    expect(await gradient(graphOf(x.length, one), fourBits, [{ scale: 0.5, zeroPoint: 0 }], x)).toEqual([0, 1, 1, 0]);
  });

  it.each([
    ['zero at the bottom of the grid', { scale: 0.25, zeroPoint: 0 }],
    ['zero inside the grid, as in a group with negative values', { scale: 0.25, zeroPoint: 6 }],
  ])('after a ReLU one mask does the work of both: %s', async (_what, params) => {
    const high = (15 - params.zeroPoint) * 0.25;
    const x = [-3, -1e-6, 0, 1e-6, 1, high, high + 1e-3, 50];
    const both = x.map((v) => (v > 0 && v <= high ? 1 : 0));
    const merged = graphOf(x.length, 'r = Relu(x)\ny = Gemm(r, w2=SQUARE) @fc\nreturn y');
    expect(await gradient(merged, fourBits, [params], x)).toEqual(both);
    // An Identity between the two keeps the masks apart.
    const apart = graphOf(x.length, 'r = Relu(x)\ni = Identity(r)\ny = Gemm(i, w2=SQUARE) @fc\nreturn y');
    expect(await gradient(apart, fourBits, [params], x)).toEqual(both);
    expect(apart.nodes.length).toBeGreaterThan(merged.nodes.length + 1);
  });

  it('keeps the masks apart where somebody else reads the ReLU', async () => {
    const graph = graphOf(3, 'r = Relu(x)\ng = Gemm(r, w2=SQUARE) @fc\ny = Sub(g, r)\nreturn y');
    // Above the grid (3.75) only the second reader, in float, gets the gradient through; inside both do, and cancel.
    expect(await gradient(graph, fourBits, [{ scale: 0.25, zeroPoint: 0 }], [-1, 1, 9])).toEqual([0, 0, -1]);
  });

  it('stops weights that were clipped, and passes those at the ends', async () => {
    // Integers -7 … 7 at scale 0.125 reach from -0.875 to 0.875.
    const w = [-2, -0.876, -0.875, 0, 0.3, 0.875, 0.876];
    const recipe = recipeWith({ weights: { bits: 4, perChannel: false, reduceRange: false } });
    const dw = await gradient(graphOf(w.length, one), recipe, [{ scale: 1 / 255, zeroPoint: 0 }], w, 0.125);
    expect(dw.slice(0, w.length).map((v) => Math.round(v * 1e5) / 1e5)).toEqual([0, 0, 1, 1, 1, 1, 0]);
  });

  it('moves the scale of an activation by what rounding lost inside the grid, and by the end of the grid outside', async () => {
    // Integers 0 … 15 at scale 0.5 around zero point 4.
    const scale = 0.5;
    const x = [-100, -1.9, 0.1, 0.6, 5.3, 7];
    const integers = [-4, -4, 0, 1, 11, 11];
    const wanted = x.reduce((sum, v, i) => sum + (integers[i] as number) - (v > -2 && v < 5.5 ? v / scale : 0), 0);
    const [found] = await gradient(graphOf(x.length, one), fourBits, [{ scale, zeroPoint: 4 }], x, undefined, 'activation');
    expect(found).toBeCloseTo(wanted, 4);
  });

  it('moves it after a ReLU too', async () => {
    const x = [-3, 0.2, 1.1, 9];
    const wanted = 0 - (0 + 0.2 / 0.25 - 1) - (1.1 / 0.25 - 4) + 15;
    const merged = graphOf(x.length, 'r = Relu(x)\ny = Gemm(r, w2=SQUARE) @fc\nreturn y');
    expect((await gradient(merged, fourBits, [{ scale: 0.25, zeroPoint: 0 }], x, undefined, 'activation'))[0]).toBeCloseTo(wanted, 4);
  });

  it('moves the scale of a weight', async () => {
    const w = [-2, -0.876, -0.8, 0, 0.3, 0.8];
    const integers = [-7, -7, -6, 0, 2, 6];
    const recipe = recipeWith({ weights: { bits: 4, perChannel: false, reduceRange: false } });
    const each = w.reduce((sum, v, i) => sum + (integers[i] as number) - (Math.abs(v) < 0.875 ? v / 0.125 : 0), 0);
    const [found] = await gradient(graphOf(w.length, one), recipe, [{ scale: 1 / 255, zeroPoint: 0 }], w, 0.125, 'weight');
    // Each column of the matrix is a copy of the row of weights, and every input is 1.
    expect(found).toBeCloseTo(each * w.length, 3);
  });
});
