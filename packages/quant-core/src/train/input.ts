import type { CalibratedRange } from '../calibrate/calibrate.js';
import type { TaskName } from '../choices.js';
import type { Samples } from '../data/dataset.js';
import type { Engine } from '../engine/engine.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { WeightRange } from '../fakequant/scales.js';
import type { Graph } from '../ir/graph.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import type { Recipe } from '../recipe.js';
import type { LossHead, LossSpec } from '../tasks/loss.js';
import type { Checkpoint } from './checkpoint.js';

/** Everything a training run depends on. */
export interface TrainInput {
  /** Normalised float graph with one input and a symbolic batch. */
  graph: Graph;
  batchSymbol: string;
  /** Sizes of the other dimensions that the graph leaves open. */
  sizes?: Readonly<Record<string, number>>;
  /** Batch size that the graph fixes, if it does. */
  fixedBatch?: number;
  plan: QuantPlan;
  recipe: Recipe;
  loss: LossSpec;
  /** What each term of the loss is taken of. */
  heads: readonly LossHead[];
  /** What the labels are. */
  task: TaskName;
  /** A label a position that counts for nothing. */
  ignoreIndex?: number | undefined;
  samples: Samples;
  trainIndices: Uint32Array;
  holdoutIndices: Uint32Array;
  calibrated: ReadonlyMap<string, CalibratedRange>;
  /** Batch norms that are kept while training; the graph has them folded. */
  norms?: readonly FoldedNorm[];
  /** The parameters to begin with, where they are not those of the graph. */
  start?: Float32Array;
  /** Where the range of a weight comes from, for those that do not keep all of it. */
  weightRanges: ReadonlyMap<string, WeightRange>;
  engine: Engine;
  threads: number;
  fingerprint: string;
  checkpoint?: Checkpoint;
  /** Fewest seconds between two checkpoints; 1 when left out. */
  checkpointPause?: number;
  signal?: AbortSignal;
}
