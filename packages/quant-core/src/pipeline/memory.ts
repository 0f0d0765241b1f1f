import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import { Norms } from '../train/batchNorm.js';
import { learnedScales } from '../train/learnedScales.js';
import { peakBytes } from '../train/memory.js';
import { parameterLayout } from '../train/parameters.js';
import { buildTrainingStep } from '../train/step.js';
import { shardsFor } from '../train/stepper.js';
import { evaluationBatch, liveBytes, liveLimit } from './batchSize.js';
import { calibrationOrder } from './candidates.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { openSizes } from './inputs.js';
import { graphBatch, type PreparedModel, trialLoss } from './model.js';

/** What a job process holds before its first step: Node.js, the runtime, the model. */
const idleBytes = 160 * 2 ** 20;
/**
 * How much a runtime takes for one byte that is alive: its arena grows in large pieces and kernels have buffers of their own, but it also finds
 * a better order. Measured on five steps of four networks: 1.0 to 1.8. Refused is only what would not fit with less than that.
 */
const overhead = { least: 0.8, usual: 1.6 };
/**
 * A step is loaded in parts, in a time that grows with its nodes: 104,000 of them, of 4,000 layers, take 40 s of one core until the first step is
 * done, and 8 s for every step after it. Beyond half as many again nothing was measured.
 */
const mostStepNodes = 150_000;
/** Vectors as long as the parameters that a job keeps: values, gradients, optimizer, the best epoch, copies on their way. */
const parameterCopies = 12;

interface MemoryEstimate {
  /** What a training job of this kind usually takes. */
  usualBytes: number;
  /** The least it needs. */
  leastBytes: number;
}

/** Memory that training with batches of `batch` takes, from the values that are alive in the compiled step. */
function estimateTraining(
  model: PreparedModel,
  plan: QuantPlan,
  norms: readonly FoldedNorm[],
  context: Context,
  samples: readonly (readonly number[])[],
  batch: number,
): MemoryEstimate {
  const { training } = context.job.recipe;
  const shards = graphBatch(model) === undefined ? shardsFor(batch) : 1;
  const kept = new Norms(model.graph, parameterLayout(model.graph), plan, norms);
  const { layout } = kept;
  const { graph } = buildTrainingStep({
    graph: model.graph,
    batch: batch / shards,
    batchSymbol: model.batch.symbol,
    sizes: openSizes(model, samples),
    layout,
    plan,
    loss: trialLoss(model),
    observe: true,
    learned: learnedScales(plan, training.scales),
    norms: { points: kept.points, statistics: 'batch' },
  });
  if (graph.nodes.length > mostStepNodes)
    throw new OctetError(
      'TRAIN_TOO_LARGE',
      `The training step of this network has ${graph.nodes.length} nodes; at most ${mostStepNodes} can be loaded in a reasonable time`,
      { pointer: '/method' },
      { hint: 'Use method "ptq", or leave part of the network out.' },
    );
  const step = shards * peakBytes(graph);
  const standing = idleBytes + parameterCopies * 4 * layout.size;
  return { usualBytes: Math.round(standing + overhead.usual * step), leastBytes: Math.round(standing + overhead.least * step) };
}

/** How much more is alive than in the float network alone: for two models in turns, and where layers are compared (measured: 2.9 to 3.6). */
const shares = { latency: 2, layers: 3.6 };
/** Vectors as long as the parameters in a job that does not train: the model as read and in normal form, candidates, and what sessions hold of them. */
const modelCopies = 8;
/** Scores of so many elements are kept of each of so many models. */
const [keptElements, keptModels] = [2 ** 25, 4];
/** What adaptive rounding keeps of activations, and of rows of a layer. */
const mostRounding = 2 ** 29 + 2 ** 28;

/** Memory that the stages beside training take. Batches are chosen so that it fits, down to one sample. */
function estimateOthers(context: Context, model: PreparedModel, plan: QuantPlan, data: JobData): MemoryEstimate {
  const { calibration } = context.job.recipe;
  const at = (batch: number) => liveBytes(model, data, model.graph, batch) ?? 0;
  const least = graphBatch(model) ?? 1;
  const one = at(least);
  const most = at(evaluationBatch(context, model, data, model.graph));
  const { batchSize, order } = calibrationOrder(context, model, plan, data);
  const adaptive = calibration.rounding === 'adaptive' || (calibration.rounding === 'auto' && plan.weights.some(({ bits }) => bits < 8));
  const usual = Math.max(
    shares.latency * most,
    Math.min(shares.layers * most, Math.max(liveLimit(context), shares.layers * one)),
    at(batchSize) + (adaptive ? Math.min(mostRounding, (2 * order.length * one) / least) : 0),
  );
  const parameters = model.graph.constants().reduce((sum, { constant }) => sum + (constant?.bytes ?? 0), 0);
  const scores = Math.min(
    keptElements,
    data.evaluationIndices.length * data.assignment.outputs.reduce((sum, { output }) => sum + (output.width ?? 0), 0),
  );
  const standing = idleBytes + modelCopies * parameters + keptModels * 4 * scores;
  return {
    usualBytes: Math.round(standing + overhead.usual * usual),
    leastBytes: Math.round(standing + overhead.least * shares.latency * one),
  };
}

const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB`;

/**
 * Estimate the memory of a job before any stage but the first, over all of them; `norms` are those that are kept in training, undefined where nothing is
 * trained. Throws TRAIN_TOO_LARGE, with the largest batch that fits, when training may not have even the least it needs, and JOB_TOO_LARGE when another stage may not.
 */
export function checkMemory(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  norms: readonly FoldedNorm[] | undefined,
  data: JobData,
): MemoryEstimate {
  const limit = context.job.memoryBytes ?? Number.POSITIVE_INFINITY;
  const training = norms && checkTraining(context, model, plan, norms, data, limit);
  const others = estimateOthers(context, model, plan, data);
  if (others.leastBytes > limit)
    throw new OctetError(
      'JOB_TOO_LARGE',
      `Running the model on ${model.batch.kind === 'locked' ? `its batch of ${model.batch.size}` : 'one sample'} needs at least ${mebibytes(others.leastBytes)}, the job may have ${mebibytes(limit)}`,
    );
  return {
    usualBytes: Math.max(training?.usualBytes ?? 0, others.usualBytes),
    leastBytes: Math.max(training?.leastBytes ?? 0, others.leastBytes),
  };
}

function checkTraining(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  norms: readonly FoldedNorm[],
  data: JobData,
  limit: number,
): MemoryEstimate {
  const { job } = context;
  const at = (batch: number) => estimateTraining(model, plan, norms, context, data.dataset.sampleShapes, batch);
  const batch = graphBatch(model) ?? Math.min(job.recipe.training.batchSize, data.train.length);
  const estimate = at(batch);
  if (estimate.leastBytes <= limit) return estimate;
  let fitting = model.batch.kind === 'locked' ? 0 : Math.floor(batch / 2);
  while (fitting >= 1 && at(fitting).leastBytes > limit) fitting = Math.floor(fitting / 2);
  throw new OctetError(
    'TRAIN_TOO_LARGE',
    `Training with batches of ${batch} needs at least ${mebibytes(estimate.leastBytes)}, the job may have ${mebibytes(limit)}`,
    { pointer: '/training/batchSize' },
    fitting >= 1
      ? { hint: `Set training.batchSize to ${fitting} or less, or raise the memory of a job (OCTET_JOB_MEMORY) on your own server.` }
      : { hint: 'Use method "ptq", smaller samples, or raise the memory of a job (OCTET_JOB_MEMORY) on your own server.' },
  );
}
