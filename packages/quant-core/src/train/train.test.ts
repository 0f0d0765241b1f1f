import { describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { lossSpec } from '../tasks/testing/specs.js';
import { reread } from './testing/checkpoints.js';
import { type Finished, finish, images, jobOf, type Options, smallNet } from './testing/jobs.js';
import type { TrainEvent } from './train.js';

const losses = ({ events }: Finished) => events.flatMap((event) => (event.kind === 'step' ? [event.loss] : []));
const run = async (options: Options = {}) => finish(await jobOf(options));
/** What a result is to the last bit; times aside. */
const bitsOf = ({ result }: Finished) => ({
  parameters: Buffer.from(result.parameters.buffer, result.parameters.byteOffset, result.parameters.byteLength).toString('hex'),
  ranges: [...result.ranges],
  weightRanges: [...result.weightRanges],
  history: result.history.map(({ seconds: _, ...record }) => record),
  bestEpoch: result.bestEpoch,
  learningRate: result.learningRate,
});
const isCheckpoint = (event: TrainEvent) => event.kind === 'checkpoint';

describe('training', () => {
  it('lowers the loss, and keeps the epoch with the lowest held-out loss', async () => {
    const finished = await run({ training: { epochs: 4 } });
    const { result, events } = finished;
    const all = losses(finished);
    expect(all).toHaveLength(12);
    expect(result.stepsPerEpoch).toBe(3);
    expect(result.history.at(-1)?.loss).toBeLessThan(0.5 * (result.history[0]?.loss as number));
    const held = result.history.map((record) => record.holdoutLoss);
    expect(held[result.bestEpoch - 1]).toBe(Math.min(...held));
    expect(result.history.filter((record) => record.best).map((record) => record.epoch)).toEqual([result.bestEpoch]);
    expect(result.history[result.bestEpoch - 1]?.holdoutMetric).toBeGreaterThan(0.9);
    expect(result.history[0]?.loss).toBeCloseTo((all[0]! + all[1]! + all[2]!) / 3, 10);
    expect(events.filter(isCheckpoint)).toHaveLength(4);
    expect(result.observersFrozenAtStep).toBe(3);
  });

  it('gives the same bytes twice, and with one thread or two', async () => {
    const once = bitsOf(await run());
    expect(bitsOf(await run())).toEqual(once);
    expect(bitsOf(await run({ input: { threads: 2 } }))).toEqual(once);
  });

  it('goes another way with another seed', async () => {
    const job = await jobOf();
    expect(bitsOf(await finish({ ...job, recipe: { ...job.recipe, seed: 1 } })).parameters).not.toBe(bitsOf(await finish(job)).parameters);
  });

  it('finds its learning rate, the same one every time', async () => {
    const once = await run({ training: { learningRate: 'auto', epochs: 2 } });
    expect(once.result.learningRate).toBeGreaterThan(1e-6);
    expect(once.result.learningRate).toBeLessThan(0.1);
    expect(once.result.history.at(-1)?.loss).toBeLessThan(once.result.history[0]?.loss as number);
    expect(bitsOf(await run({ training: { learningRate: 'auto', epochs: 2 }, input: { threads: 2 } }))).toEqual(bitsOf(once));
  });

  it.each([
    ['Adam', { optimizer: 'adam' as const, learningRate: 0.01 }],
    ['clipped gradients', { clipGradient: 0.5 }],
    ['the step schedule', { schedule: 'step' as const }],
  ])('takes %s', async (_what, training) => {
    const { result } = await run({ training });
    expect(result.history.at(-1)?.loss).toBeLessThan(0.8 * (result.history[0]?.loss as number));
  });

  it('moves activation ranges until they freeze', async () => {
    const never = await run({ training: { freezeObserversAfter: 0 } });
    const one = await run({ training: { freezeObserversAfter: 1 } });
    const input = await jobOf();
    for (const [name, range] of never.result.ranges) {
      const calibrated = input.calibrated.get(name)!;
      expect(range.max).toBeCloseTo(Math.min(calibrated.range.max, calibrated.average.max), 6);
    }
    expect([...one.result.ranges]).not.toEqual([...never.result.ranges]);
  });

  it('trains four-bit weights whose range is clipped', async () => {
    const weightRanges = new Map([['w2', { share: new Float32Array(8).fill(0.6) }]]);
    const { result } = await run({
      quantization: { weights: { bits: 4, reduceRange: false } },
      training: { scales: 'observed' },
      input: { weightRanges },
    });
    expect(result.history.at(-1)?.loss).toBeLessThan(0.8 * (result.history[0]?.loss as number));
  });
});

const augment = { flip: true, shift: 1, padding: 'edge', brightness: 0.1, contrast: 0.1, mixup: 0.2 } as const;

describe('augmentation', () => {
  it('changes what is learned, and no epoch sees the images of the one before', async () => {
    const plain = await run();
    const changed = await run({ training: { augment } });
    expect(bitsOf(changed).parameters).not.toBe(bitsOf(plain).parameters);
    expect(bitsOf(await run({ training: { augment }, input: { threads: 2 } }))).toEqual(bitsOf(changed));
  });

  it('goes on from a checkpoint to the same bytes', async () => {
    const input = await jobOf({ training: { epochs: 3, augment } });
    const whole = await finish(input);
    const { events } = await finish(input, isCheckpoint);
    const { checkpoint } = events.at(-1) as Extract<TrainEvent, { kind: 'checkpoint' }>;
    expect(bitsOf(await finish({ ...input, checkpoint: reread(checkpoint) }))).toEqual(bitsOf(whole));
  });
});

describe('checkpoints', () => {
  it('go on to the same bytes as a run that never stopped', async () => {
    const input = await jobOf({ training: { epochs: 4, optimizer: 'adam', learningRate: 0.01, freezeObserversAfter: 2 } });
    const whole = await finish(input);
    for (const stopAfter of [1, 3]) {
      let seen = 0;
      const { events } = await finish(input, (event) => isCheckpoint(event) && ++seen === stopAfter);
      const last = events.at(-1) as Extract<TrainEvent, { kind: 'checkpoint' }>;
      expect(last.checkpoint.step).toBe(3 * stopAfter);
      const checkpoint = reread(last.checkpoint);
      const resumed = await finish({ ...input, threads: 2, checkpoint });
      expect(losses(resumed)).toHaveLength(12 - 3 * stopAfter);
      const seconds = ({ seconds: _, ...record }: { seconds: number }) => record;
      expect(resumed.result.history.map(seconds)).toEqual(whole.result.history.map(seconds));
      expect(bitsOf(resumed)).toEqual(bitsOf(whole));
    }
  });

  it('of learned scales do so too', async () => {
    const input = await jobOf({ quantization: { weights: { bits: 4 }, activations: { bits: 4 } }, training: { learningRate: 0.02 } });
    const whole = await finish(input);
    expect(whole.result.learnedScales).toBeGreaterThan(8);
    const { events } = await finish(input, isCheckpoint);
    const { checkpoint } = events.at(-1) as Extract<TrainEvent, { kind: 'checkpoint' }>;
    const resumed = await finish({ ...input, threads: 2, checkpoint: reread(checkpoint) });
    expect(bitsOf(resumed)).toEqual(bitsOf(whole));
    const observed = await finish(
      await jobOf({
        quantization: { weights: { bits: 4 }, activations: { bits: 4 } },
        training: { learningRate: 0.02, scales: 'observed' },
      }),
    );
    expect(bitsOf(observed).weightRanges).not.toEqual(bitsOf(whole).weightRanges);
  });

  it('inside an epoch do so too', async () => {
    const input = await jobOf({
      samples: images(536),
      training: { epochs: 1, batchSize: 1, learningRate: 0.001, freezeObserversAfter: 0.5 },
    });
    const { events } = await finish(input, isCheckpoint);
    const { checkpoint } = events.at(-1) as Extract<TrainEvent, { kind: 'checkpoint' }>;
    expect(checkpoint.step).toBe(500);
    const resumed = await finish({ ...input, checkpoint: reread(checkpoint) });
    expect(losses(resumed)).toHaveLength(20);
    expect(bitsOf(resumed)).toEqual(bitsOf(await finish(input)));
  });

  it('keep a learning rate that was searched for', async () => {
    const input = await jobOf({ training: { learningRate: 'auto', epochs: 2 } });
    const whole = await finish(input);
    const { events } = await finish(input, isCheckpoint);
    const { checkpoint } = events.at(-1) as Extract<TrainEvent, { kind: 'checkpoint' }>;
    expect(bitsOf(await finish({ ...input, checkpoint }))).toEqual(bitsOf(whole));
  });

  it('of another job are refused', async () => {
    const input = await jobOf();
    const { events } = await finish(input, isCheckpoint);
    const { checkpoint } = events.at(-1) as Extract<TrainEvent, { kind: 'checkpoint' }>;
    await failure('CHECKPOINT_MISMATCH', () => finish({ ...input, fingerprint: 'another job', checkpoint }));
  });
});

describe('what ends a training', () => {
  it('a loss that is not finite, with the step', async () => {
    const error = await failure('TRAIN_DIVERGED', () =>
      run({
        graph: smallNet(1),
        samples: images(64, 'regression'),
        training: { learningRate: 10, schedule: 'constant', epochs: 50 },
        input: { loss: lossSpec('h', 'mse') },
      }),
    );
    expect(error.message).toMatch(/^The loss is (NaN|Infinity) at step \d+ of 150/);
    expect(error.place.pointer).toBe('/training/learningRate');
  });

  it('the abort signal', async () => {
    const controller = new AbortController();
    const input = await jobOf({ input: { signal: controller.signal } });
    const seen: TrainEvent[] = [];
    await failure('CANCELLED', () =>
      finish(input, (event) => {
        seen.push(event);
        if (seen.length === 2) controller.abort();
        return false;
      }),
    );
    expect(seen.length).toBeLessThan(5);
  });

  it('a batch that the model insists on and the data cannot fill', async () => {
    const graph = smallNet();
    const error = await failure('CONFIG_IMPOSSIBLE', async () => finish(await jobOf({ graph, input: { fixedBatch: 100 } })));
    expect(error.message).toContain('100 samples at a time, there are 48');
  });
});

describe('losses', () => {
  it('distillation needs no labels', async () => {
    const { result } = await run({
      samples: images(64, 'unlabelled'),
      input: { loss: lossSpec('h', 'cross_entropy', 1) },
    });
    expect(result.history.at(-1)?.holdoutMetric).toBeGreaterThan(0.8);
  });

  it('distillation beside the labels', async () => {
    const { result } = await run({ input: { loss: lossSpec('h', 'cross_entropy', 0.3) } });
    expect(result.history.at(-1)?.loss).toBeLessThan(result.history[0]?.loss as number);
  });

  it('mean squared error for values', async () => {
    const { result } = await run({
      graph: smallNet(1),
      samples: images(64, 'regression'),
      training: { learningRate: 0.02, epochs: 6 },
      input: { loss: lossSpec('h', 'mse') },
    });
    expect(result.history.at(-1)?.holdoutLoss).toBeLessThan(0.3 * (result.history[0]?.holdoutLoss as number));
  });

  it('of values after a Sigmoid is taken of the Sigmoid, in training and on the held-out split', async () => {
    const { result } = await run({
      graph: smallNet(1, 'y = Sigmoid(h)'),
      samples: images(64, 'regression'),
      training: { epochs: 4 },
      input: { loss: lossSpec('y', 'mse') },
    });
    // Targets lie around 0.5: a loss above 1 would be one of the logits.
    for (const record of result.history) expect(record.holdoutLoss).toBeLessThan(1);
    expect(Math.abs((result.history.at(-1)?.holdoutLoss as number) - (result.history.at(-1)?.loss as number))).toBeLessThan(0.3);
  });

  it.each(['y = Softmax(h)', 'y = LogSoftmax(h)'])('of a model that ends with %s is that of its logits', async (tail) => {
    const plain = bitsOf(await run());
    const { result } = await run({ graph: smallNet(2, tail) });
    expect(bitsOf({ result, events: [] })).toEqual(plain);
  });

  it('of one logit is binary', async () => {
    const { result } = await run({
      graph: smallNet(1),
      training: { epochs: 6 },
      input: { loss: lossSpec('h', 'binary_cross_entropy', 0.1) },
    });
    expect(result.history.at(-1)?.loss).toBeLessThan(result.history[0]?.loss as number);
    expect(result.history.at(-1)?.holdoutMetric).toBeGreaterThan(0.8);
  });
});

describe('batches', () => {
  it('larger than the data take all of it', async () => {
    const { result, events } = await run({ training: { batchSize: 500, epochs: 2 } });
    expect(result.stepsPerEpoch).toBe(1);
    expect(events.filter((event) => event.kind === 'step')).toHaveLength(2);
  });

  it('of a size the model insists on', async () => {
    const graph = smallNet();
    for (const value of [...graph.inputs, ...graph.nodes.flatMap((node) => node.outputs)]) {
      if (value.type?.shape) value.type = { ...value.type, shape: value.type.shape.map((dim) => (dim === 'N' ? 5 : dim)) };
    }
    const { result } = await finish(await jobOf({ graph: smallNet(), input: { graph, fixedBatch: 5 } }));
    expect(result.stepsPerEpoch).toBe(9);
    expect(result.history.at(-1)?.loss).toBeLessThan(result.history[0]?.loss as number);
  });

  it('of an odd size run in one part', async () => {
    expect((await run({ training: { batchSize: 7, epochs: 1 } })).result.stepsPerEpoch).toBe(6);
  });
});
