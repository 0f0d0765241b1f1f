import { batches, type IndexedBatch } from '../data/batches.js';
import type { Batch } from '../data/dataset.js';
import { shuffled } from '../data/split.js';
import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { copyArrays, matchingArrays, type NamedArrays } from './arrays.js';
import { augmented } from './augment.js';
import type { BatchFeedSpec } from './batch.js';
import { Norms } from './batchNorm.js';
import type { BestEpoch, Checkpoint } from './checkpoint.js';
import { type Course, courseOf, formAt } from './course.js';
import type { EpochRecord } from './epochs.js';
import { holdoutMetricName } from './holdout.js';
import type { TrainInput } from './input.js';
import { type LearnedSelection, learnedScales } from './learnedScales.js';
import { type FoldedNetwork, NetworkState } from './network.js';
import { copyOf, type Weights } from './optimizer.js';
import { packParameters, parameterLayout } from './parameters.js';
import { findLearningRate, rangeTestSteps } from './rangeTest.js';
import { learningRateAt } from './schedule.js';
import { Scorer } from './scorer.js';
import { Stepper } from './stepper.js';

/** The best epoch of a run, as it would be converted, and how it came about. */
export interface TrainResult extends FoldedNetwork {
  history: EpochRecord[];
  bestEpoch: number;
  observersFrozenAtStep: number;
  /** How many batch norms were kept, and the step at which their statistics froze. */
  keptNorms: number;
  normsFrozenAtStep: number;
  /** How many scales were trained. */
  learnedScales: number;
  /** Names of the weights that the loss cannot reach: they stayed what they were. */
  unreached: readonly string[];
  stepsPerEpoch: number;
  samplesPerSecond: number;
  learningRate: number;
}

/** What is known of one step when it ends. */
export interface StepRecord {
  /** Steps finished, of how many, counted through all epochs; the epoch is counted from 0. */
  step: number;
  total: number;
  epoch: number;
  loss: number;
  learningRate: number;
  samplesPerSecond: number;
}

/** Number of the shuffle that the range test draws from; no epoch has it. */
const rangeTestEpoch = -1;

/**
 * One training with everything it needs to be stopped after any step and gone on with. In order: `begin`, then for every epoch `step` for each of `batches`
 * and `endEpoch`, until `finished`; then `result`. `dispose` always.
 */
export class TrainingRun {
  private learningRate: number;
  private done = 0;
  private lossSum = 0;
  private history: EpochRecord[] = [];
  private best: BestEpoch | undefined;
  private epochStarted = performance.now();
  private readonly clock = { samples: 0, seconds: 0 };

  private constructor(
    private readonly input: TrainInput,
    private readonly course: Course,
    private readonly norms: Norms,
    private readonly stepper: Stepper,
    private readonly scorer: Scorer,
    private readonly network: NetworkState,
    private weights: Weights,
  ) {
    const { learningRate } = input.recipe.training;
    this.learningRate = learningRate === 'auto' ? Number.NaN : learningRate;
  }

  /** A run at its start, or where its checkpoint was made. Throws CONFIG_IMPOSSIBLE; CHECKPOINT_MISMATCH when the checkpoint is that of another training. */
  static async open(input: TrainInput): Promise<TrainingRun> {
    const folded = parameterLayout(input.graph);
    const norms = new Norms(input.graph, folded, input.plan, input.norms ?? []);
    const course = courseOf(input, norms);
    const selection = learnedScales(input.plan, input.recipe.training.scales);
    const feeds = feedSpec(input);
    const start = norms.start(input.start ?? packParameters(input.graph, folded));
    const stepper = stepperOf(input, course, norms, selection, feeds);
    const network = await NetworkState.create(input, norms, selection, start, stepper.observed);
    const scorer = Scorer.create(input, folded, course.shards, feeds.input);
    const weights = { parameters: start, optimizer: stepper.initialState() };
    const run = new TrainingRun(input, course, norms, stepper, scorer, network, weights);
    try {
      if (input.checkpoint) run.resume(input.checkpoint);
      return run;
    } catch (error) {
      await run.dispose();
      throw error;
    }
  }

  private resume(checkpoint: Checkpoint): void {
    const { learningRate, step, lossSum, history, best } = checkpoint;
    if (checkpoint.fingerprint !== this.input.fingerprint)
      throw new OctetError('CHECKPOINT_MISMATCH', 'The checkpoint was written by a job with another model, dataset or configuration');
    this.network.load(checkpoint.arrays);
    this.weights = weightsFrom(matchingArrays(checkpoint.arrays, arraysOf(this.weights)));
    if (best) matchingArrays(best.arrays, this.networkArrays);
    Object.assign(this, { learningRate, lossSum, best, done: step, history: structuredClone(history) });
  }

