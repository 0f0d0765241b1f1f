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
import type { Tensor } from '../tensor/tensor.js';
import { logitsOf } from '../train/loss.js';
import { parameterLayout } from '../train/parameters.js';
import { buildTrainingStep, type TrainingStep } from '../train/step.js';
import { checkBatchPlace } from './batchPlace.js';
import { inputsOf, openSizes } from './inputs.js';
import { inferTypes } from './types.js';

/** A model as every later stage wants it. */
export interface PreparedModel {
  /** As it was read, shapes inferred, in inference form; never changed. */
  original: Graph;
  /** What was changed for the inference form, in sentences; none where the file is in it. */
  notes: readonly string[];
  source: ModelSource;
  /** In normal form, with a symbolic batch where that was possible. */
  graph: Graph;
  /** Batch norms that were folded into layers of `graph`, and could be taken out again for training. */
  norms: readonly FoldedNorm[];
  /** In the order of the file; the first names the samples where one is meant. */
  inputs: readonly InputSpec[];
  output: string;
  /** Elements of one output row; undefined when the model leaves it open. */
  width: number | undefined;
  /** Name of the batch dimension in `graph`. */
  batchSymbol: string;
  /** The batch size the file insists on: `restore` puts it back, and `locked` says that the graph could not be freed of it. */
  fixedBatch: number | undefined;
  locked: boolean;
  /** Why it could not. */
  obstacle: string | undefined;
}

const quantizedOp =
  /^(QuantizeLinear|DequantizeLinear|DynamicQuantize.*|QLinear.*|.*Integer.*|QGemm|QAttention|QMoE|QEmbed.*|QOrdered.*|MatMulNBits|MatMulBnb4|GatherBlockQuantized)$/;

/**
 * Read a model and bring it to normal form. Throws MODEL_* errors for files that are no model, are quantized already, or do
 * not have inputs and one float output with the batch in front.
 */
export async function prepareModel(path: string, limits: Limits, engine: Engine, files: ExternalFiles = 'zip'): Promise<PreparedModel> {
  const { graph: original, source } = await readModel(path, limits, files);
  const quantized = original.nodes.find((node) => quantizedOp.test(node.opName));
  if (quantized)
    throw new OctetError('MODEL_ALREADY_QUANTIZED', `The model holds ${quantized.opName} ${quantized.name}: it is quantized already`, {
      node: quantized.name,
      op: quantized.opName,
    });
  await inferTypes(original, engine);
  const notes = leaveTrainingMode(original);
  checkBatchPlace(original);
  const output = onlyOutput(original);
  const graph = original.clone();
  const inputs = inputsOf(graph);
  const evaluate = async (constants: Graph) => (await runEach(constants, [{}], engine))[0] ?? {};
  const { fixedBatch, obstacle } = await openBatch(graph, inputs, { evaluate, run: (some, feeds) => runEach(some, feeds, engine) });
  const norms = await normalise(graph, { evaluate });
  const batch = graph.inputs[0]?.shape?.[0];
  const { logits } = logitsOf(graph.outputs[0] as Value);
  const row = logits.shape?.slice(1);
  const width = row?.every((dim) => typeof dim === 'number') ? (row as number[]).reduce((a, b) => a * b, 1) : undefined;
  return {
    original,
    notes,
    source,
    graph,
    norms,
    inputs,
    output: output.name,
    width,
    batchSymbol: typeof batch === 'string' ? batch : 'N',
    fixedBatch,
    locked: typeof batch === 'number',
    obstacle,
  };
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

function onlyOutput(graph: Graph): Value {
  const [output, ...more] = graph.outputs;
  if (!output || more.length) {
    throw new OctetError(
      'MODEL_INPUTS_UNSUPPORTED',
      `The model has ${graph.outputs.length} outputs (${graph.outputs.map((value) => value.name).join(', ')}); one is wanted`,
      more[0] ? { tensor: more[0].name } : {},
      {
        hint: 'Export the model with the one output that the labels are for.',
      },
    );
  }
  if (output.dtype !== undefined && output.dtype !== 'float32')
    throw new OctetError('MODEL_INPUTS_UNSUPPORTED', `Output ${output.name} is ${output.dtype}, float32 is wanted`, {
      tensor: output.name,
    });
  return output;
}

/** What it means for a job that the batch of the file could not be opened. */
export const lockedBatch = ({ fixedBatch, obstacle }: PreparedModel): string =>
  `The model was exported for a batch of ${fixedBatch} and is calibrated and trained with no other: ${obstacle}. Export it with an open batch (in PyTorch: dynamic_shapes, or dynamic_axes with dynamo=False) for training.batchSize to count.`;

/** Put the batch size of the file back into a graph made from it: its interface, and what is noted of values that no rule tells. */
export function restoreBatch(graph: Graph, model: Pick<PreparedModel, 'fixedBatch' | 'locked' | 'batchSymbol'>): Graph {
  if (model.fixedBatch === undefined || model.locked) return graph;
  const size = model.fixedBatch;
  const restored = (type: ValueType): ValueType =>
    type.shape ? { ...type, shape: type.shape.map((dim) => (dim === model.batchSymbol ? size : dim)) } : type;
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

function buildTrialStep(model: PreparedModel, plan: QuantPlan, sizes: Record<string, number>): TrainingStep {
  return buildTrainingStep({
    graph: model.graph,
    batch: model.locked ? (model.fixedBatch as number) : 1,
    batchSymbol: model.batchSymbol,
    sizes,
    layout: parameterLayout(model.graph),
    plan,
    loss: { kind: 'mse', distillationWeight: 0, temperature: 1 },
    observe: false,
  });
}

const dims = (value: Value) => ({ name: value.name, dtype: value.dtype ?? 'unknown', shape: [...(value.shape ?? [])] });

/** What a model is, and what of it can be int8 by the recipe. Throws as `prepareModel` and the planner do. */
export async function summarise(path: string, limits: Limits, recipe: Recipe, engine: Engine): Promise<ModelSummary> {
  const model = await prepareModel(path, limits, engine);
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
    outputs: original.outputs.map(dims),
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
    ...(why === undefined && model.notes.length === 0 ? {} : { notes: [...model.notes, ...(why === undefined ? [] : [why])] }),
  };
}

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
