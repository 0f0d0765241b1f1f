import { isDeepStrictEqual } from 'node:util';
import { OctetError } from '../errors.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { Recipe } from '../recipe.js';
import type { QuantGrid } from '../tensor/affine.js';
import { floatReasons, isFloat, layerObstacle, opObstacle } from './obstacles.js';
import { type LayerChoice, layerChoice } from './presets.js';
import { checkStorage } from './storage.js';

/** One activation that is quantized. Values of one group share scale and zero point. */
export interface ActivationPoint {
  /** Name of the value in the normalised graph. */
  value: string;
  /** Points with the same number share one range. */
  group: number;
  /** Only these nodes read the quantized value (a float producer's other readers keep the float one); absent means all. */
  readers?: readonly string[];
  /** Its elements are those of other members of the group, moved on integers: its own range need not be observed. */
  repeats?: true;
}

export interface ActivationGroup {
  grid: QuantGrid;
  bits: number;
  /** Set where the range is known beforehand: Softmax, Sigmoid, Tanh. */
  fixed?: { scale: number; zeroPoint: number };
}

export interface WeightPoint {
  node: string;
  op: string;
  /** Name of the constant. */
  value: string;
  port: number;
  grid: QuantGrid;
  bits: number;
  /** How the file holds them; absent for int8. */
  storage?: 'int4';
  /** Output channel axis for per-channel scales; absent for one scale. */
  axis?: number;
}

export interface BiasPoint {
  node: string;
  value: string;
  port: number;
  /** Name of the quantized input activation and weight, whose scales multiply. */
  input: string;
  weight: string;
}

/** Pure data: what is quantized, how, and why the rest is not. */
export interface QuantPlan {
  activations: readonly ActivationPoint[];
  groups: readonly ActivationGroup[];
  weights: readonly WeightPoint[];
  biases: readonly BiasPoint[];
  /** Nodes that run in integers. */
  integer: readonly string[];
  float: readonly { node: string; op: string; reason: string }[];
}

/** Number of the output channel axis of a weight. */
function channelAxis(node: Node, rank: number): number {
  const axis = spec(node.op).channelAxis;
  if (axis === 'gemm') return node.is('Gemm') && node.attr('transB') ? 0 : 1;
  return axis === undefined ? 0 : axis < 0 ? axis + rank : axis;
}

/** What `value` becomes after the activations that requantization absorbs (each the only reader of the one before). */
function absorbed(graph: Graph, value: Value): Value {
  let at = value;
  for (;;) {
    const reader = at.readers.length === 1 && !graph.outputs.includes(at) ? at.readers[0] : undefined;
    if (!reader || !spec(reader.op).absorbedByRequantization || reader.inputs[0] !== at) return at;
    if (reader.is('Clip') && [reader.inputs[1], reader.inputs[2]].some((bound) => bound && !bound.constant)) return at;
    at = reader.output();
  }
}

/** Groups of values that must share one scale. */
class Groups {
  private readonly parent = new Map<Value, Value>();

  find(value: Value): Value {
    const up = this.parent.get(value);
    if (!up) return value;
    const root = this.find(up);
    this.parent.set(value, root);
    return root;
  }

  join(a: Value, b: Value): void {
    const [from, to] = [this.find(b), this.find(a)];
    if (from !== to) this.parent.set(from, to);
  }
}

/**
 * Decide what becomes int8. Layers with constant weights are the seeds; ops between them that an int8 runtime executes on
 * integers join when their inputs are quantized. Every edge of such an op carries a quantizer, an activation after a layer
 * is absorbed into its output quantizer, and ops that only move data share the scale of their input. Layers that come last
 * (matrix products whose result only float ops or the caller read) keep a float result. Pure: changes nothing.
 */
