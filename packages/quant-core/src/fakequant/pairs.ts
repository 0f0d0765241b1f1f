import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { QuantPlan } from './plan.js';

/** Two quantized layers between which every channel may be given another scale. */
export interface LayerPair {
  first: Node;
  second: Node;
  channels: number;
  /** Neighbouring input rows of the second layer that belong to one channel: the pixels of a flattened image. */
  block: number;
  /** What the first layer gives before its activation; its peaks say how far a channel may be scaled up. */
  before: Value;
  /** Axis of `before` that counts the channels. */
  axis: number;
  /** The activation lets nothing below 0 through. */
  oneSided: boolean;
  /** Upper bound of a Clip from 0: it does not scale along. */
  bound?: number;
  /** A constant that is added after a MatMul: its bias. */
  added?: { node: Node; port: number };
}

/** The one reader of a value that is not an output of the graph. */
function onlyReader(graph: Graph, value: Value): Node | undefined {
  return value.readers.length === 1 && !graph.outputs.includes(value) ? value.readers[0] : undefined;
}

const ownConstant = (value: Value | undefined) => value === undefined || (value.constant !== undefined && value.readers.length === 1);

/** Whether the weights and the bias of a layer are its own, so that they may be changed. */
function changeable(node: Node): boolean {
  const facts = spec(node.op);
  const ports = [facts.weight, facts.bias].filter((port): port is number => port !== undefined);
  return ports.every((port) => ownConstant(node.inputs[port]));
}

/** Whether a bias is one number for each channel, or one for all. */
const perChannel = (bias: Value | undefined, channels: number) => !bias || bias.constant?.size === 1 || bias.constant?.size === channels;

/** Where the channels of a value are. */
interface Channels {
  value: Value;
  axis: number;
  block: number;
}

/** Whether a node only brings [N, C, …] to [N, C·…], and the number of elements of a channel then. */
function flattens(node: Node, from: Channels, channels: number): number | undefined {
  const [before, after] = [from.value.shape, node.output().shape];
  if (spec(node.op).keepsElements !== 'reshaped' || from.axis !== 1 || from.block !== 1 || !before || after?.length !== 2) return undefined;
  const inner = before.slice(2).reduce<number>((product, dim) => (typeof dim === 'number' ? product * dim : Number.NaN), 1);
  return before[0] === after[0] && after[1] === channels * inner ? inner : undefined;
}

/** A Pad that leaves the channels alone and fills with 0, or repeats what is there. */
function padsAround(node: Node, axis: number): boolean {
  const pads = node.is('Pad') && !node.inputs[3] ? node.inputs[1]?.constant : undefined;
  const fill = node.inputs[2];
  if (!pads || (fill && (!fill.constant || Number(fill.constant.data[0]) !== 0))) return false;
  const all = Array.from(pads.data as BigInt64Array, Number);
  return all[axis] === 0 && all[axis + all.length / 2] === 0;
}

/** Whether a layer multiplies the channels of `at` by its weights, one input row for every `block` of them. */
function takesIn(node: Node, at: Channels): boolean {
  if (node.input(0) !== at.value) return false;
  if (node.is('Conv')) return at.axis === 1 && at.block === 1;
  return (node.is('MatMul') || (node.is('Gemm') && !node.attr('transA'))) && at.axis === (at.value.shape?.length ?? 0) - 1;
}

/** The layer after `first`, through what scales along with its input. */
function pairFrom(graph: Graph, first: Node, layers: ReadonlySet<Node>): LayerPair | undefined {
  const shape = first.output().shape;
  if (!shape || !changeable(first)) return undefined;
  const axis = first.is('Conv') ? 1 : shape.length - 1;
  const channels = shape[axis];
  if (typeof channels !== 'number' || !perChannel(first.inputs[spec(first.op).bias ?? -1], channels)) return undefined;
  let at: Channels = { value: first.output(), axis, block: 1 };
  let before = at.value;
  let activated = false;
  let oneSided = false;
  let bound: number | undefined;
  let added: LayerPair['added'];
  for (;;) {
    const node = onlyReader(graph, at.value);
    if (!node) return undefined;
    if (layers.has(node)) {
      if (!takesIn(node, at) || !changeable(node)) return undefined;
      const pair = { first, second: node, channels, block: at.block, before, axis, oneSided };
      return { ...pair, ...(bound === undefined ? {} : { bound }), ...(added ? { added } : {}) };
    }
    const inner = flattens(node, at, channels);
    const kind = spec(node.op).homogeneous;
    const constant = node.op === 'Add' ? node.inputs.findIndex((value) => value?.constant) : -1;
    if (inner !== undefined) at = { value: node.output(), axis: 1, block: inner };
    else if (node.op === 'Add') {
      // Only the bias of a MatMul, which has none of its own.
      if (!first.is('MatMul') || added || activated || constant < 0 || !ownConstant(node.inputs[constant])) return undefined;
      const { shape: own } = node.input(constant).constant as { shape: readonly number[] };
      if (own.length !== 1 || own[0] !== channels) return undefined;
      added = { node, port: constant };
      at = { ...at, value: node.output() };
      before = at.value;
    } else if (node.is('Clip')) {
      const [low, high] = [node.inputs[1]?.constant, node.inputs[2]?.constant];
      if (activated || !low || Number(low.data[0]) !== 0 || (node.inputs[2] && !high)) return undefined;
      [activated, oneSided] = [true, true];
      if (high) bound = Number(high.data[0]);
      at = { ...at, value: node.output() };
    } else if (
      node.inputs[0] === at.value &&
      (kind === 'elements' || (kind === 'channels' && at.axis === 1) || padsAround(node, at.axis))
    ) {
      if (kind === 'elements') activated = true;
      if (node.op === 'Relu') oneSided = true;
      at = { ...at, value: node.output() };
    } else return undefined;
  }
}

/**
 * All pairs of quantized layers with nothing between them but what scales along: Relu, LeakyRelu, PRelu, pooling, padding with 0,
 * flattening, and Clip from 0 (with a bound). No value between them has another reader.
 */
export function layerPairs(graph: Graph, plan: QuantPlan): LayerPair[] {
  const names = new Set(plan.weights.map((point) => point.node));
  const layers = new Set(graph.nodes.filter((node) => names.has(node.name)));
  return [...layers].flatMap((node) => pairFrom(graph, node, layers) ?? []);
}
