import type { CalibratedRange } from '../calibrate/calibrate.js';
import type { Engine, Program } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Range } from '../fakequant/scales.js';
import type { Graph } from '../ir/graph.js';
import type { Recipe } from '../recipe.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import type { Checkpoint, EpochRecord } from './checkpoint.js';
import { feedNames } from './forward.js';
import { HoldoutScore } from './holdout.js';
import { type LossSpec, lossFeeds } from './loss.js';
import { learningRateFeeds, type OptimizerSpec, optimizerState } from './optimizer.js';
import { packParameters, parameterLayout } from './parameters.js';
import { automaticLearningRate, learningRateAt } from './schedule.js';
import { QuantState } from './state.js';
import { buildForward, buildTrainingStep, stepOutputs } from './step.js';

/** Samples by index, in the shape of the model input. */
export interface SampleSource {
  batch(indices: ArrayLike<number>): Promise<{ x: Tensor<'float32'>; labels?: Int32Array; values?: Tensor<'float32'> }>;
}

export interface TrainInput {
  /** Normalised float graph with one input and a symbolic batch. */
  graph: Graph;
  batchSymbol: string;
  plan: QuantPlan;
  recipe: Recipe;
  loss: LossSpec;
  /** Width of the logits (or values) of one sample. */
  width: number;
  source: SampleSource;
  trainIndices: Uint32Array;
  holdoutIndices: Uint32Array;
  calibrated: ReadonlyMap<string, CalibratedRange>;
  weightClips: ReadonlyMap<string, Float32Array>;
  /** Logits (or values) of the float model; wanted when the loss distils. */
  teacher?: (x: Tensor<'float32'>) => Promise<Float32Array>;
  engine: Engine;
  threads: number;
  fingerprint: string;
  checkpoint?: Checkpoint;
  signal?: AbortSignal;
}

export type TrainEvent =
  | { kind: 'step'; step: number; total: number; epoch: number; loss: number; learningRate: number; samplesPerSecond: number }
  | { kind: 'epoch'; record: EpochRecord }
  | { kind: 'checkpoint'; checkpoint: Checkpoint };

export interface TrainResult {
  /** The parameter vector of the best epoch. */
  parameters: Float32Array;
  /** Its activation ranges. */
  ranges: Map<string, Range>;
  history: EpochRecord[];
  bestEpoch: number;
  observersFrozenAtStep: number;
  stepsPerEpoch: number;
  samplesPerSecond: number;
  learningRate: number;
}

/** Steps between checkpoints inside an epoch. */
const checkpointEvery = 500;

/** The best epoch so far; `history` marks it. */
function keepBest(history: EpochRecord[], record: EpochRecord, before: Checkpoint['best']): boolean {
  const better = Number.isFinite(record.holdoutLoss) && (!before || record.holdoutLoss < before.holdoutLoss);
  if (better) for (const entry of history) entry.best = false;
  history.push({ ...record, best: better });
  return better;
}

/**
 * Quantization-aware training: yields progress, epochs and checkpoints, and returns the epoch with the lowest held-out loss.
 * The same input gives the same result to the last bit, also when it goes on from a checkpoint.
 * Throws TRAIN_DIVERGED when the loss is no longer a number, CANCELLED when the signal fires.
 */
