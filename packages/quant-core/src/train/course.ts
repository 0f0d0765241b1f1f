import { OctetError } from '../errors.js';
import type { Norms } from './batchNorm.js';
import type { TrainInput } from './input.js';
import { type StepForm, shardsFor } from './stepper.js';

/** The steps of a training: how many there are, and what changes along the way. Steps are counted through all epochs. */
export interface Course {
  /** Samples of a step, and the parts they are split into. */
  batch: number;
  shards: 1 | 2;
  stepsPerEpoch: number;
  total: number;
  /** Steps after which activation ranges and the statistics of batch norms stay what they are. */
  observersFrozenAt: number;
  normsFrozenAt: number;
}

/** Throws CONFIG_IMPOSSIBLE when there are too few samples for a step. */
export function courseOf({ recipe: { training }, fixedBatch, trainIndices }: TrainInput, norms: Norms): Course {
  const samples = trainIndices.length;
  const batch = fixedBatch ?? Math.min(training.batchSize, samples);
  const stepsPerEpoch = Math.floor(samples / batch);
  if (!stepsPerEpoch)
    throw new OctetError('CONFIG_IMPOSSIBLE', `The model takes ${batch} samples at a time, there are ${samples} to train on`, {
      pointer: '/training/batchSize',
    });
  const total = stepsPerEpoch * training.epochs;
  const after = (epochs: number) => Math.min(total, Math.round(epochs * stepsPerEpoch));
  return {
    batch,
    shards: fixedBatch === undefined ? shardsFor(batch) : 1,
    stepsPerEpoch,
    total,
    observersFrozenAt: after(training.freezeObserversAfter),
    normsFrozenAt: norms.points.length ? after(training.freezeBatchNormAfter) : 0,
  };
}

/** The form of step number `step`, counted from 0. */
export const formAt = ({ observersFrozenAt, normsFrozenAt }: Course, step: number): StepForm => ({
  observe: step < observersFrozenAt,
  statistics: step < normsFrozenAt ? 'batch' : 'running',
});