export function planQuantization(graph: Graph, recipe: Recipe): QuantPlan {
  const seeds = new Map<Node, LayerChoice>();
  const layers = new Map<Node, string>();
  for (const node of graph.nodes) {
    if (spec(node.op).weight === undefined) continue;
    const choice = layerChoice(recipe, node.name, node.op);
    const reason = layerObstacle(node, choice.skip);
    if (reason) layers.set(node, reason);
    else seeds.set(node, choice);
  }
  if (!seeds.size) throw nothingToQuantize(graph, layers);

  const skip = (node: Node) => layerChoice(recipe, node.name, node.op).skip;
  const integer = new Set<Node>(seeds.keys());
  const seedInputs = new Set([...seeds.keys()].map((node) => node.input(0)));
  const quantized = new Set<Value>(seedInputs);
  // Nodes stand in topological order, so that one walk sees every producer before its readers.
  const ends = new Map<Node, Value>();
  for (const node of graph.nodes) {
    const seed = seeds.has(node);
    if (!seed && opObstacle(node, skip(node), quantized) !== undefined) continue;
    integer.add(node);
    for (const output of node.outputs) if (isFloat(output)) quantized.add(output);
    const end = absorbed(graph, node.output());
    ends.set(node, end);
    quantized.add(end);
  }

  const points = pointsOf(graph, seeds, integer, ends);
  const groups = new Groups();
  for (const node of integer) {
    if (!spec(node.op).sharesInputScale) continue;
    const data = spec(node.op).sharesInputScale === 'all' ? node.inputs : node.inputs.slice(0, 1);
    for (const value of [...data.slice(1), ...node.outputs])
      if (value && isFloat(value) && points.has(value)) groups.join(data[0] as Value, value);
  }
  const parts = absorbedNodes(integer, ends);
  const reasons = floatReasons(graph, { integer, absorbed: parts, quantized, layers, skip });
  const named = ([node, reason]: [Node, string]) => ({ node: node.name, op: node.opName, reason });
  const rest = [...reasons].filter(([node]) => !layers.has(node) && node.outputs.some(isFloat));
  return { ...assemble(graph, recipe, seeds, integer, points, groups), float: [...layers, ...rest].map(named) };
}

function nothingToQuantize(graph: Graph, layers: ReadonlyMap<Node, string>): OctetError {
  const [first] = layers.keys();
  const why = [...layers].slice(0, 3).map(([node, reason]) => `${node.op} ${node.name}: ${reason}`);
  return new OctetError(
    'MODEL_NOTHING_TO_QUANTIZE',
    `No layer can be int8: ${why.join('; ') || `it has no Conv, Gemm or MatMul, ${operatorsOf(graph)}`}`,
    first ? { node: first.name, op: first.op } : {},
  );
}

/** What a model consists of, in words: the first operators of it, such as those of ai.onnx.ml for trees and linear classifiers. */
function operatorsOf(graph: Graph): string {
  const names = [...new Set(graph.nodes.map((node) => node.opName))];
  return names.length ? `only ${names.slice(0, 5).join(', ')}${names.length > 5 ? ', …' : ''}` : 'and no other operator';
}

/** The activations that are part of an integer node before them. */
function absorbedNodes(integer: ReadonlySet<Node>, ends: ReadonlyMap<Node, Value>): Set<Node> {
  const nodes = new Set<Node>();
  for (const node of integer) {
    for (let at = ends.get(node)?.producer; at && at !== node; at = at.input(0).producer) nodes.add(at);
  }
  return nodes;
}

/** Which values carry a quantizer; the value is the set of readers, or undefined for all of them. */
function pointsOf(
  graph: Graph,
  seeds: ReadonlyMap<Node, LayerChoice>,
  integer: ReadonlySet<Node>,
  ends: ReadonlyMap<Node, Value>,
): Map<Value, Set<Node> | undefined> {
  const points = new Map<Value, Set<Node> | undefined>();
  const producedByInteger = new Map<Value, Node>();
  for (const [node, end] of ends) producedByInteger.set(end, node);
  const readByInteger = (value: Value) => value.readers.some((reader) => integer.has(reader));
  for (const node of [...graph.nodes].reverse()) {
    if (!integer.has(node)) continue;
    const end = ends.get(node) as Value;
    // What only float nodes or the caller read is handed out in float, where an integer kernel does that.
    const floatResult = !spec(node.op).quantizedResult && !points.has(end) && ![end, ...node.outputs].some(readByInteger);
    if (!floatResult) {
      if (node.outputs.length > 1) for (const output of node.outputs) if (isFloat(output)) points.set(output, undefined);
      if (node.outputs.length === 1) points.set(end, undefined);
    }
    if (floatResult && !seeds.has(node)) {
      (integer as Set<Node>).delete(node);
      continue;
    }
    for (const value of node.inputs) {
      if (!value || value.constant || !isFloat(value)) continue;
      if (producedByInteger.has(value) || (value.producer && integer.has(value.producer))) points.set(value, undefined);
      else if (points.get(value) || !points.has(value)) points.set(value, (points.get(value) ?? new Set<Node>()).add(node));
    }
  }
  return points;
}

