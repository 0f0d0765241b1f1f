import type { InputSpec } from '../data/materialise.js';
import type { Engine } from '../engine/engine.js';
import type { Feeds } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import type { Limits, ModelSummary } from '../events.js';
import { planQuantization, type QuantPlan } from '../fakequant/plan.js';
import { unmatchedOverrides } from '../fakequant/presets.js';
import { type ExternalFiles, type ModelSource, readModel } from '../formats/read.js';
import type { Graph, Value, ValueType } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import { normalise } from '../normalise/index.js';
import { openBatch } from '../normalise/openBatch.js';
import { leaveTrainingMode } from '../normalise/trainingMode.js';
import type { Recipe } from '../recipe.js';
import { assignTasks, type OutputTask } from '../tasks/assign.js';
import type { LossSpec, LossTerm } from '../tasks/loss.js';
import { describeOutputs, type ModelOutput } from '../tasks/output.js';
import type { Tensor } from '../tensor/tensor.js';
import { parameterLayout } from '../train/parameters.js';
import { buildTrainingStep, type TrainingStep } from '../train/step.js';
import { checkBatchPlace } from './batchPlace.js';
import { exposeScores, onlyForTheJob } from './exposeScores.js';
import { inputsOf, openSizes } from './inputs.js';
import { inferTypes } from './types.js';

/** A model as every later stage wants it. */
export interface PreparedModel {
  /** As it was read, shapes inferred, in inference form; never changed. */
  original: Graph;
  /** What was changed for the inference form, in sentences; none where the file is in it. */
  notes: readonly string[];
  /** Outputs that the file does not have, for the job to judge by. */
  exposed: readonly string[];
  source: ModelSource;
  /** In normal form, with a symbolic batch where that was possible. */
  graph: Graph;
  /** Batch norms that were folded into layers of `graph`, and could be taken out again for training. */
  norms: readonly FoldedNorm[];
  /** In the order of the file; the first names the samples where one is meant. */
  inputs: readonly InputSpec[];
  /** In the order of the file. */
  outputs: readonly ModelOutput[];
  batch: ModelBatch;
}

/** How many samples a model takes at a time; `symbol` names the batch dimension in its graph. */
export type ModelBatch =
  | { kind: 'open'; symbol: string }
  /** The file takes `size` at a time, and the graph was freed of it; `restoreBatch` puts it back. */
  | { kind: 'opened'; symbol: string; size: number }
  /** The graph could not be freed of it, because of the obstacle. */
  | { kind: 'locked'; symbol: string; size: number; obstacle: string };

/** The batch size that the file fixes. */
export const fileBatch = ({ batch }: Pick<PreparedModel, 'batch'>): number | undefined => (batch.kind === 'open' ? undefined : batch.size);

/** The batch size that the graph fixes. */
export const graphBatch = ({ batch }: Pick<PreparedModel, 'batch'>): number | undefined =>
  batch.kind === 'locked' ? batch.size : undefined;

const quantizedOp =
  /^(QuantizeLinear|DequantizeLinear|DynamicQuantize.*|QLinear.*|.*Integer.*|QGemm|QAttention|QMoE|QEmbed.*|QOrdered.*|MatMulNBits|MatMulBnb4|GatherBlockQuantized)$/;

/**
 * Read a model and bring it to normal form. Throws MODEL_* errors for files that are no model, are quantized already, or do
 * not have inputs with the batch in front.
 * @param wishes what the job says about outputs
 */
export async function prepareModel(
  path: string,
  limits: Limits,
  engine: Engine,
  { wishes = [], files = 'zip' }: { wishes?: Recipe['outputs']; files?: ExternalFiles | undefined } = {},
): Promise<PreparedModel> {
  const { graph: original, source } = await readModel(path, limits, files);
  const quantized = original.nodes.find((node) => quantizedOp.test(node.opName));
  if (quantized)
    throw new OctetError('MODEL_ALREADY_QUANTIZED', `The model holds ${quantized.opName} ${quantized.name}: it is quantized already`, {
      node: quantized.name,
      op: quantized.opName,
    });
  await inferTypes(original, engine);
  const notes = leaveTrainingMode(original);
  const exposed = exposeScores(original);
  checkBatchPlace(original);
  const graph = original.clone();
  const inputs = inputsOf(graph);
  const evaluate = async (constants: Graph) => (await runEach(constants, [{}], engine))[0] ?? {};
  const { fixedBatch, obstacle } = await openBatch(graph, inputs, { evaluate, run: (some, feeds) => runEach(some, feeds, engine) });
  const norms = await normalise(graph, { evaluate });
  const outputs = describeOutputs(graph, wishes).map((output) =>
    exposed.includes(output.name) ? { ...output, why: `${output.why} ${onlyForTheJob}` } : output,
  );
  return { original, notes, exposed, source, graph, norms, inputs, outputs, batch: batchOf(graph, fixedBatch, obstacle) };
}

