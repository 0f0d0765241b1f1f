import { chooseEngine } from './engine/select.js';
import type { Limits, ModelSummary } from './events.js';
import { summarise } from './pipeline/model.js';

/** What an uploaded model is, and what of it can be int8. Throws MODEL_* errors. */
export async function inspectModel(path: string, options: { limits: Limits }): Promise<ModelSummary> {
  return summarise(path, options.limits, (await chooseEngine('auto')).engine);
}
