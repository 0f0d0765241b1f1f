import { batches } from '../data/batches.js';
import { usualCut } from '../engine/ort/segments.js';
import { type ComparedTensor, comparisonGraph } from '../evaluate/comparison.js';
import { type LayerError, layerErrors } from '../evaluate/layers.js';
import { layerBytes } from '../evaluate/sizes.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { LayerReport } from '../report/schema.js';
import { sizeOf } from '../tensor/tensor.js';
import { evaluationBatch, liveLimit } from './batchSize.js';
import type { Candidate } from './candidates.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { inputName } from './inputs.js';
import { graphBatch, type PreparedModel } from './model.js';

/**
 * Layers are compared on so many samples, or as many as hold so many elements of all layers together: up to `most`, of which a comparison takes a few
 * seconds, and no more than an eighth of those that an epoch of training goes through, from `least` on.
 */
const comparisonSize = { samples: 256, least: 2 ** 25, most: 2 ** 27, share: 1 / 8 };
/** Above this many layers, they are not measured one by one: it would double the nodes of the comparison. */
const mostLocalLayers = 200;

/** The quantized value that a layer ends in, through absorbed activations; its own output where none is. */
export function endOf(node: Node, points: ReadonlyMap<string, unknown>): Value {
  let at = node.output();
  while (!points.has(at.name) && at.readers.length === 1 && spec((at.readers[0] as Node).op).absorbedByRequantization)
    at = (at.readers[0] as Node).output();
  return points.has(at.name) ? at : node.output();
}

/** What a layer is in both networks of a candidate. */
interface Layer {
  node: Node;
  end: Value;
  /** Position in the plan. */
  index: number;
  tensor: ComparedTensor;
}

/** The layers of a plan in the order the network computes them, each with the tensors that describe it. */
function layersOf(plan: QuantPlan, { float, simulation, table }: Candidate): Layer[] {
  const order = new Map(float.nodes.map((node, at) => [node.name, at]));
  const points = new Map(plan.activations.map((point) => [point.value, point]));
  const simulated = new Map(simulation.values().map((value) => [value.name, value]));
  const outputs = new Set(simulation.outputs.map((value) => value.name));
  const quantized = (end: Value): Value => {
    const dequantized = points.has(end.name) && !outputs.has(end.name) ? simulated.get(`${end.name}_dequantize`) : undefined;
    // A quantized graph output swapped names with its dequantized value.
    return dequantized ?? (simulated.get(end.name) as Value);
  };
  const locals = plan.weights.length <= mostLocalLayers;
  const layers = plan.weights.map((weight, index): Layer => {
    const node = float.nodes[order.get(weight.node) as number] as Node;
    const end = endOf(node, points);
    const point = points.get(end.name);
    const params = point && table.activations[point.group];
    const grid = point && plan.groups[point.group]?.grid;
    const from = { float: node.input(0), simulated: simulated.get(node.input(0).name) as Value };
    const tensor = {
      float: end,
      simulated: quantized(end),
      ...(params && grid ? { grid: { ...params, ...grid } } : {}),
      ...(locals ? { from } : {}),
    };
    return { node, end, index, tensor };
  });
  return layers.sort((a, b) => (order.get(a.node.name) as number) - (order.get(b.node.name) as number));
}

/** Elements of all layers for one sample, at least one; open sizes count as 1. */
const elementsOf = (layers: readonly Layer[]): number =>
  layers.reduce((sum, { end }) => sum + sizeOf((end.shape ?? []).slice(1).map((dim) => (typeof dim === 'number' ? dim : 1))), 0) || 1;

/** Samples to compare layers on. They depend on sizes alone, never on the clock, so that a job repeated gives the same figures. */
function samplesFor(layers: readonly Layer[], data: JobData): number {
  const elements = elementsOf(layers);
  const affordable = Math.max(comparisonSize.least, Math.min(comparisonSize.most, comparisonSize.share * data.train.length * elements));
  return Math.max(1, Math.min(comparisonSize.samples, Math.floor(affordable / elements)));
}

