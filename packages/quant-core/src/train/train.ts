import { batches } from '../data/batches.js';
import { shuffled } from '../data/split.js';
import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { WeightRange } from '../fakequant/scales.js';
import type { Range } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import type { BatchFeedSpec } from './batch.js';
import { Norms, type Statistics } from './batchNorm.js';
import type { Checkpoint } from './checkpoint.js';
import type { EpochRecord } from './epochs.js';
import { feedNames } from './forward.js';
import { holdoutMetricName } from './holdout.js';
import type { TrainInput } from './input.js';
import { LearnedScales, learnedScales } from './learnedScales.js';
import { estimateStatistics } from './normEstimator.js';
import { copyOf, type OptimizerSpec, type Weights } from './optimizer.js';
import { packParameters, parameterLayout } from './parameters.js';
import { findLearningRate, rangeTestSteps } from './rangeTest.js';
import { learningRateAt } from './schedule.js';
import { Scorer } from './scorer.js';
import { QuantState } from './state.js';
import { type StepForm, Stepper, shardsFor } from './stepper.js';
import { WeightScan } from './weightScan.js';

export type TrainEvent =
  | { kind: 'step'; step: number; total: number; epoch: number; loss: number; learningRate: number; samplesPerSecond: number }
  | { kind: 'epoch'; record: EpochRecord }
  | { kind: 'checkpoint'; checkpoint: Checkpoint };

