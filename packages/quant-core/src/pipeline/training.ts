import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Graph, Value } from '../ir/graph.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import type { Recipe } from '../recipe.js';
import type { TrainInput } from '../train/input.js';
import { type LossSpec, logitsOf, type OutputForm } from '../train/loss.js';
import { packParameters, parameterLayout, unpackParameters } from '../train/parameters.js';
import { type TrainEvent, type TrainResult, train } from '../train/train.js';
import type { JobCheckpoints } from './checkpoint.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { openSizes } from './inputs.js';
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
  const { logits, form } = logitsOf(model.graph.outputs[0] as Value);
  const loss = lossFor(job.recipe, data.task, model.width, form, data.train.length);
  if (model.width === undefined)
    throw new OctetError(
      'MODEL_NOT_TRAINABLE',
      `Output ${model.output} has no fixed width: [${logits.shape}]`,
      { tensor: model.output },
      { hint: 'Export the model with a fixed number of outputs.' },
    );
  const input: TrainInput = {
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