/** Batch of a comparison. A graph that the engine loads in parts hands all compared tensors from one part to another: then all of them count. */
function comparisonBatch(context: Context, model: PreparedModel, data: JobData, graph: Graph, layers: readonly Layer[]): number {
  const batch = evaluationBatch(context, model, data, graph);
  if (graphBatch(model) !== undefined || graph.nodes.length <= usualCut.whole) return batch;
  return Math.max(1, Math.min(batch, Math.floor(liveLimit(context) / (2 * 4 * elementsOf(layers)))));
}

/** Errors of the layers, by their position in the plan. */
async function errorsOf(
  context: Context,
  model: PreparedModel,
  candidate: Candidate,
  data: JobData,
  layers: readonly Layer[],
): Promise<Map<number, LayerError>> {
  if (!layers.length) return new Map();
  const tensors = layers.map(({ tensor }) => tensor);
  const graph = comparisonGraph(candidate.float, candidate.simulation, tensors);
  const batchSize = comparisonBatch(context, model, data, graph, layers);
  const program = await context.engine.compile(graph, { threads: context.threads, mode: 'train' });
  try {
    const samples = data.evaluationIndices.subarray(0, samplesFor(layers, data));
    const fixedBatch = graphBatch(model);
    const errors = await layerErrors({
      program,
      input: inputName(model),
      tensors,
      batches: batches(data.evaluationSamples, samples, { batchSize, ...context.abortable }),
      ...(fixedBatch === undefined ? {} : { fixedBatch }),
      ...context.abortable,
    });
    return new Map(layers.map(({ index }, at) => [index, errors[at] as LayerError]));
  } finally {
    await program.dispose();
  }
}

/** One row for every layer with weights and every node that stays float, with its error on evaluation samples. */
export async function layerRows(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  candidate: Candidate,
  data: JobData,
): Promise<LayerReport[]> {
  const layers = layersOf(plan, candidate);
  const errors = await errorsOf(context, model, candidate, data, layers);
  const bytes = { float: layerBytes(candidate.float), int8: layerBytes(candidate.artifact) };
  const rows = layers
    .sort((a, b) => a.index - b.index)
    .map((layer) => layerRow(plan, candidate, layer, errors.get(layer.index) as LayerError, bytes));
  const nodes = new Map(candidate.float.nodes.map((node) => [node.name, node]));
  return [...rows, ...floatRows(plan, nodes, bytes.float, bytes.int8)];
}

type Bytes = Record<'float' | 'int8', ReadonlyMap<string, number>>;

function layerRow(plan: QuantPlan, { table }: Candidate, { node, end, index }: Layer, error: LayerError, bytes: Bytes): LayerReport {
  const weight = plan.weights[index] as QuantPlan['weights'][number];
  const point = plan.activations.find((activation) => activation.value === end.name);
  const params = point && table.activations[point.group];
  const scales = table.weights[index]?.scale ?? new Float32Array([1]);
  return {
    name: node.name,
    op: node.op,
    precision: 'int8',
    parameters: parametersOf(node),
    weightBits: weight.bits,
    weightStorage: weight.storage ?? 'int8',
    ...(point ? { activationBits: plan.groups[point.group]?.bits ?? 8 } : {}),
    perChannel: weight.axis !== undefined,
    ...(params ? { scale: params.scale, zeroPoint: params.zeroPoint } : {}),
    ...error,
    channelSpread: scales.reduce((a, v) => Math.max(a, v), 0) / scales.reduce((a, v) => Math.min(a, v), Number.POSITIVE_INFINITY),
    floatBytes: bytes.float.get(node.name) ?? 0,
    int8Bytes: bytes.int8.get(node.name) ?? 0,
  };
}

/** Axes, shapes and counts are no parameters. */
const parametersOf = (node: Node) =>
  node.inputs.reduce((sum, value) => sum + (value?.dtype?.startsWith('float') ? (value.constant?.size ?? 0) : 0), 0);

function floatRows(
  plan: QuantPlan,
  nodes: ReadonlyMap<string, Node>,
  floatBytes: ReadonlyMap<string, number>,
  int8Bytes: ReadonlyMap<string, number>,
): LayerReport[] {
  return plan.float.map(({ node: name, op, reason }) => {
    const node = nodes.get(name);
    return {
      name,
      op,
      precision: 'float',
      reason,
      parameters: node ? parametersOf(node) : 0,
      floatBytes: floatBytes.get(name) ?? 0,
      int8Bytes: int8Bytes.get(name) ?? 0,
    };
  });
}