  /** Steps finished, counted through all epochs. */
  get steps(): number {
    return this.done;
  }

  /** Whether the steps of the epoch under way are all done, and its end is not. */
  get epochComplete(): boolean {
    return this.done === (this.history.length + 1) * this.course.stepsPerEpoch;
  }

  get finished(): boolean {
    return this.history.length >= this.input.recipe.training.epochs;
  }

  /** What comes before the first step: statistics of batch norms where they are frozen from the start, and the learning rate where it is to be found. True when something was measured. */
  async begin(): Promise<boolean> {
    const { norms, course, network, weights, input } = this;
    const fresh = !input.checkpoint;
    const frozen = fresh && norms.points.length > 0 && course.normsFrozenAt === 0;
    if (frozen) await network.reestimate(weights.parameters, course);
    const wanted = Number.isNaN(this.learningRate);
    if (wanted) this.learningRate = await this.findLearningRate();
    this.epochStarted = performance.now();
    return frozen || wanted;
  }

  private findLearningRate(): Promise<number> {
    const { input, course, network, stepper, scorer } = this;
    const { batch, stepsPerEpoch, normsFrozenAt } = course;
    const order = shuffled(input.trainIndices, input.recipe.seed, rangeTestEpoch);
    const trial = copyOf(this.weights);
    const step = async (index: number, rate: number) => {
      if (input.signal?.aborted) throw new OctetError('CANCELLED', 'Training was cancelled');
      const from = (index % stepsPerEpoch) * batch;
      const { seed, training } = input.recipe;
      const plain = await input.samples.batch(order.subarray(from, from + batch));
      const data = augmented(plain, training.augment, seed, `${index} of the range test`);
      const form = formAt(course, 0);
      const given = await network.feeds(trial.parameters, form.statistics);
      return (await stepper.step(data, await scorer.teach(data), trial, given, rate, index + 1, form)).loss;
    };
    const { optimizer } = input.recipe.training;
    return findLearningRate(optimizer, lowestBits(input.plan), rangeTestSteps(stepsPerEpoch), step, normsFrozenAt > 0);
  }

  /** The batches of the epoch under way that are still to come. */
  batches(): AsyncGenerator<IndexedBatch> {
    const { input, course, history } = this;
    const epoch = history.length;
    const { batch, stepsPerEpoch } = course;
    const from = this.done - epoch * stepsPerEpoch;
    const order = shuffled(input.trainIndices, input.recipe.seed, epoch).subarray(from * batch, stepsPerEpoch * batch);
    return batches(input.samples, order, { batchSize: batch, dropLast: true, ...(input.signal ? { signal: input.signal } : {}) });
  }

  /** One step on a batch. Throws TRAIN_DIVERGED when its loss is not finite. */
  async step(plain: Batch): Promise<StepRecord> {
    const { course, network, stepper, scorer, weights, clock } = this;
    const started = performance.now();
    const { seed, training } = this.input.recipe;
    const data = augmented(plain, training.augment, seed, this.done);
    const epoch = this.history.length;
    const learningRate = this.rateAt(this.done);
    const form = formAt(course, this.done);
    const factors = network.factors(weights.parameters);
    // A step of another form than the one before is put together while the teacher runs.
    const [teacher] = await Promise.all([scorer.teach(data), stepper.prepare(form)]);
    const feeds = await network.feeds(weights.parameters, form.statistics);
    const result = await stepper.step(data, teacher, weights, feeds, learningRate, this.done + 1, form);
    const step = ++this.done;
    if (!Number.isFinite(result.loss))
      throw diverged(
        `The loss is ${result.loss} at step ${step} of ${course.total} (epoch ${epoch + 1}, learning rate ${learningRate.toPrecision(3)})`,
      );
    network.update(result, factors, learningRate / this.learningRate, step);
    if (step <= course.normsFrozenAt && (step === course.normsFrozenAt || step % course.stepsPerEpoch === 0))
      await network.reestimate(weights.parameters, course);
    this.lossSum += result.loss;
    clock.samples += course.batch;
    clock.seconds += (performance.now() - started) / 1000;
    return { step, total: course.total, epoch, loss: result.loss, learningRate, samplesPerSecond: clock.samples / clock.seconds };
  }

  private rateAt(step: number): number {
    const { total, stepsPerEpoch } = this.course;
    return learningRateAt(this.input.recipe.training, this.learningRate, step, total, stepsPerEpoch);
  }

