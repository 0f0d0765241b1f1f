import type { CalibratedRange } from '../calibrate/calibrate.js';
import { batches } from '../data/batches.js';
import { correctBiases } from '../fakequant/biasCorrection.js';
import { equalize, hasOutlierChannel } from '../fakequant/equalize.js';
import type { QuantPlan, WeightPoint } from '../fakequant/plan.js';
import { activationParams, type WeightRange } from '../fakequant/scales.js';
import { scalesOfWeights } from '../fakequant/simulate.js';
import type { Graph } from '../ir/graph.js';
import type { Report } from '../report/schema.js';
import { adaptRounding, type RoundedLayer } from '../rounding/round.js';
import type { Range } from '../tensor/affine.js';
import { type Candidate, calibrateModel, calibrationOrder, exportCandidate, weightRangesFor } from './candidates.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import type { PreparedModel } from './model.js';

/** Samples that bias correction looks at: means need few. */
const correctionSamples = 256;

/** Samples that tell whether a channel dwarfs the others. */
const outlierSamples = 64;

/** The first calibration samples in whole batches, as often as wanted. */
function firstSamples(context: Context, model: PreparedModel, plan: QuantPlan, data: JobData, most: number) {
  const { batchSize, order } = calibrationOrder(context, model, plan, data);
  const chosen = order.subarray(0, Math.max(batchSize, most - (most % batchSize)));
  return { count: chosen.length, samples: () => batches(data.dataset, chosen, { batchSize, ...context.abortable }) };
}

/** Whether weights or activations have fewer than 8 bits somewhere. */
const isNarrow = (plan: QuantPlan) => plan.weights.some((point) => point.bits < 8) || plan.groups.some((group) => group.bits < 8);

/** What PTQ starts from: the model, perhaps with equalized channels, and the ranges of its activations. */
export interface PtqStart {
  model: PreparedModel;
  calibrated: ReadonlyMap<string, CalibratedRange>;
  equalizedPairs: number;
}

/**
 * The model with equalized channels, where the recipe asks for that, calibrated anew. `auto`: where weights have one scale for the whole tensor,
 * or where one channel of an activation dwarfs the others.
 * For PTQ alone: training finds its own balance between channels, and batch norm that is trained along stands between them.
 */
export async function equalizeModel(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  data: JobData,
  calibrated: ReadonlyMap<string, CalibratedRange>,
): Promise<PtqStart> {
  const { equalization } = context.job.recipe.calibration;
  const worth = async () =>
    plan.weights.some((point) => point.axis === undefined) ||
    hasOutlierChannel(model.graph, plan, firstSamples(context, model, plan, data, outlierSamples).samples, context.engine);
  const asked = equalization === 'auto' ? await worth() : equalization;
  const { samples } = firstSamples(context, model, plan, data, data.calibration.length);
  const { graph, pairs } = asked ? await equalize(model.graph, plan, samples, context.engine) : { graph: model.graph, pairs: [] };
  if (!pairs.length) return { model, calibrated, equalizedPairs: 0 };
  const equalized = { ...model, graph };
  return { model: equalized, calibrated: await calibrateModel(context, equalized, plan, data), equalizedPairs: pairs.length };
}

/** A model whose weights were rounded adaptively. */
export interface RoundedModel extends PtqStart {
  /** With the rounded weights on their grid. */
  graph: Graph;
  /** Their scales. */
  ranges: ReadonlyMap<string, WeightRange>;
}

/** The PTQ model, what it was made from and what was done for it, and its weights before they were integers, where their rounding was learned. `known`: what it is made from, where a checkpoint has it. */
export async function ptqCandidate(
  context: Context,
  start: PtqStart,
  plan: QuantPlan,
  data: JobData,
  known?: PtqWeights,
): Promise<Candidate & { weights: PtqWeights; figures: Report['calibration']; rounded?: RoundedModel }> {
  const { model, calibrated, equalizedPairs } = start;
  const ranges = new Map([...calibrated].map(([name, one]) => [name, one.range]));
  const weights = known ?? (await ptqWeights(context, model, plan, data, ranges, weightRangesFor(model.graph, plan)));
  const { graph, weightRanges, rounded, figures } = weights;
  const candidate = await exportCandidate({ context, model, data }, plan, {
    name: 'ptq',
    float: graph,
    ranges,
    weightRanges,
    reference: model.graph,
  });
  return { ...candidate, weights, figures: { equalizedPairs, ...figures }, ...(rounded ? { rounded: { ...start, ...rounded } } : {}) };
}

/** What the PTQ model is made from. */
export interface PtqWeights {
  /** The float model, with other weights where they were rounded already and other biases where they were corrected. */
  graph: Graph;
  weightRanges: ReadonlyMap<string, WeightRange>;
  /** What adaptive rounding alone made of it. */
  rounded?: { graph: Graph; ranges: ReadonlyMap<string, WeightRange> };
  figures: Omit<Report['calibration'], 'equalizedPairs'>;
}

/** Round weights (AdaRound) and correct biases, as the recipe has it; in this order, so that biases make up for what rounding leaves. */
async function ptqWeights(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  data: JobData,
  ranges: ReadonlyMap<string, Range>,
  weightRanges: ReadonlyMap<string, WeightRange>,
): Promise<PtqWeights> {
  const { calibration, seed } = context.job.recipe;
  const { engine } = context;
  const activations = activationParams(plan.groups, plan.activations, ranges);
  const wanted = (point: WeightPoint) => calibration.rounding === 'adaptive' || (calibration.rounding === 'auto' && point.bits < 8);
  let prepared: Omit<PtqWeights, 'figures'> = { graph: model.graph, weightRanges };
  let layers: RoundedLayer[] = [];
  if (plan.weights.some(wanted)) {
    const rounded = await adaptRounding({
      graph: model.graph,
      plan,
      table: { activations, weights: scalesOfWeights(model.graph, plan, weightRanges) },
      ...firstSamples(context, model, plan, data, data.calibration.length),
      engine,
      iterations: calibration.roundingIterations,
      seed,
      wanted,
      ...context.abortable,
      onLayer: (done, total) => context.progress('ptq', done, total, 'layers'),
    });
    layers = rounded.layers;
    prepared = { graph: rounded.graph, weightRanges: new Map([...weightRanges, ...rounded.ranges]), rounded };
  }
  const correct = calibration.biasCorrection === 'auto' ? isNarrow(plan) && !layers.length : calibration.biasCorrection;
  const correctedBiases = correct ? plan.biases.length : 0;
  const figures = { correctedBiases, ...roundingFigures(layers) };
  if (!correctedBiases) return { ...prepared, figures };
  const graph = await correctBiases(
    prepared.graph,
    plan,
    { activations, weights: scalesOfWeights(prepared.graph, plan, prepared.weightRanges) },
    firstSamples(context, model, plan, data, correctionSamples).samples,
    engine,
    model.graph,
  );
  return { ...prepared, graph, figures };
}

function roundingFigures(layers: readonly RoundedLayer[]): Pick<Report['calibration'], 'adaptiveLayers' | 'roundingError'> {
  const taken = layers.filter((layer) => layer.taken && layer.adaptive > 0);
  // A geometric mean: layers differ in the size of their results.
  const logs = taken.reduce((sum, { nearest, adaptive }) => sum + Math.log(adaptive / nearest), 0);
  return { adaptiveLayers: taken.length, roundingError: taken.length ? Math.exp(logs / taken.length) : null };
}
