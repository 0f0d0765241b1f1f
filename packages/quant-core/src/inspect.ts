import { OrtEngine } from './engine/ort/ort.js';
import type { Limits, ModelSummary } from './events.js';
import { summarise } from './pipeline/model.js';

/** What an uploaded model is, and what of it can be int8. Throws MODEL_* errors. */
export function inspectModel(path: string, options: { limits: Limits }): Promise<ModelSummary> {
  return summarise(path, options.limits, new OrtEngine());
}
