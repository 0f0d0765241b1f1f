import type { CalibratedRange } from '../calibrate/calibrate.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { WeightRange } from '../fakequant/scales.js';
import type { Graph } from '../ir/graph.js';
import { latentWeights } from '../rounding/latent.js';
import { learnedScales } from '../train/learnedScales.js';
import type { NormChoice } from './batchNorm.js';
import { weightRangesFor } from './candidates.js';
import type { Context } from './context.js';
import type { PreparedModel } from './model.js';
import type { RoundedModel } from './ptq.js';

/** What training starts from. */
export interface TrainingStart {
  /** The float network that is trained, and that teaches. */
  model: PreparedModel;
  calibrated: ReadonlyMap<string, CalibratedRange>;
  weightRanges: ReadonlyMap<string, WeightRange>;
  /** The same network with the weights to begin with, where they are not its own. */
  rounded?: Graph;
}

/**
 * The float model, or the weights that PTQ has rounded adaptively. With those, training begins where PTQ ends, instead of finding a rounding of its own (docs/decisions/0017).
 * That asks for scales that are learned, because those found with the rounding belong to it, and batch norms that are folded, because the rounding was found with them folded.
 */
export function trainingStart(
  { job: { recipe } }: Context,
  model: PreparedModel,
  plan: QuantPlan,
  norms: NormChoice,
  calibrated: ReadonlyMap<string, CalibratedRange>,
  ptq: RoundedModel | undefined,
): TrainingStart {
  const learned = learnedScales(plan, recipe.training.scales).weights;
  const fits = ptq && !norms.kept.length && plan.weights.every((point, index) => !ptq.ranges.has(point.value) || learned.has(index));
  if (recipe.training.start === 'float' || !fits) return { model, calibrated, weightRanges: weightRangesFor(model.graph, plan) };
  return {
    model: ptq.model,
    calibrated: ptq.calibrated,
    weightRanges: new Map([...weightRangesFor(ptq.model.graph, plan), ...ptq.ranges]),
    rounded: latentWeights(ptq.model.graph, ptq.graph, plan, ptq.ranges),
  };
}
