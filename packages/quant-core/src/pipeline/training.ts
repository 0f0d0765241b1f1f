import { batches } from '../data/batches.js';
import { collectOutputs } from '../evaluate/collect.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Graph } from '../ir/graph.js';
import { bindDims, inferShapes } from '../ir/infer.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import type { Recipe } from '../recipe.js';
import type { Assignment } from '../tasks/assign.js';
import { tasks } from '../tasks/index.js';
import { distilled, type LossHead, type LossSpec, type LossTerm, lossHeads } from '../tasks/loss.js';
import type { TrainInput } from '../train/input.js';
import { packParameters, parameterLayout, unpackParameters } from '../train/parameters.js';
import { type TrainEvent, type TrainResult, train } from '../train/train.js';
import type { JobCheckpoints } from './checkpoint.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { inputName, openSizes } from './inputs.js';
import { graphBatch, type PreparedModel } from './model.js';
import type { TrainingStart } from './start.js';

/** Training sets smaller than this are taught by the float model as well. */
const enoughLabels = 10_000;

/**
 * The loss that a recipe asks for. Values that have no labels are compared in units of their spread, outputs weigh the same.
 * @param samples how many are trained on
 * @param spreads variance of each output of the float model
 */
export function lossFor({ training }: Recipe, { outputs }: Assignment, samples: number, spreads: readonly number[]): LossSpec {
  const { loss, distillation } = training;
  const share = distillation.weight === 'auto' ? (samples < enoughLabels ? 0.5 : 0) : distillation.weight;
  const terms = outputs.map(({ output, task }, at): LossTerm => {
    const [usual] = tasks[task].losses(output);
    const taught = loss === 'distillation' || usual === undefined;
    const kind = taught ? distilled(output) : loss === 'auto' ? usual : loss;
    const valued = kind === 'mse' || kind === 'huber';
    const unit = valued && (taught || outputs.length > 1) ? (spreads[at] as number) : 1;
    return { output: output.name, kind, axis: output.axis, distillationWeight: taught ? 1 : share, weight: 1 / unit / outputs.length };
  });
  return { terms: terms as [LossTerm, ...LossTerm[]], temperature: distillation.temperature };
}

/** Variance of each output of the float model over the calibration samples; 1 where it does not vary. */
async function spreadsOf(context: Context, model: PreparedModel, data: JobData): Promise<number[]> {
  // On one thread: the loss must not depend on the last bit of a float sum.
  const program = await context.engine.compile(model.graph, { threads: 1, mode: 'train' });
  const outputs = data.assignment.outputs.map(({ output }) => ({ output, task: 'unlabelled' as const }));
  const batchSize = graphBatch(model) ?? context.job.recipe.training.batchSize;
  try {
    const samples = batches(data.dataset, data.calibration, { batchSize, ...context.abortable });
    const fixed = graphBatch(model);
    const collected = await collectOutputs(
      program,
      samples,
      { input: inputName(model), outputs },
      { ...(fixed === undefined ? {} : { fixedBatch: fixed }), ...context.abortable },
    );
    return collected.map(({ comparison: { total, signal, width } }) => {
      const count = total.length * width;
      const sum = (of: Float64Array) => of.reduce((a, b) => a + b, 0);
      const variance = sum(signal) / count - (sum(total) / count) ** 2;
      return variance > 0 ? variance : 1;
    });
  } finally {
    await program.dispose();
  }
}

/** What each term of a loss is taken of, for samples of these shapes. */
function headsOf(model: PreparedModel, loss: LossSpec, data: JobData): LossHead[] {
  const graph = model.graph.clone();
  bindDims(graph, { ...openSizes(model, data.dataset.sampleShapes), [model.batch.symbol]: 1 });
  inferShapes(graph);
  return lossHeads(graph, loss);
}

/** Train with fake quant and return the best epoch, its weights in a graph of their own. */
export async function trainModel(
  context: Context,
  { model, calibrated, weightRanges, rounded }: TrainingStart,
  plan: QuantPlan,
  norms: readonly FoldedNorm[],
  data: JobData,
  checkpoints: JobCheckpoints,
): Promise<TrainResult & { graph: Graph; loss: LossSpec }> {
  const { job, engine, threads } = context;
  const { assignment, ignoreIndex } = data;
  const loss = lossFor(job.recipe, assignment, data.train.length, await spreadsOf(context, model, data));
  const fixedBatch = graphBatch(model);
  const input: TrainInput = {
    graph: model.graph,
    batchSymbol: model.batch.symbol,
    sizes: openSizes(model, data.dataset.sampleShapes),
    ...(fixedBatch === undefined ? {} : { fixedBatch }),
    plan,
    recipe: job.recipe,
    loss,
    heads: headsOf(model, loss, data),
    task: assignment.task,
    ignoreIndex,
    samples: data.dataset,
    trainIndices: data.train,
    holdoutIndices: data.holdout,
    calibrated,
    norms,
    ...(rounded ? { start: packParameters(rounded, parameterLayout(rounded)) } : {}),
    weightRanges,
    engine,
    threads,
    fingerprint: checkpoints.fingerprint,
    ...(job.checkpointPause === undefined ? {} : { checkpointPause: job.checkpointPause }),
    ...context.abortable,
  };
  const steps = trainFrom(input, checkpoints);
  for (;;) {
    const next = await steps.next();
    if (next.done) {
      const { unreached } = next.value;
      if (unreached.length)
        context.warn(
          'NOT_TRAINED',
          `${unreached.length === 1 ? 'One weight was' : `${unreached.length} weights were`} not trained, because an operator without a gradient follows: ${unreached.slice(0, 5).join(', ')}${unreached.length > 5 ? ', …' : ''}.`,
        );
      const graph = model.graph.clone();
      unpackParameters(graph, parameterLayout(graph), next.value.parameters);
      return { ...next.value, graph, loss };
    }
    const event = next.value;
    if (event.kind === 'step')
      context.progress('train', event.step, event.total, 'steps', {
        epoch: event.epoch + 1,
        loss: event.loss,
        learningRate: event.learningRate,
        samplesPerSecond: event.samplesPerSecond,
      });
    if (event.kind === 'epoch') context.emit({ type: 'epoch', ...event.record });
    if (event.kind === 'checkpoint') await checkpoints.keepTraining(event.checkpoint);
  }
}

/** Training from its checkpoint, if it has one that fits, and else from its start. */
async function* trainFrom(input: TrainInput, checkpoints: JobCheckpoints): AsyncGenerator<TrainEvent, TrainResult> {
  const { training } = checkpoints;
  try {
    return yield* train({ ...input, ...(training ? { checkpoint: training } : {}) });
  } catch (error) {
    if (!training) throw error;
    checkpoints.dropTraining(error);
  }
  return yield* train(input);
}