function batchOf(graph: Graph, size: number | undefined, obstacle: string | undefined): ModelBatch {
  const dim = graph.inputs[0]?.shape?.[0];
  const symbol = typeof dim === 'string' ? dim : 'N';
  if (typeof dim === 'number') return { kind: 'locked', symbol, size: size ?? dim, obstacle: obstacle ?? 'its graph holds on to it' };
  return size === undefined ? { kind: 'open', symbol } : { kind: 'opened', symbol, size };
}

/** Results of a graph for each of several feeds. */
async function runEach(graph: Graph, feeds: readonly Feeds[], engine: Engine): Promise<Record<string, Tensor>[]> {
  const program = await engine.compile(graph, { threads: 1, mode: 'train' });
  try {
    const results: Record<string, Tensor>[] = [];
    for (const each of feeds) results.push(await program.run(each));
    return results;
  } finally {
    await program.dispose();
  }
}

/** What it means for a job that the batch of the file could not be opened; undefined where it could. */
export const lockedBatch = ({ batch }: PreparedModel): string | undefined =>
  batch.kind === 'locked'
    ? `The model was exported for a batch of ${batch.size} and is calibrated and trained with no other: ${batch.obstacle}. Export it with an open batch (in PyTorch: dynamic_shapes, or dynamic_axes with dynamo=False) for training.batchSize to count.`
    : undefined;

/** Put the batch size of the file back into a graph made from it: its interface, and what is noted of values that no rule tells. */
export function restoreBatch(graph: Graph, { batch }: Pick<PreparedModel, 'batch'>): Graph {
  if (batch.kind !== 'opened') return graph;
  const restored = (type: ValueType): ValueType =>
    type.shape ? { ...type, shape: type.shape.map((dim) => (dim === batch.symbol ? batch.size : dim)) } : type;
  for (const value of graph.values()) {
    if (value.type) value.type = restored(value.type);
    if (value.declared) value.declared = restored(value.declared);
  }
  return graph;
}

/** The plan for a recipe, with overrides that match nothing refused. */
export function planFor(model: PreparedModel, recipe: Recipe): QuantPlan {
  const lost = unmatchedOverrides(
    recipe,
    model.graph.nodes.map((node) => ({ name: node.name, op: node.op })),
  );
  if (lost[0] !== undefined) {
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      `quantization.layers[${lost[0]}] matches no layer of the model`,
      { pointer: `/quantization/layers/${lost[0]}` },
      {
        hint: `Names of layers are those of the file, such as ${model.graph.nodes
          .filter((node) => spec(node.op).weight !== undefined)
          .slice(0, 3)
          .map((node) => `"${node.name}"`)
          .join(', ')}; "*" stands for anything.`,
      },
    );
  }
  return planQuantization(model.graph, recipe);
}

/** Sizes to try where a model leaves one open, besides the batch: no dataset is known yet. */
const trialSizes = [224, 96, 32, 8, 512, 2048, 16_384];

/**
 * Check, by building a training step for one sample, that every trained layer can be reached from the loss.
 * Returns the names of weights that cannot, or nothing where none of the sizes tried is one that the model takes: that shows with the data.
 * Throws MODEL_NOT_TRAINABLE naming the node that is in the way of all, MODEL_SHAPE for a model without open sizes.
 */
export function checkTrainable(model: PreparedModel, plan: QuantPlan): readonly string[] | undefined {
  for (const size of trialSizes) {
    const sizes = openSizes(
      model,
      model.inputs.map(({ shape }) => shape.map(() => size)),
    );
    try {
      return buildTrialStep(model, plan, sizes).unreached;
    } catch (error) {
      if (!Object.keys(sizes).length || !(error instanceof OctetError) || error.code !== 'MODEL_SHAPE') throw error;
    }
  }
  return undefined;
}

