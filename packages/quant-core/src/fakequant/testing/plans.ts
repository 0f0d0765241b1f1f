import { withTaps } from '../../calibrate/calibrate.js';
import { rangeOf } from '../../calibrate/testing/range.js';
import type { Graph } from '../../ir/graph.js';
import { linesOf, runGraph } from '../../normalise/testing/oracle.js';
import { defaultRecipe, type Recipe } from '../../recipe.js';
import { affineFromRange } from '../../tensor/affine.js';
import type { Tensor } from '../../tensor/tensor.js';
import { planQuantization, type QuantPlan } from '../plan.js';
import { activationParams } from '../scales.js';
import { type ScaleTable, scalesOfWeights } from '../simulate.js';

/** A recipe that differs from the default in what is quantized. */
export const recipeWith = (quantization: Partial<Recipe['quantization']>, rest: Partial<Recipe> = {}): Recipe => {
  const base = defaultRecipe();
  return { ...base, ...rest, quantization: { ...base.quantization, ...quantization } };
};

/** The plan of a graph, by the default recipe or another one. */
export const planOf = (graph: Graph, recipe: Recipe = defaultRecipe()): QuantPlan => planQuantization(graph, recipe);

/** Scales as if every observed activation were in -1 … 3, or in the range given for its group. */
export function tableOf(graph: Graph, plan: QuantPlan, ranges: readonly { min: number; max: number }[] = []): ScaleTable {
  return {
    activations: plan.groups.map(
      (group, index) => group.fixed ?? affineFromRange(ranges[index]?.min ?? -1, ranges[index]?.max ?? 3, group.grid),
    ),
    weights: scalesOfWeights(graph, plan, new Map()),
  };
}

/** The lines of a graph, without types and without vectors of floats. */
export const outline = (graph: Graph): string[] =>
  linesOf(graph).map((line) => line.replace(/: \w+\[[^\]]*\](?=[ ,])/g, '').replace(/=float32(\[[^\]]+\])/g, '=$1'));

/** Scales from the ranges that every activation of the plan has on `feeds` in the float graph. */
export async function observedTable(graph: Graph, plan: QuantPlan, feeds: Readonly<Record<string, Tensor>>): Promise<ScaleTable> {
  const results = {
    ...(await runGraph(
      withTaps(
        graph,
        plan.activations.map((point) => point.value),
      ),
      feeds,
    )),
    ...feeds,
  };
  const ranges = new Map(plan.activations.map(({ value }) => [value, rangeOf(results[value]?.as('float32').data as Float32Array)]));
  return { activations: activationParams(plan.groups, plan.activations, ranges), weights: scalesOfWeights(graph, plan, new Map()) };
}
