import type { Recipe } from '../../packages/quant-core/src/recipe.js';
import type { Report } from '../../packages/quant-core/src/report/schema.js';

export interface StageOptions {
  model: string;
  dataset: string;
  recipe: Recipe;
}

export interface StageFigures {
  seconds: Record<string, number>;
  /** Peak of each stage, as seen from outside of the pipeline. */
  peakBytes: Record<string, number>;
  /** What the report says of memory. */
  told: Report['provenance']['memory'];
  layers: Report['layers'];
  version: string;
}