function assemble(
  graph: Graph,
  recipe: Recipe,
  seeds: ReadonlyMap<Node, LayerChoice>,
  integer: ReadonlySet<Node>,
  points: ReadonlyMap<Value, Set<Node> | undefined>,
  unions: Groups,
): Omit<QuantPlan, 'float'> {
  const order = graph.values().filter((value) => points.has(value));
  const numbers = new Map<Value, number>();
  const groups: ActivationGroup[] = [];
  const activations = order.map((value): ActivationPoint => {
    const root = unions.find(value);
    const repeats = value.producer !== undefined && integer.has(value.producer) && spec(value.producer.op).sharesInputScale !== undefined;
    let group = numbers.get(root);
    if (group === undefined) {
      group = groups.length;
      numbers.set(root, group);
      groups.push(groupOf(value, recipe));
    } else if (!repeats && !isDeepStrictEqual(groups[group]?.fixed, groupOf(value, recipe).fixed)) {
      // A shared group with an observed member, or with two known ranges, is observed as a whole.
      delete (groups[group] as ActivationGroup).fixed;
    }
    const readers = points.get(value);
    return {
      value: value.name,
      group,
      ...(readers ? { readers: [...readers].map((node) => node.name) } : {}),
      ...(repeats ? { repeats } : {}),
    };
  });
  const weights = [...seeds].map(([node, choice]): WeightPoint => {
    const port = spec(node.op).weight as number;
    const weight = node.input(port);
    const rank = weight.constant?.shape.length ?? 0;
    const { bits, perChannel, storage, ...grid } = choice.weights;
    return {
      node: node.name,
      op: node.op,
      value: weight.name,
      port,
      bits,
      grid: { dtype: grid.dtype, qmin: grid.qmin, qmax: grid.qmax, symmetric: grid.symmetric },
      ...(storage === 'int4' && Math.max(grid.qmax, -1 - grid.qmin) <= 7 ? { storage } : {}),
      ...(perChannel ? { axis: channelAxis(node, rank) } : {}),
    };
  });
  checkStorage(
    graph,
    [...seeds.values()].some((choice) => choice.weights.storage === 'int4'),
    weights,
  );
  const biases = [...seeds.keys()].flatMap((node): BiasPoint[] => {
    const port = spec(node.op).bias;
    const bias = port === undefined ? undefined : node.inputs[port];
    return bias && port !== undefined
      ? [{ node: node.name, value: bias.name, port, input: node.input(0).name, weight: node.input(spec(node.op).weight as number).name }]
      : [];
  });
  return { activations, groups, weights, biases, integer: [...integer].map((node) => node.name) };
}

function groupOf(value: Value, recipe: Recipe): ActivationGroup {
  const producer = value.producer;
  // The settings of the layer that writes the value; those of its first reader for a model input.
  const owner = owning(producer) ?? value.readers[0];
  const { bits, ...grid } = layerChoice(recipe, owner?.name ?? '', owner?.op ?? '', !producer).activations;
  const plain: QuantGrid = { dtype: grid.dtype, qmin: grid.qmin, qmax: grid.qmax, symmetric: grid.symmetric };
  const range = producer ? spec(producer.op).outputRange : undefined;
  if (!range) return { grid: plain, bits };
  // Softmax and Sigmoid: 1/256 and zero point 0; Tanh: 1/128 and the middle. The same for fewer bits.
  const steps = plain.qmax - plain.qmin + 1;
  const centred = range[0] < 0 || plain.symmetric;
  return { grid: plain, bits, fixed: { scale: (centred ? 2 : 1) / steps, zeroPoint: centred ? steps / 2 : 0 } };
}

/** The layer whose result this is, seen through absorbed activations. */
function owning(node: Node | undefined): Node | undefined {
  if (node && spec(node.op).absorbedByRequantization) return owning(node.input(0).producer) ?? node;
  return node;
}
