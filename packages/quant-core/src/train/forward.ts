import { type Inserted, insertFakeQuant } from '../fakequant/insert.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { channelCount } from '../fakequant/scales.js';
import { GraphBuilder } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { type BatchStatistics, type NormPoint, type Statistics, writeNorms } from './batchNorm.js';
import { type ParameterLayout, vectorParts } from './parameters.js';

/** Names of the step inputs that carry state. Vectors, so that a step has a handful of inputs whatever the network. */
export const feedNames = {
  parameters: 'octet_parameters',
  activationScale: 'octet_activation_scale',
  activationZeroPoint: 'octet_activation_zero_point',
  activationLow: 'octet_activation_low',
  activationHigh: 'octet_activation_high',
  weightScale: 'octet_weight_scale',
  weightZeroPoint: 'octet_weight_zero_point',
} as const;

export interface Forward {
  b: GraphBuilder;
  /** The trained tensors, in the order of the layout. */
  parameters: Value[];
  inserted: Inserted | undefined;
  /** Ends of the grid of each activation group; only when `gridEnds` was asked for. */
  low: Value[];
  high: Value[];
  /** Scale of each activation group. */
  activationScale: Value[];
  /** Scale of each weight of the plan, in its shape for quantization. */
  weightScale: Value[];
  /** What the samples of this run say of the batch norms that are kept, where there are any. */
  statistics: BatchStatistics | undefined;
}

/** Batch norms that come after their layers, and what they normalise by. */
export interface KeptNorms {
  points: readonly NormPoint[];
  statistics: Statistics;
}

/**
 * Turn a float graph into one whose trained tensors, scales and zero points are inputs: the forward half of a training step,
 * and the program that measures the held-out loss. Works in place; `plan` absent leaves the graph in float.
 */
export function parameterise(
  graph: Graph,
  layout: ParameterLayout,
  plan: QuantPlan | undefined,
  gridEnds: boolean,
  norms?: KeptNorms,
): Forward {
  const b = new GraphBuilder(graph);
  const body = graph.nodes;
  graph.nodes = [];
  const flat = graph.input(feedNames.parameters, { dtype: 'float32', shape: [layout.size] });
  const constants = new Map(graph.constants().map((value) => [value.name, value]));
  for (const node of body) for (const value of node.inputs) if (value?.constant) constants.set(value.name, value);
  const pieces = vectorParts(
    b,
    flat,
    layout.slots.map((slot) => slot.size),
  );
  const parameters = layout.slots.map((slot, index) => {
    const constant = constants.get(slot.name);
    const tensor = b.op('Reshape', [pieces[index], b.ints(slot.shape)], {}, `${slot.name}_trained`);
    tensor.type = { dtype: 'float32', shape: slot.shape };
    if (constant) graph.replaceAll(constant, tensor);
    return tensor;
  });
  let inserted: Inserted | undefined;
  let low: Value[] = [];
  let high: Value[] = [];
  let activationScale: Value[] = [];
  let weightScale: Value[] = [];
  const tensors = new Map(layout.slots.map((slot, index) => [slot.name, parameters[index] as Value]));
  const place = () => {
    graph.nodes.push(...body);
    return norms?.points.length ? writeNorms(b, norms.points, tensors, norms.statistics) : undefined;
  };
  let written: ReturnType<typeof place>;
  if (plan) {
    const groups = plan.groups.map(() => 1);
    const vector = (name: string, dtype: 'float32' | 'uint8', sizes: readonly number[]) =>
      vectorParts(b, graph.input(name, { dtype, shape: [sizes.reduce((x, y) => x + y, 0)] }), sizes);
    activationScale = vector(feedNames.activationScale, 'float32', groups);
    const zeroPoint = vector(feedNames.activationZeroPoint, 'uint8', groups);
    if (gridEnds) {
      low = vector(feedNames.activationLow, 'float32', groups);
      high = vector(feedNames.activationHigh, 'float32', groups);
    }
    const slots = new Map(layout.slots.map((slot, index) => [slot.name, index]));
    const sizes = plan.weights.map((point) =>
      channelCount((layout.slots[slots.get(point.value) as number] as { shape: readonly number[] }).shape, point.axis),
    );
    const total = sizes.reduce((x, y) => x + y, 0);
    weightScale = vectorParts(b, graph.input(feedNames.weightScale, { dtype: 'float32', shape: [total] }), sizes);
    const weightZeroPoint = vectorParts(b, graph.input(feedNames.weightZeroPoint, { dtype: 'int8', shape: [total] }), sizes);
    written = place();
    // The plan names constants; the tensors that took their place are looked up by the node's port.
    inserted = insertFakeQuant(graph, plan, {
      activation: (group) => ({ scale: activationScale[group] as Value, zeroPoint: zeroPoint[group] as Value }),
      weight: (index) => ({ scale: weightScale[index] as Value, zeroPoint: weightZeroPoint[index] as Value }),
    });
  } else {
    written = place();
  }
  written?.afterFakeQuant();
  return { b, parameters, inserted, low, high, activationScale, weightScale, statistics: written?.batch };
}