  /** Score the epoch that is complete on the held-out split, and keep it if it is the best so far. Throws TRAIN_DIVERGED when the loss is not finite. */
  async endEpoch(): Promise<EpochRecord> {
    const { course, network, scorer, weights, history } = this;
    const epoch = history.length + 1;
    // What is scored is the folded network, as it would be converted.
    const score = await scorer.score(network.foldedFeeds(weights.parameters));
    // Parameters that are not finite stay so: the checkpoint before is the last good one.
    if (!Number.isFinite(score.loss))
      throw diverged(`The held-out loss is ${score.loss} after epoch ${epoch} (step ${this.done} of ${course.total})`);
    const metricName = holdoutMetricName(this.input);
    const best = !this.best || score.loss < this.best.holdoutLoss;
    if (best) {
      for (const record of history) record.best = false;
      this.best = { epoch, holdoutLoss: score.loss, arrays: copyArrays(this.networkArrays) };
    }
    const record: EpochRecord = {
      epoch,
      loss: this.lossSum / course.stepsPerEpoch,
      holdoutLoss: score.loss,
      holdoutMetric: score.metric,
      ...(metricName === undefined ? {} : { metricName }),
      learningRate: this.rateAt(this.done - 1),
      seconds: (performance.now() - this.epochStarted) / 1000,
      best,
    };
    history.push(record);
    this.lossSum = 0;
    this.epochStarted = performance.now();
    return record;
  }

  /** What the score of an epoch depends on. */
  private get networkArrays(): NamedArrays {
    return { parameters: this.weights.parameters, ...this.network.arrays };
  }

  /** The run as it is now. The arrays are its own: they hold until the next step. */
  checkpoint(): Checkpoint {
    const { input, learningRate, done, lossSum, history, best } = this;
    return {
      fingerprint: input.fingerprint,
      learningRate,
      step: done,
      lossSum,
      history,
      arrays: { ...this.network.arrays, ...arraysOf(this.weights) },
      best,
    };
  }

  /** How large a checkpoint is, once there is a best epoch. */
  get checkpointBytes(): number {
    const bytes = (arrays: NamedArrays) => Object.values(arrays).reduce((sum, array) => sum + array.byteLength, 0);
    return 2 * bytes(this.networkArrays) + this.weights.optimizer.reduce((sum, state) => sum + state.byteLength, 0);
  }

  /** The best epoch. The run cannot go on from here. */
  result(): TrainResult {
    const { best, network, course, clock, history, learningRate } = this;
    if (!best) throw new OctetError('CHECKPOINT_MISMATCH', 'The checkpoint has finished all epochs, and holds no result');
    network.load(best.arrays);
    return {
      ...network.folded(best.arrays.parameters as Float32Array),
      history,
      bestEpoch: best.epoch,
      observersFrozenAtStep: course.observersFrozenAt,
      keptNorms: this.norms.points.length,
      normsFrozenAtStep: course.normsFrozenAt,
      learnedScales: network.learnedScales,
      unreached: this.stepper.unreached,
      stepsPerEpoch: course.stepsPerEpoch,
      samplesPerSecond: clock.seconds ? clock.samples / clock.seconds : 0,
      learningRate,
    };
  }

  async dispose(): Promise<void> {
    await this.stepper.dispose();
    await this.network.dispose();
    await this.scorer.dispose();
  }
}

/** The weights under the names they have in a checkpoint, and back. */
const arraysOf = ({ parameters, optimizer }: Weights): Record<string, Float32Array> => ({
  parameters,
  ...Object.fromEntries(optimizer.map((state, index) => [`optimizer.${index}`, state])),
});
const weightsFrom = ({ parameters, ...optimizer }: Record<string, Float32Array>): Weights => ({
  parameters: parameters as Float32Array,
  optimizer: Object.values(optimizer),
});

function stepperOf(input: TrainInput, course: Course, norms: Norms, learned: LearnedSelection, feeds: BatchFeedSpec): Stepper {
  const { graph, batchSymbol, sizes, plan, loss, weightRanges, engine, threads } = input;
  const { optimizer, momentum, weightDecay, clipGradient } = input.recipe.training;
  const spec = {
    graph,
    batch: course.batch,
    shards: course.shards,
    batchSymbol,
    ...(sizes ? { sizes } : {}),
    layout: norms.layout,
    plan,
    loss,
    clippedWeights: new Set(weightRanges.keys()),
    learned,
    norms: norms.points,
  };
  const update = { kind: optimizer, momentum, weightDecay, ...(clipGradient === undefined ? {} : { clipGradient }) };
  return Stepper.create(engine, threads, spec, update, feeds);
}

const diverged = (why: string) => new OctetError('TRAIN_DIVERGED', why, { pointer: '/training/learningRate' });

/** The fewest bits anywhere in the plan. */
const lowestBits = (plan: QuantPlan) => Math.min(...plan.weights.map((point) => point.bits), ...plan.groups.map((group) => group.bits));

function feedSpec(input: TrainInput): BatchFeedSpec {
  const { loss, heads, task, ignoreIndex } = input;
  return { input: input.graph.inputs[0]?.name as string, loss, heads, task, ignoreIndex };
}