export async function* train(input: TrainInput): AsyncGenerator<TrainEvent, TrainResult> {
  const { recipe, plan, engine, threads, trainIndices } = input;
  const { training } = recipe;
  const layout = parameterLayout(input.graph);
  const batch = Math.min(training.batchSize, trainIndices.length);
  const stepsPerEpoch = Math.floor(trainIndices.length / batch);
  const total = stepsPerEpoch * training.epochs;
  const frozenAt = Math.min(total, Math.round(training.freezeObserversAfter * stepsPerEpoch));
  const base = training.learningRate === 'auto' ? automaticLearningRate(training, lowestBits(plan)) : training.learningRate;
  const optimizer: OptimizerSpec = { kind: training.optimizer, momentum: training.momentum, weightDecay: training.weightDecay, ...(training.clipGradient === undefined ? {} : { clipGradient: training.clipGradient }) };
  const build = (observe: boolean) =>
    buildTrainingStep({ graph: input.graph, batch, batchSymbol: input.batchSymbol, layout, plan, loss: input.loss, optimizer, observe, clipWeights: input.weightClips.size > 0 });

  const resumed = input.checkpoint;
  if (resumed && resumed.fingerprint !== input.fingerprint) throw new OctetError('CHECKPOINT_MISMATCH', 'The checkpoint was written by a job with another model, dataset or configuration');
  const observing = build(true);
  const quant = new QuantState(plan, layout, observing.observed, input.calibrated, input.weightClips);
  if (resumed) quant.restore(resumed.averageMin, resumed.averageMax);
  let parameters = resumed?.parameters ?? packParameters(input.graph, layout);
  let state = resumed?.optimizer ?? optimizerState(optimizer.kind).map(() => new Float32Array(layout.size));
  const history: EpochRecord[] = structuredClone(resumed?.history ?? []);
  let best = resumed?.best;
  let lossSum = resumed?.lossSum ?? 0;
  const stateNames = optimizerState(optimizer.kind);
  const vector = (data: Float32Array) => Tensor.float32([data.length], data);
  const snapshot = (step: number): Checkpoint => ({
    fingerprint: input.fingerprint,
    step,
    lossSum,
    parameters,
    optimizer: state,
    averageMin: quant.averageMin.slice(),
    averageMax: quant.averageMax.slice(),
    history: structuredClone(history),
    best,
  });

  const inputName = input.graph.inputs[0]?.name as string;
  const forward = buildForward(input.graph, layout, plan);
  const evaluation = await engine.compile(forward.graph, { threads, mode: 'train' });
  let program: Program | undefined;
  let compiledObserving: boolean | undefined;
  let activationFeeds = quant.activationFeeds();
  let trainedSamples = 0;
  let trainedSeconds = 0;
  let epochStarted = performance.now();
  let order = epochOrder(trainIndices, recipe.seed, Math.floor((resumed?.step ?? 0) / stepsPerEpoch));
  try {
    for (let step = resumed?.step ?? 0; step < total; step++) {
      throwIfCancelled(input.signal);
      const observe = step < frozenAt;
      if (!program || observe !== compiledObserving) {
        await program?.dispose();
        program = await engine.compile(observe ? observing.graph : build(false).graph, { threads, mode: 'train' });
        compiledObserving = observe;
      }
      const epoch = Math.floor(step / stepsPerEpoch);
      const within = step % stepsPerEpoch;
      if (within === 0) {
        epochStarted = performance.now();
        order = epochOrder(trainIndices, recipe.seed, epoch);
      }
      const started = performance.now();
      const feeds = await batchFeeds(input, order.subarray(within * batch, (within + 1) * batch));
      const learningRate = learningRateAt(training, base, step, total, stepsPerEpoch);
      const rates = learningRateFeeds(optimizer, learningRate, step + 1);
      const results = await program.run({
        ...feeds,
        ...activationFeeds,
        ...quant.weightFeeds(parameters),
        [feedNames.parameters]: vector(parameters),
        ...Object.fromEntries(stateNames.map((name, i) => [name, vector(state[i] as Float32Array)])),
        ...Object.fromEntries(Object.entries(rates).map(([name, value]) => [name, Tensor.scalar(value)])),
      });
      const loss = results[stepOutputs.loss]?.data[0] as number;
      if (!Number.isFinite(loss)) {
        throw new OctetError('TRAIN_DIVERGED', `The loss is ${loss} at step ${step + 1} of ${total} (epoch ${epoch + 1}, learning rate ${learningRate.toPrecision(3)})`, { pointer: '/training/learningRate' });
      }
      parameters = results[stepOutputs.parameters]?.data as Float32Array;
      state = stateNames.map((name) => results[stepOutputs.newState(name)]?.data as Float32Array);
      if (observe && observing.observed.length) {
        quant.observe(results[stepOutputs.minimum]?.data as Float32Array, results[stepOutputs.maximum]?.data as Float32Array);
        activationFeeds = quant.activationFeeds();
      }
      lossSum += loss;
      trainedSamples += batch;
      trainedSeconds += (performance.now() - started) / 1000;
      yield { kind: 'step', step: step + 1, total, epoch, loss, learningRate, samplesPerSecond: trainedSamples / trainedSeconds };

      if (within === stepsPerEpoch - 1) {
        const score = await holdoutScore(input, evaluation, forward.output, { ...quant.weightFeeds(parameters), ...evaluationFeeds(activationFeeds), [feedNames.parameters]: vector(parameters) }, inputName);
        const record: EpochRecord = { epoch, loss: lossSum / stepsPerEpoch, holdoutLoss: score.loss, holdoutMetric: score.metric, learningRate, seconds: (performance.now() - epochStarted) / 1000, best: false };
        if (keepBest(history, record, best)) best = { epoch, holdoutLoss: score.loss, parameters, averageMin: quant.averageMin.slice(), averageMax: quant.averageMax.slice() };
        lossSum = 0;
        yield { kind: 'epoch', record: history.at(-1) as EpochRecord };
        yield { kind: 'checkpoint', checkpoint: snapshot(step + 1) };
      } else if ((step + 1) % checkpointEvery === 0) {
        yield { kind: 'checkpoint', checkpoint: snapshot(step + 1) };
      }
    }
  } finally {
    await program?.dispose();
    await evaluation.dispose();
  }
  if (!best) throw new OctetError('TRAIN_DIVERGED', 'No epoch has a finite held-out loss', { pointer: '/training/learningRate' });
  quant.restore(best.averageMin, best.averageMax);
  return {
    parameters: best.parameters,
    ranges: quant.ranges(),
    history,
    bestEpoch: best.epoch,
    observersFrozenAtStep: frozenAt,
    stepsPerEpoch,
    samplesPerSecond: trainedSeconds ? trainedSamples / trainedSeconds : 0,
    learningRate: base,
  };
}

