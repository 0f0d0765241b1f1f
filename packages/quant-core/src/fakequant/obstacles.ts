import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';

/** What keeps a node from running on integers: a reason of its own, or an input that is not quantized. */
export type Obstacle = string | Value;

const configured = 'left in float by the configuration';

export const isFloat = (value: Value | undefined): boolean => value?.dtype === 'float32';

/** Whether a Pad fills with 0, which every grid holds. */
export function padsWithZero(node: Node<'Pad'>): boolean {
  const fill = node.inputs[2];
  return node.attr('mode') !== 'constant' || !fill || (fill.constant !== undefined && Number(fill.constant.data[0]) === 0);
}

/** Why a layer with a weight port cannot be int8; absent when it can. */
export function layerObstacle(node: Node, skip: boolean): string | undefined {
  const facts = spec(node.op);
  const weight = node.inputs[facts.weight as number];
  if (skip) return configured;
  if (!weight?.constant) return computedWeight(node);
  if (weight.dtype !== 'float32') return `its weights are ${weight.dtype}`;
  const input = node.input(0);
  if (!input.dtype) return unknownType(input);
  if (!isFloat(input)) return `its input ${input.name} is ${input.dtype}, not float32`;
  if (facts.floatReason) return facts.floatReason;
  if (node.is('Gemm')) {
    const [name] = [node.attr('transA') && 'transA = 1', node.attr('alpha') !== 1 && `alpha = ${node.attr('alpha')}`].filter(Boolean);
    if (name) return `Octet has no integer form of a Gemm with ${name}`;
    if (node.attr('beta') !== 1) return `Octet has no integer form of a Gemm with beta = ${node.attr('beta')}`;
  }
  if (node.is('MatMul') && weight.constant.shape.length !== 2)
    return `its weights have ${weight.constant.shape.length} dimensions, and only those of a MatMul by a matrix become int8`;
  const bias = node.inputs[facts.bias ?? -1];
  return bias && !bias.constant ? `its bias ${bias.name} is computed, not constant` : undefined;
}

function computedWeight(node: Node): string {
  if (node.is('Conv', 'ConvTranspose')) return 'its weights are computed, not constant';
  return node.inputs[0]?.constant
    ? 'its first input is the constant one, and only a constant second input is taken as weights'
    : 'it multiplies two computed tensors, and only products with constant weights become int8';
}

/** A value whose type nothing tells, and the operator on the way to it that is to blame. */
function unknownType(value: Value): string {
  let at: Value | undefined = value;
  let source: Node | undefined;
  while (at?.producer) {
    source = at.producer;
    at = source.op === 'Opaque' ? undefined : source.inputs.find((input) => input && !input.dtype);
  }
  const origin = source ? `: it comes from ${source.name} (${source.opName}), which is not in the list of docs/ops.md` : '';
  return `the type of its input ${value.name} is not known${origin}`;
}

/** Why an op without weights does not run on integers, given which values are quantized; absent when it does. */
export function opObstacle(node: Node, skip: boolean, quantized: ReadonlySet<Value>): Obstacle | undefined {
  const facts = spec(node.op);
  if (node.op === 'Opaque') return 'the operator is not in the list of docs/ops.md';
  if (facts.floatReason) return facts.floatReason;
  if (skip) return configured;
  if (!facts.quantizedBinary && !facts.quantizedUnary && !facts.sharesInputScale) return `Octet has no integer form of ${node.opName}`;
  if (node.is('Pad') && !padsWithZero(node)) return 'it pads with something other than 0';
  const every = facts.quantizedBinary || facts.sharesInputScale === 'all';
  const data = (every ? node.inputs : node.inputs.slice(0, 1)).filter((value) => value !== undefined);
  const other = data.find((value) => !isFloat(value));
  if (other) return other.dtype ? `its input ${other.name} is ${other.dtype}, not float32` : unknownType(other);
  return data.find((value) => !quantized.has(value) || (facts.quantizedBinary && value.constant));
}

/** What is known of a graph once it is decided which nodes run on integers. */
export interface Decided {
  integer: ReadonlySet<Node>;
  /** Nodes that take no time of their own: activations that are part of the integer node before them. */
  absorbed: ReadonlySet<Node>;
  /** Values that integer nodes could read. */
  quantized: ReadonlySet<Value>;
  /** Layers that cannot be int8, and why. */
  layers: ReadonlyMap<Node, string>;
  skip(node: Node): boolean;
}

/** Why each node stays float that is neither integer nor absorbed; an input that is float is followed to the node where that began. */
export function floatReasons(graph: Graph, decided: Decided): Map<Node, string> {
  const { integer, absorbed, quantized, layers } = decided;
  const reasons = new Map<Node, string>();
  /** Of each float node, the one its being float goes back to. */
  const roots = new Map<Node, Node>();
  const through = (value: Value): [Node | undefined, string] => {
    if (value.constant) return [undefined, `its input ${value.name} is a constant, which stays float`];
    const root = value.producer && roots.get(value.producer);
    if (root) return [root, `its input comes from ${root.name} (${root.opName}), which stays float: ${reasons.get(root)}`];
    return [undefined, `its input ${value.name} is not quantized: no int8 layer reads it`];
  };
  for (const node of graph.nodes) {
    if (integer.has(node) || absorbed.has(node)) continue;
    const own = layers.get(node) ?? (spec(node.op).absorbedByRequantization ? activationObstacle(graph, node, decided) : undefined);
    const obstacle = own ?? opObstacle(node, decided.skip(node), quantized) ?? readInFloat(graph, node);
    const [root, reason] = typeof obstacle === 'string' ? [undefined, obstacle] : through(obstacle);
    reasons.set(node, reason);
    roots.set(node, root ?? node);
  }
  return reasons;
}

/** A node that could run on integers, and whose result nothing wants as integers. */
function readInFloat(graph: Graph, node: Node): string {
  const [reader, ...more] = new Set(node.outputs.flatMap(({ readers }) => readers));
  const others = more.length > 0 ? ` and ${more.length} more` : '';
  if (reader) return `no int8 layer reads its result, which goes to ${reader.name} (${reader.opName})${others}`;
  return node.outputs.some((value) => graph.outputs.includes(value))
    ? 'no int8 layer reads its result, which is an output of the model'
    : 'nothing reads its result';
}

/** Why an activation is not part of the integer node before it. */
function activationObstacle(graph: Graph, node: Node, { integer, absorbed, quantized }: Decided): Obstacle {
  const input = node.input(0);
  const before = input.producer;
  if (!before || !(integer.has(before) || absorbed.has(before)))
    return !before && quantized.has(input) ? 'no int8 layer stands before it whose part it could be' : input;
  if (graph.outputs.includes(input)) return `the result of ${before.name} before it is an output of the model`;
  if (input.readers.length > 1) return `other nodes read the result of ${before.name} before it`;
  return 'its bounds are computed, not constant';
}
