import { Cadence } from './cadence.js';
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

const now = () => performance.now() / 1000;

/**
 * Quantization-aware training: yields progress, epochs and checkpoints, and returns the epoch with the lowest held-out loss.
 * The same input gives the same result to the last bit, whatever the number of threads, also when it goes on from a checkpoint.
 * Throws TRAIN_DIVERGED when the loss is not a number, CANCELLED when the signal fires.
 */
export async function* train(input: TrainInput): AsyncGenerator<TrainEvent, TrainResult> {
  const run = await TrainingRun.open(input);
  try {
    const measured = await run.begin();
    const cadence = new Cadence(run.checkpointBytes, input.checkpointPause ?? 1, now());
    const checkpoint = () => ({ kind: 'checkpoint' as const, checkpoint: run.checkpoint() });
    if (measured) yield checkpoint();
    while (!run.finished) {
      for await (const data of run.batches()) {
        yield { kind: 'step', ...(await run.step(data)) };
        if (cadence.afterStep(run.steps, run.epochComplete, now())) yield checkpoint();
      }
      yield { kind: 'epoch', record: await run.endEpoch() };
      if (cadence.afterEpoch(run.finished, now())) yield checkpoint();
    }
  } finally {
    await run.dispose();
  }
  return run.result();
}
