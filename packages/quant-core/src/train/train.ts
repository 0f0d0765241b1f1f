import type { Checkpoint } from './checkpoint.js';
import type { EpochRecord } from './epochs.js';
import type { TrainInput } from './input.js';
import { type StepRecord, TrainingRun, type TrainResult } from './run.js';

export type { TrainResult } from './run.js';

export type TrainEvent =
  | ({ kind: 'step' } & StepRecord)
  | { kind: 'epoch'; record: EpochRecord }
  /** The arrays of the checkpoint are those of the run: they hold until the next event is asked for. */
  | { kind: 'checkpoint'; checkpoint: Checkpoint };

/** Steps between checkpoints inside an epoch. */
const checkpointEvery = 500;

/**
 * Quantization-aware training: yields progress, epochs and checkpoints, and returns the epoch with the lowest held-out loss.
 * The same input gives the same result to the last bit, whatever the number of threads, also when it goes on from a checkpoint.
 * Throws TRAIN_DIVERGED when the loss is not a number, CANCELLED when the signal fires.
 */
export async function* train(input: TrainInput): AsyncGenerator<TrainEvent, TrainResult> {
  const run = await TrainingRun.open(input);
  try {
    await run.begin();
    while (!run.finished) {
      for await (const data of run.batches()) {
        yield { kind: 'step', ...(await run.step(data)) };
        if (run.steps % checkpointEvery === 0 && !run.epochComplete) yield { kind: 'checkpoint', checkpoint: run.checkpoint() };
      }
      yield { kind: 'epoch', record: await run.endEpoch() };
      yield { kind: 'checkpoint', checkpoint: run.checkpoint() };
    }
  } finally {
    await run.dispose();
  }
  return run.result();
}