/** A loss that every judged output adds to: what can be trained is what it depends on. Throws as `assignTasks` where no output is judged. */
export function trialLoss({ outputs }: Pick<PreparedModel, 'outputs'>): LossSpec {
  const { outputs: judged } = assignTasks(outputs, { task: 'unlabelled' });
  const term = ({ output }: OutputTask): LossTerm => ({ output: output.name, kind: 'mse', axis: null, distillationWeight: 1, weight: 1 });
  return { terms: [term(judged[0]), ...judged.slice(1).map(term)], temperature: 1 };
}

function buildTrialStep(model: PreparedModel, plan: QuantPlan, sizes: Record<string, number>): TrainingStep {
  return buildTrainingStep({
    graph: model.graph,
    batch: graphBatch(model) ?? 1,
    batchSymbol: model.batch.symbol,
    sizes,
    layout: parameterLayout(model.graph),
    plan,
    loss: trialLoss(model),
    observe: false,
  });
}

const shapeOf = (value: Value | undefined) => (value?.shape ? [...value.shape] : null);

const dims = (value: Value) => ({ name: value.name, dtype: value.dtype ?? 'unknown', shape: [...(value.shape ?? [])] });

/** What a model is, and what of it can be int8 by the recipe. Throws as `prepareModel` and the planner do. */
export async function summarise(path: string, limits: Limits, recipe: Recipe, engine: Engine): Promise<ModelSummary> {
  const model = await prepareModel(path, limits, engine, { wishes: recipe.outputs });
  await checkRuns(model, engine);
  const plan = planFor(model, recipe);
  const nodes = new Map(model.graph.nodes.map((node) => [node.name, node]));
  const { trainable, why } = trainability(model, plan);
  const { source, original } = model;
  return {
    format: 'onnx',
    producer: source.producer,
    irVersion: source.irVersion,
    opset: source.opset,
    inputs: original.inputs.map(dims),
    outputs: model.outputs.map((output, at) => ({ ...output, shape: shapeOf(original.outputs[at]) })),
    ops: source.ops,
    nodes: source.nodes,
    parameters: original.constants().reduce((sum, value) => sum + (value.dtype === 'float32' ? (value.constant?.size ?? 0) : 0), 0),
    bytes: source.bytes,
    quantizable: plan.weights.map((point) => ({
      node: point.node,
      op: point.op,
      parameters: nodes.get(point.node)?.input(point.port).constant?.size ?? 0,
    })),
    float: plan.float.map((entry) => ({ ...entry })),
    trainable,
    ...(why === undefined || trainable !== false ? {} : { notTrainableBecause: why }),
    ...notesOf(trainable === null && why !== undefined ? [...model.notes, why] : model.notes),
  };
}

const notesOf = (notes: readonly string[]) => (notes.length ? { notes: [...notes] } : {});

/** What an inspection says of training, with the reason for anything but yes. */
function trainability(model: PreparedModel, plan: QuantPlan): { trainable: boolean | null; why?: string } {
  try {
    if (checkTrainable(model, plan)) return { trainable: true };
    const open = Object.keys(
      openSizes(
        model,
        model.inputs.map(({ shape }) => shape.map(() => 1)),
      ),
    );
    return {
      trainable: null,
      why: `The sizes ${open.join(', ')} are open, and whether the model can be trained shows only with those of the data.`,
    };
  } catch (error) {
    if (!(error instanceof OctetError) || error.code !== 'MODEL_NOT_TRAINABLE') throw error;
    return { trainable: false, why: error.message };
  }
}

/** The runtime must be able to load the model as it was sent. Throws MODEL_UNSUPPORTED_OP or MODEL_RUN_FAILED. */
async function checkRuns(model: PreparedModel, engine: Engine): Promise<void> {
  try {
    const program = await engine.compile(model.original, { threads: 1, mode: 'infer' });
    await program.dispose();
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    if (/not a registered function|Could not find an implementation|No Op registered/i.test(detail)) {
      const node = model.original.nodes.find((candidate) => candidate.op === 'Opaque' && detail.includes(candidate.opName));
      throw new OctetError('MODEL_UNSUPPORTED_OP', detail, node ? { node: node.name, op: node.opName } : {}, { cause: error });
    }
    throw OctetError.from(error, 'MODEL_RUN_FAILED');
  }
}
