import type { Placement } from '../fakequant/placementRecord.js';
import type { EpochRecord } from './epochs.js';

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
  parameters: Float32Array;
  optimizer: Float32Array[];
  /** What `QuantState.snapshot` gave. */
  scales: Float64Array[];
  history: EpochRecord[];
  best: { epoch: number; holdoutLoss: number; parameters: Float32Array; scales: Float64Array[] } | undefined;
  /** What was measured and chosen before, where the recipe asked for that: it is not measured again. */
  placement?: Placement;
}

/** The first bytes of the file. */
export const checkpointMagic = 'OCTETCP2';

/** Serialize: magic, length of a JSON header, the header, then the arrays one after the other (little-endian). */
export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const arrays: (Float32Array | Float64Array)[] = [checkpoint.parameters, ...checkpoint.optimizer, ...checkpoint.scales];
  if (checkpoint.best) arrays.push(checkpoint.best.parameters, ...checkpoint.best.scales);
  const header = JSON.stringify({
    fingerprint: checkpoint.fingerprint,
    learningRate: checkpoint.learningRate,
    step: checkpoint.step,
    lossSum: checkpoint.lossSum,
    history: checkpoint.history,
    optimizers: checkpoint.optimizer.length,
    scales: checkpoint.scales.length,
    best: checkpoint.best ? { epoch: checkpoint.best.epoch, holdoutLoss: checkpoint.best.holdoutLoss } : null,
    lengths: arrays.map((array) => array.length),
    ...(checkpoint.placement ? { placement: checkpoint.placement } : {}),
  });
  const head = Buffer.from(header);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(head.length);
  return Buffer.concat([
    Buffer.from(checkpointMagic),
    size,
    head,
    ...arrays.map((array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength)),
  ]);
}
