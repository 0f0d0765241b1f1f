import { chooseEngine } from './engine/select.js';
import type { Limits, ModelSummary } from './events.js';
import { summarise } from './pipeline/model.js';
import type { Recipe } from './recipe.js';

/** What an uploaded model is, and what of it can be int8 by a recipe. Throws MODEL_* errors. */
export async function inspectModel(path: string, { limits, recipe }: { limits: Limits; recipe: Recipe }): Promise<ModelSummary> {
  return summarise(path, limits, recipe, (await chooseEngine('auto')).engine);
}
