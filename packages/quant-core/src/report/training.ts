import type { Recipe } from '../recipe.js';
import type { LossSpec } from '../tasks/loss.js';
import type { TrainResult } from '../train/train.js';
import type { Report } from './schema.js';

/** What is told of a training run. */
export function trainingReport(
  trained: TrainResult & { loss: LossSpec },
  { training }: Recipe,
  fromRounded: boolean,
  normNote: string,
): NonNullable<Report['training']> {
  const { terms } = trained.loss;
  const [first] = terms;
  const alone = first.distillationWeight === 1;
  return {
    epochs: trained.history,
    bestEpoch: trained.bestEpoch,
    observersFrozenAtStep: trained.observersFrozenAtStep,
    distillationShare: first.distillationWeight,
    start: fromRounded ? 'rounded' : 'float',
    learnedScales: trained.learnedScales,
    batchNorm: {
      kept: trained.keptNorms,
      frozenAtStep: trained.normsFrozenAtStep,
      reestimated: trained.keptNorms > 0 && training.reestimateBatchNorm,
      note: normNote,
    },
    stepsPerEpoch: trained.stepsPerEpoch,
    samplesPerSecond: trained.samplesPerSecond,
    learningRate: trained.learningRate,
    loss: alone ? 'distillation' : first.kind,
    terms: terms.map(({ output, kind, distillationWeight, weight }) => ({ output, kind, distillationShare: distillationWeight, weight })),
  };
}
