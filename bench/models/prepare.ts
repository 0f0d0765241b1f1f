import { Value } from 'typebox/value';
import { type CalibratedRange, calibrate, type Tap } from '../../packages/quant-core/src/calibrate/calibrate.js';
import type { Engine } from '../../packages/quant-core/src/engine/engine.js';
import { planQuantization, type QuantPlan } from '../../packages/quant-core/src/fakequant/plan.js';
import type { Graph } from '../../packages/quant-core/src/ir/graph.js';
import { type Recipe, RecipeSchema } from '../../packages/quant-core/src/recipe.js';
import { randomTensor } from './inputs.js';

/** A recipe with the defaults filled in. */
export function defaultRecipe(target: Recipe['target'] = 'onnxruntime'): Recipe {
  return Value.Parse(RecipeSchema, Value.Default(RecipeSchema, { target }));
}

export interface Prepared {
  plan: QuantPlan;
  calibrated: Map<string, CalibratedRange>;
}

/** The activations of a plan whose ranges have to be observed. */
export function tapsOf(plan: QuantPlan): Tap[] {
  return plan.activations.flatMap((point) => {
    const group = plan.groups[point.group];
    return group && !group.fixed && !point.repeats ? [{ value: point.value, grid: group.grid }] : [];
  });
}

/** Plan what is quantized in a normalised graph, and calibrate it on two batches of random input, of `batch` samples each. */
export async function prepare(graph: Graph, recipe: Recipe, engine: Engine, batch = 32): Promise<Prepared> {
  const plan = planQuantization(graph, recipe);
  const sample = (graph.inputs[0]?.shape?.slice(1) ?? []) as number[];
  const batches = (async function* () {
    for (let seed = 0; seed < 2; seed++) yield { x: randomTensor([batch, ...sample], seed) };
  })();
  return { plan, calibrated: await calibrate(graph, tapsOf(plan), batches, { recipe, engine, threads: 1, samples: 2 * batch }) };
}
