import type { NamedArrays } from './arrays.js';
import type { EpochRecord } from './epochs.js';

/** The best epoch so far: its score, its parameters and all else that training changes but the state of the optimizer. */
export interface BestEpoch {
  epoch: number;
  holdoutLoss: number;
  arrays: NamedArrays;
}

/** Everything a training run needs to go on and give the same bytes as if it had never stopped. */
export interface Checkpoint {
  /** Digest of what is trained (model, data, recipe); a checkpoint of another job is refused. */
  fingerprint: string;
  /** Learning rate at the start of the schedule. */
  learningRate: number;
  /** Steps finished, counted through all epochs. */
  step: number;
  /** Sum of the losses of the steps finished in the epoch under way. */
  lossSum: number;
  history: EpochRecord[];
  /** Parameters, state of the optimizer, moving ranges, learned scales, statistics of batch norms. */
  arrays: NamedArrays;
  best: BestEpoch | undefined;
}

/** A checkpoint in the two parts that a file has. */
export interface PackedCheckpoint {
  /** Plain JSON. */
  header: Record<string, unknown>;
  arrays: NamedArrays;
}

/** Prefixes of the names of arrays in a file. */
export const prefixes = { now: 'training/', best: 'best/' } as const;

/** The parts of a checkpoint; its arrays are not copied. `unpackCheckpoint` puts them together again. */
export function packCheckpoint({ arrays, best, ...header }: Checkpoint): PackedCheckpoint {
  return {
    header: { ...header, best: best ? { epoch: best.epoch, holdoutLoss: best.holdoutLoss } : null },
    arrays: { ...prefixed(prefixes.now, arrays), ...(best ? prefixed(prefixes.best, best.arrays) : {}) },
  };
}

const prefixed = (prefix: string, arrays: NamedArrays): NamedArrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [prefix + name, array]));