export interface TrainResult {
  /** The parameter vector of the best epoch. */
  parameters: Float32Array;
  /** Its activation ranges. */
  ranges: Map<string, Range>;
  /** Where the ranges of its weights come from, for those that do not keep all of it. */
  weightRanges: ReadonlyMap<string, WeightRange>;
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

/** Steps between checkpoints inside an epoch. */
const checkpointEvery = 500;

/** Number of the shuffle that the range test draws from; no epoch has it. */
const rangeTestEpoch = -1;

/** The best epoch so far; `history` marks it. */
function keepBest(history: EpochRecord[], record: EpochRecord, before: Checkpoint['best']): boolean {
  const better = !before || record.holdoutLoss < before.holdoutLoss;
  if (better) for (const entry of history) entry.best = false;
  history.push({ ...record, best: better });
  return better;
}

/**
 * Quantization-aware training: yields progress, epochs and checkpoints, and returns the epoch with the lowest held-out loss.
 * The same input gives the same result to the last bit, whatever the number of threads, also when it goes on from a checkpoint.
 * Throws TRAIN_DIVERGED when the loss is no longer a number, CANCELLED when the signal fires.
 */
export async function* train(input: TrainInput): AsyncGenerator<TrainEvent, TrainResult> {
  const { recipe, plan, engine, threads, trainIndices, fingerprint, checkpoint: resumed } = input;
  const { training } = recipe;
  if (resumed && resumed.fingerprint !== fingerprint)
    throw new OctetError('CHECKPOINT_MISMATCH', 'The checkpoint was written by a job with another model, dataset or configuration');
  const foldedLayout = parameterLayout(input.graph);
  const norms = new Norms(input.graph, foldedLayout, plan, input.norms ?? []);
  const { layout } = norms;
  const batch = input.fixedBatch ?? Math.min(training.batchSize, trainIndices.length);
  const shards = input.fixedBatch === undefined ? shardsFor(batch) : 1;
  const stepsPerEpoch = Math.floor(trainIndices.length / batch);
  if (!stepsPerEpoch)
    throw new OctetError('CONFIG_IMPOSSIBLE', `The model takes ${batch} samples at a time, there are ${trainIndices.length} to train on`, {
      pointer: '/training/batchSize',
    });
  const total = stepsPerEpoch * training.epochs;
  const frozenAt = Math.min(total, Math.round(training.freezeObserversAfter * stepsPerEpoch));
  const normsFrozenAt = norms.points.length ? Math.min(total, Math.round(training.freezeBatchNormAfter * stepsPerEpoch)) : 0;
  const optimizer: OptimizerSpec = {
    kind: training.optimizer,
    momentum: training.momentum,
    weightDecay: training.weightDecay,
    ...(training.clipGradient === undefined ? {} : { clipGradient: training.clipGradient }),
  };
  const feeds = feedSpec(input);
  const selection = learnedScales(plan, training.scales);
  const start = norms.start(input.start ?? packParameters(input.graph, foldedLayout));
  const stepper = Stepper.create(
    engine,
    threads,
    {
      graph: input.graph,
      batch,
      shards,
      batchSymbol: input.batchSymbol,
      ...(input.sizes ? { sizes: input.sizes } : {}),
      layout,
      plan,
      loss: input.loss,
      clippedWeights: new Set(input.weightRanges.keys()),
      learned: selection,
      norms: norms.points,
    },
    optimizer,
    feeds,
  );
  const learned = new LearnedScales(plan, layout, selection, norms.quantized(start), input.calibrated, input.weightRanges);
  const quant = new QuantState(plan, layout, stepper.observed, input.calibrated, input.weightRanges, learned);
  const scales = () => [...quant.snapshot(), ...norms.state.map((array) => array.slice())];
  const restore = (from: readonly Float64Array[]) => {
    quant.restore(from);
    norms.restore(from.slice(from.length - norms.state.length));
  };
  if (resumed) restore(resumed.scales);
  const weights: Weights = resumed ? copyOf(resumed) : { parameters: start, optimizer: stepper.initialState() };
  const metricName = holdoutMetricName(input);
  const history: EpochRecord[] = structuredClone(resumed?.history ?? []);
  let best = resumed?.best;
  let lossSum = resumed?.lossSum ?? 0;
  const snapshot = (step: number): Checkpoint => ({
    fingerprint,
    learningRate: base,
    step,
    lossSum,
    ...copyOf(weights),
    scales: scales(),
    history: structuredClone(history),
    best,
  });

  let base = resumed?.learningRate ?? (training.learningRate === 'auto' ? Number.NaN : training.learningRate);
  const rateAt = (step: number) => learningRateAt(training, base, step, total, stepsPerEpoch);
  const scorer = Scorer.create(input, foldedLayout, shards, feeds.input);
  const scan = await WeightScan.create(engine, plan, layout, (weight) => quant.followsValues(weight));
  const clock = { samples: 0, seconds: 0 };
  let activationFeeds = quant.activationFeeds();
  const formAt = (step: number): StepForm => ({ observe: step < frozenAt, statistics: step < normsFrozenAt ? 'batch' : 'running' });
  const feedsFor = async (parameters: Float32Array, statistics: Statistics) => {
    const quantized = norms.quantized(parameters);
    return { ...activationFeeds, ...quant.weightFeeds(quantized, { found: await scan.ranges(quantized) }), ...norms.feeds(statistics) };
  };
  const reestimate = async () => {
    if (!training.reestimateBatchNorm) return;
    const { [feedNames.activationLow]: _low, [feedNames.activationHigh]: _high, ...feeds } = await feedsFor(weights.parameters, 'batch');
    const parameters = Tensor.float32([layout.size], weights.parameters);
    norms.replace(
      norms.factors(weights.parameters),
      await estimateStatistics(input, norms, batch, shards, { ...feeds, [feedNames.parameters]: parameters }),
    );
  };
  try {
    if (norms.points.length && normsFrozenAt === 0 && !resumed) await reestimate();
    if (Number.isNaN(base)) {
      const order = shuffled(trainIndices, recipe.seed, rangeTestEpoch);
      const trial = copyOf(weights);
      const trialStep = async (index: number, rate: number) => {
        if (input.signal?.aborted) throw new OctetError('CANCELLED', 'Training was cancelled');
        const from = (index % stepsPerEpoch) * batch;
        const data = await input.samples.batch(order.subarray(from, from + batch));
        const form = formAt(0);
        const given = await feedsFor(trial.parameters, form.statistics);
        return (await stepper.step(data, await scorer.teach(data), trial, given, rate, index + 1, form)).loss;
      };
      base = await findLearningRate(training.optimizer, lowestBits(plan), rangeTestSteps(stepsPerEpoch), trialStep, normsFrozenAt > 0);
    }
    for (let step = resumed?.step ?? 0; step < total; ) {
      const epoch = Math.floor(step / stepsPerEpoch);
      const order = shuffled(trainIndices, recipe.seed, epoch).subarray((step % stepsPerEpoch) * batch, stepsPerEpoch * batch);
      const epochStarted = performance.now();
      for await (const data of batches(input.samples, order, {
        batchSize: batch,
        dropLast: true,
        ...(input.signal ? { signal: input.signal } : {}),
      })) {
        const started = performance.now();
        const learningRate = rateAt(step);
        const form = formAt(step);
        const factors = norms.factors(weights.parameters);
        // A step of another form than the one before is put together while the teacher runs.
        const [teacher] = await Promise.all([scorer.teach(data), stepper.prepare(form)]);
        const result = await stepper.step(
          data,
          teacher,
          weights,
          await feedsFor(weights.parameters, form.statistics),
          learningRate,
          step + 1,
          form,
        );
        step++;
        if (!Number.isFinite(result.loss)) {
          throw new OctetError(
            'TRAIN_DIVERGED',
            `The loss is ${result.loss} at step ${step} of ${total} (epoch ${epoch + 1}, learning rate ${learningRate.toPrecision(3)})`,
            { pointer: '/training/learningRate' },
          );
        }
        if (result.statistics) norms.observe(factors, result.statistics);
        if (result.observed) quant.observe(result.observed.min, result.observed.max);
        if (result.scaleGradient) learned.update(result.scaleGradient, learningRate / base, step);
        if (result.observed || result.scaleGradient) activationFeeds = quant.activationFeeds();
        if (step <= normsFrozenAt && (step === normsFrozenAt || step % stepsPerEpoch === 0)) await reestimate();
        lossSum += result.loss;
        clock.samples += batch;
        clock.seconds += (performance.now() - started) / 1000;
        yield { kind: 'step', step, total, epoch, loss: result.loss, learningRate, samplesPerSecond: clock.samples / clock.seconds };
        if (step % checkpointEvery === 0 && step % stepsPerEpoch !== 0) yield { kind: 'checkpoint', checkpoint: snapshot(step) };
      }
      // What is scored is the folded network, as it would be converted.
      const folded = norms.fold(weights.parameters);
      const score = await scorer.score({
        ...evaluationFeeds(activationFeeds),
        ...quant.weightFeeds(folded, { ranges: norms.foldRanges(weights.parameters, quant.weightRanges()) }),
        [feedNames.parameters]: Tensor.float32([folded.length], folded),
      });
      // Parameters that are no numbers never come back to be some: the checkpoint before is the last good one.
      if (!Number.isFinite(score.loss)) {
        throw new OctetError('TRAIN_DIVERGED', `The held-out loss is ${score.loss} after epoch ${epoch + 1} (step ${step} of ${total})`, {
          pointer: '/training/learningRate',
        });
      }
      const record: EpochRecord = {
        epoch: epoch + 1,
        loss: lossSum / stepsPerEpoch,
        holdoutLoss: score.loss,
        holdoutMetric: score.metric,
        ...(metricName === undefined ? {} : { metricName }),
        learningRate: rateAt(step - 1),
        seconds: (performance.now() - epochStarted) / 1000,
        best: false,
      };
      if (keepBest(history, record, best))
        best = { epoch: epoch + 1, holdoutLoss: score.loss, parameters: weights.parameters.slice(), scales: scales() };
      lossSum = 0;
      yield { kind: 'epoch', record: history.at(-1) as EpochRecord };
      yield { kind: 'checkpoint', checkpoint: snapshot(step) };
    }
  } finally {
    await stepper.dispose();
    await scan.dispose();
    await scorer.dispose();
  }
  if (!best) throw new OctetError('CHECKPOINT_MISMATCH', 'The checkpoint has finished all epochs, and holds the result of none');
  restore(best.scales);
  return {
    parameters: norms.fold(best.parameters),
    ranges: quant.ranges(),
    weightRanges: norms.foldRanges(best.parameters, quant.weightRanges()),
    history,
    bestEpoch: best.epoch,
    observersFrozenAtStep: frozenAt,
    keptNorms: norms.points.length,
    normsFrozenAtStep: normsFrozenAt,
    learnedScales: learned.size,
    unreached: stepper.unreached,
    stepsPerEpoch,
    samplesPerSecond: clock.seconds ? clock.samples / clock.seconds : 0,
    learningRate: base,
  };
}

/** The fewest bits anywhere in the plan. */
function lowestBits(plan: QuantPlan): number {
  return Math.min(...plan.weights.map((point) => point.bits), ...plan.groups.map((group) => group.bits));
}

function feedSpec(input: TrainInput): BatchFeedSpec {
  const { loss, heads, task, ignoreIndex } = input;
  return { input: input.graph.inputs[0]?.name as string, loss, heads, task, ignoreIndex };
}

/** The evaluation program knows nothing of the ends of the grids. */
function evaluationFeeds(feeds: Record<string, Tensor>): Record<string, Tensor> {
  const { [feedNames.activationScale]: scale, [feedNames.activationZeroPoint]: zeroPoint } = feeds;
  return { [feedNames.activationScale]: scale as Tensor, [feedNames.activationZeroPoint]: zeroPoint as Tensor };
}
