import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { OctetError } from '../errors.js';
import type { Placement } from '../fakequant/placementRecord.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Graph, Value } from '../ir/graph.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import type { Recipe } from '../recipe.js';
import { readArrayFile, writeArrayFile } from '../train/arrayFile.js';
import { type Checkpoint, packCheckpoint } from '../train/checkpoint.js';
import { type LossSpec, logitsOf, type OutputForm } from '../train/loss.js';
import { packParameters, parameterLayout, unpackParameters } from '../train/parameters.js';
import { type TrainResult, train } from '../train/train.js';
import { octetVersion } from '../version.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { openSizes } from './inputs.js';
import type { PreparedModel } from './model.js';
import type { TrainingStart } from './start.js';

/** Training sets smaller than this are taught by the float model as well. */
const enoughLabels = 10_000;

/**
 * The loss a recipe and a dataset ask for; `form` is what the model's output of `width` numbers a sample holds, `samples` how many are trained on.
 * Throws CONFIG_IMPOSSIBLE where they contradict each other.
 */
export function lossFor(recipe: Recipe, task: JobData['task'], width: number | undefined, form: OutputForm, samples: number): LossSpec {
  const { loss, distillation } = recipe.training;
  const { temperature } = distillation;
  const weight = distillation.weight === 'auto' ? (samples < enoughLabels ? 0.5 : 0) : distillation.weight;
  const refuse = (why: string) =>
    new OctetError(
      'CONFIG_IMPOSSIBLE',
      `training.loss "${loss}" is impossible: ${why}`,
      { pointer: '/training/loss' },
      { hint: 'Leave training.loss at "auto", or send a dataset with the labels it needs.' },
    );
  // A single output is the logit of a yes, where anything says so; else a value.
  const binary = width === 1 && (task === 'classification' || form === 'probabilities');
  if (loss === 'distillation' || (loss === 'auto' && task === 'unlabelled')) {
    const kind = binary ? 'binary_cross_entropy' : task === 'regression' || width === 1 ? 'mse' : 'distillation';
    return { kind, distillationWeight: 1, temperature };
  }
  if (loss === 'mse' || (loss === 'auto' && task === 'regression')) {
    if (task !== 'regression') throw refuse('the dataset has no target values');
    return { kind: 'mse', distillationWeight: weight, temperature };
  }
  if (task !== 'classification') throw refuse('the dataset has no class labels');
  if (binary) return { kind: 'binary_cross_entropy', distillationWeight: weight, temperature };
  return { kind: 'cross_entropy', distillationWeight: weight, temperature };
}

/** What a checkpoint must match to be gone on from. */
function fingerprint(context: Context, model: PreparedModel, plan: QuantPlan, norms: readonly FoldedNorm[], data: JobData): string {
  const { threads: _threads, gate: _gate, evaluation: _evaluation, ...recipe } = context.job.recipe;
  const hash = createHash('sha256');
  hash.update(
    JSON.stringify([recipe, plan, data.train.length, data.holdout.length, data.dataset.summary, octetVersion, context.engine.versions]),
  );
  for (const slot of parameterLayout(model.graph).slots) hash.update(`${slot.name}[${slot.shape}]`);
  for (const value of model.graph.constants()) if (value.constant) hash.update(value.constant.raw);
  for (const { node, weight, gamma, beta, mean, variance, epsilon } of norms) {
    hash.update(`${node} ${epsilon}`);
    for (const data of [weight.data, gamma, beta, mean, variance]) hash.update(data);
  }
  return hash.digest('hex');
}

/** The checkpoint at `path`. What checks it is read along with it: few jobs start from one. Throws CHECKPOINT_MISMATCH. */
export async function openCheckpoint(path: string): Promise<{ checkpoint: Checkpoint; placement?: Placement }> {
  const [{ value, arrays }, { unpackCheckpoint }] = await Promise.all([readArrayFile(path), import('../train/readCheckpoint.js')]);
  const { training, placement } = value as { training: unknown; placement?: Placement };
  return { checkpoint: unpackCheckpoint({ header: training, arrays }), ...(placement ? { placement } : {}) };
}

/** Train with fake quant and return the best epoch, its weights in a graph of their own. */
export async function trainModel(
  context: Context,
  { model, calibrated, weightRanges, rounded }: TrainingStart,
  plan: QuantPlan,
  norms: readonly FoldedNorm[],
  data: JobData,
  placement: Placement | null,
): Promise<TrainResult & { graph: Graph; loss: LossSpec }> {
  const { job, engine, threads } = context;
  const { logits, form } = logitsOf(model.graph.outputs[0] as Value);
  const loss = lossFor(job.recipe, data.task, model.width, form, data.train.length);
  if (model.width === undefined)
    throw new OctetError(
      'MODEL_NOT_TRAINABLE',
      `Output ${model.output} has no fixed width: [${logits.shape}]`,
      { tensor: model.output },
      { hint: 'Export the model with a fixed number of outputs.' },
    );
  const steps = train({
    graph: model.graph,
    batchSymbol: model.batchSymbol,
    sizes: openSizes(model, data.dataset.sampleShapes),
    ...(model.locked ? { fixedBatch: model.fixedBatch as number } : {}),
    plan,
    recipe: job.recipe,
    loss,
    width: model.width,
    samples: data.dataset,
    trainIndices: data.train,
    holdoutIndices: data.holdout,
    calibrated,
    norms,
    ...(rounded ? { start: packParameters(rounded, parameterLayout(rounded)) } : {}),
    weightRanges,
    engine,
    threads,
    fingerprint: fingerprint(context, model, plan, norms, data),
    ...(job.checkpointPath ? { checkpoint: (await openCheckpoint(job.checkpointPath)).checkpoint } : {}),
    ...context.abortable,
  });
  for (;;) {
    const next = await steps.next();
    if (next.done) {
      const { unreached } = next.value;
      if (unreached.length)
        context.warn(
          'NOT_TRAINED',
          `${unreached.length === 1 ? 'One weight was' : `${unreached.length} weights were`} not trained, because an operator without a gradient stands behind: ${unreached.slice(0, 5).join(', ')}${unreached.length > 5 ? ', …' : ''}.`,
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
    if (event.kind === 'checkpoint') {
      const path = join(job.workDirectory, 'checkpoint.bin');
      const { header, arrays } = packCheckpoint(event.checkpoint);
      await writeArrayFile(path, { training: header, ...(placement ? { placement } : {}) }, arrays);
      context.emit({ type: 'checkpoint', path, step: event.checkpoint.step });
    }
  }
}