/** The fewest bits anywhere in the plan. */
function lowestBits(plan: QuantPlan): number {
  return Math.min(...plan.weights.map((point) => point.bits), ...plan.groups.map((group) => group.bits));
}

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new OctetError('CANCELLED', 'Training was cancelled');
}

/** Order of the training samples in an epoch. */
function epochOrder(indices: Uint32Array, seed: number, epoch: number): Uint32Array {
  return Random.for(seed, `shuffle epoch ${epoch}`)
    .permutation(indices.length)
    .map((i) => indices[i] as number);
}

/** The evaluation program knows nothing of the ends of the grids. */
function evaluationFeeds(feeds: Record<string, Tensor>): Record<string, Tensor> {
  const { [feedNames.activationScale]: scale, [feedNames.activationZeroPoint]: zeroPoint } = feeds;
  return { [feedNames.activationScale]: scale as Tensor, [feedNames.activationZeroPoint]: zeroPoint as Tensor };
}

/** Batch, one-hot labels or values, and the teacher's outputs. */
async function batchFeeds(input: TrainInput, indices: Uint32Array): Promise<Record<string, Tensor>> {
  const { x, labels, values } = await input.source.batch(indices);
  const feeds: Record<string, Tensor> = { [input.graph.inputs[0]?.name as string]: x };
  const { loss, width } = input;
  const wantsTarget = loss.distillationWeight < 1;
  if (wantsTarget && loss.kind === 'mse') feeds[lossFeeds.target] = (values as Tensor<'float32'>).reshape(targetShape(input, indices.length));
  if (wantsTarget && loss.kind !== 'mse') {
    const target = new Float32Array(indices.length * width);
    labels?.forEach((label, row) => {
      if (width === 1) target[row] = label;
      else target[row * width + label] = 1;
    });
    feeds[lossFeeds.target] = Tensor.float32([indices.length, width], target);
  }
  if (loss.distillationWeight > 0 && input.teacher) {
    const teacher = await input.teacher(x);
    feeds[lossFeeds.teacher] = Tensor.float32(loss.kind === 'mse' ? targetShape(input, indices.length) : [indices.length, width], teacher);
  }
  return feeds;
}

/** Shape of the values of a batch: that of the output. */
function targetShape(input: TrainInput, batch: number): number[] {
  return [batch, ...((input.graph.outputs[0]?.shape?.slice(1) ?? [input.width]) as number[])];
}

async function holdoutScore(input: TrainInput, program: Program, output: string, feeds: Record<string, Tensor>, inputName: string): Promise<HoldoutScore> {
  const score = new HoldoutScore(input.loss, input.width);
  const size = input.recipe.training.batchSize;
  for (let at = 0; at < input.holdoutIndices.length; at += size) {
    throwIfCancelled(input.signal);
    const { x, labels, values } = await input.source.batch(input.holdoutIndices.subarray(at, at + size));
    const teacher = input.loss.distillationWeight > 0 ? await input.teacher?.(x) : undefined;
    const results = await program.run({ ...feeds, [inputName]: x });
    score.add(results[output]?.data as Float32Array, { ...(labels ? { labels } : {}), ...(values ? { values } : {}), ...(teacher ? { teacher } : {}) });
  }
  return score;
}
