import type { CalibratedRange } from '../calibrate/calibrate.js';
import { batches } from '../data/batches.js';
import type { Batch, Samples } from '../data/dataset.js';
import { shuffled } from '../data/split.js';
import type { Engine, Program } from '../engine/engine.js';
import { runRows } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Range } from '../fakequant/scales.js';
import type { Graph } from '../ir/graph.js';
import type { Recipe } from '../recipe.js';
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

export interface TrainInput {
  /** Normalised float graph with one input and a symbolic batch. */
  graph: Graph;
  batchSymbol: string;
  /** Batch size the graph insists on, if it does. */
  fixedBatch?: number;
  plan: QuantPlan;
  recipe: Recipe;
  loss: LossSpec;
  /** Width of the logits (or values) of one sample. */
  width: number;
  samples: Samples;
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
  const batch = input.fixedBatch ?? Math.min(training.batchSize, trainIndices.length);
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

  const forward = buildForward(input.graph, layout, plan);
  const evaluation = await engine.compile(forward.graph, { threads, mode: 'train' });
  let program: Program | undefined;
  let compiledObserving: boolean | undefined;
  let activationFeeds = quant.activationFeeds();
  let trainedSamples = 0;
  let trainedSeconds = 0;
  try {
    for (let step = resumed?.step ?? 0; step < total; ) {
      const epoch = Math.floor(step / stepsPerEpoch);
      const order = shuffled(trainIndices, recipe.seed, epoch).subarray((step % stepsPerEpoch) * batch, stepsPerEpoch * batch);
      const epochStarted = performance.now();
      for await (const data of batches(input.samples, order, { batchSize: batch, dropLast: true, ...(input.signal ? { signal: input.signal } : {}) })) {
        const observe = step < frozenAt;
        if (!program || observe !== compiledObserving) {
          await program?.dispose();
          program = await engine.compile(observe ? observing.graph : build(false).graph, { threads, mode: 'train' });
          compiledObserving = observe;
        }
        const started = performance.now();
        const learningRate = learningRateAt(training, base, step, total, stepsPerEpoch);
        const results = await program.run({
          ...(await batchFeeds(input, data)),
          ...activationFeeds,
          ...quant.weightFeeds(parameters),
          [feedNames.parameters]: vector(parameters),
          ...Object.fromEntries(stateNames.map((name, i) => [name, vector(state[i] as Float32Array)])),
          ...scalars(learningRateFeeds(optimizer, learningRate, step + 1)),
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
        step++;
        trainedSamples += batch;
        trainedSeconds += (performance.now() - started) / 1000;
        yield { kind: 'step', step, total, epoch, loss, learningRate, samplesPerSecond: trainedSamples / trainedSeconds };
        if (step % checkpointEvery === 0 && step % stepsPerEpoch !== 0) yield { kind: 'checkpoint', checkpoint: snapshot(step) };
      }
      const score = await holdoutScore(input, evaluation, forward.output, { ...quant.weightFeeds(parameters), ...evaluationFeeds(activationFeeds), [feedNames.parameters]: vector(parameters) });
      const record: EpochRecord = {
        epoch: epoch + 1,
        loss: lossSum / stepsPerEpoch,
        holdoutLoss: score.loss,
        holdoutMetric: score.metric,
        learningRate: learningRateAt(training, base, step - 1, total, stepsPerEpoch),
        seconds: (performance.now() - epochStarted) / 1000,
        best: false,
      };
      if (keepBest(history, record, best)) best = { epoch: epoch + 1, holdoutLoss: score.loss, parameters, averageMin: quant.averageMin.slice(), averageMax: quant.averageMax.slice() };
      lossSum = 0;
      yield { kind: 'epoch', record: history.at(-1) as EpochRecord };
      yield { kind: 'checkpoint', checkpoint: snapshot(step) };
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

const scalars = (values: Record<string, number>): Record<string, Tensor> => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Tensor.scalar(value)]));

/** The evaluation program knows nothing of the ends of the grids. */
function evaluationFeeds(feeds: Record<string, Tensor>): Record<string, Tensor> {
  const { [feedNames.activationScale]: scale, [feedNames.activationZeroPoint]: zeroPoint } = feeds;
  return { [feedNames.activationScale]: scale as Tensor, [feedNames.activationZeroPoint]: zeroPoint as Tensor };
}

/** Batch, one-hot labels or values, and the teacher's outputs. */
async function batchFeeds(input: TrainInput, { x, labels, values }: Batch): Promise<Record<string, Tensor>> {
  const { loss, width } = input;
  const count = x.shape[0] as number;
  const feeds: Record<string, Tensor> = { [input.graph.inputs[0]?.name as string]: x };
  const wantsTarget = loss.distillationWeight < 1;
  if (wantsTarget && loss.kind === 'mse') feeds[lossFeeds.target] = (values as Tensor<'float32'>).reshape(targetShape(input, count));
  if (wantsTarget && loss.kind !== 'mse') {
    const target = new Float32Array(count * width);
    labels?.forEach((label, row) => {
      if (width === 1) target[row] = label;
      else target[row * width + label] = 1;
    });
    feeds[lossFeeds.target] = Tensor.float32([count, width], target);
  }
  if (loss.distillationWeight > 0 && input.teacher) {
    feeds[lossFeeds.teacher] = Tensor.float32(loss.kind === 'mse' ? targetShape(input, count) : [count, width], await input.teacher(x));
  }
  return feeds;
}

/** Shape of the values of a batch: that of the output. */
function targetShape(input: TrainInput, batch: number): number[] {
  return [batch, ...((input.graph.outputs[0]?.shape?.slice(1) ?? [input.width]) as number[])];
}

/** Loss and metric of the fake-quant model on the held-out split. */
async function holdoutScore(input: TrainInput, program: Program, output: string, feeds: Record<string, Tensor>): Promise<HoldoutScore> {
  const score = new HoldoutScore(input.loss, input.width);
  const inputName = input.graph.inputs[0]?.name as string;
  const fixed: Program = { run: (own) => program.run({ ...feeds, ...own }), dispose: () => program.dispose() };
  for await (const { x, labels, values } of batches(input.samples, input.holdoutIndices, { batchSize: input.recipe.training.batchSize, ...(input.signal ? { signal: input.signal } : {}) })) {
    const teacher = input.loss.distillationWeight > 0 ? await input.teacher?.(x) : undefined;
    const results = await runRows(fixed, inputName, x, [output], input.fixedBatch);
    score.add(results[output] as Float32Array, { ...(labels ? { labels } : {}), ...(values ? { values } : {}), ...(teacher ? { teacher } : {}) });
  }
  return score;
}
