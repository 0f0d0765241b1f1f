import type { Graph, Node, Value } from '../ir/graph.js';
import { allocate } from '../tensor/dtype.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';

/** Depthwise integer kernels of x86 take channels sixteen at a time; what is not a multiple goes through another, slow kernel. */
const lanes = 16;
/** A layer that would grow by more than this share is left as it is. */
const mostGrowth = 2 / 3;

/** A Conv on dequantized integers, with what its weights and bias are made from. */
interface Layer {
  node: Node<'Conv'>;
  weight: Node<'DequantizeLinear'>;
  bias: Node<'DequantizeLinear'> | undefined;
}

/**
 * Give every depthwise int8 Conv between two ordinary ones a multiple of sixteen channels: the layer before gets outputs of zero
 * weights, the depthwise layer multiplies them with zero, the layer after it has zero weights for them. Every sum stays what it is.
 * In place, on a graph of QuantizeLinear/DequantizeLinear pairs (docs/decisions/0007).
 */
export function alignDepthwise(graph: Graph): void {
  for (const node of graph.nodes) {
    if (!node.is('Conv') || node.attr('group') === 1) continue;
    const [before, layer, after] = [layerOf(producerOf(graph, node)), layerOf(node), layerOf(readerOf(graph, node))];
    if (!before || !layer || !after || before.node.attr('group') !== 1 || after.node.attr('group') !== 1) continue;
    const [channels, perGroup] = layer.weight.input(0).shape as [number, number];
    const wanted = Math.ceil(channels / lanes) * lanes;
    if (perGroup !== 1 || channels !== node.attr('group') || wanted === channels || wanted > (1 + mostGrowth) * channels) continue;
    growOutputs(before, wanted);
    growOutputs(layer, wanted);
    node.attrs = { ...node.attrs, group: wanted };
    grow(after.weight.input(0), 1, wanted, 0);
  }
}

/** The ops of one channel each that may stand between two layers; what they make of an added channel is multiplied with zero. */
const between = (node: Node) =>
  node.is('Relu') || node.is('QuantizeLinear') || node.is('DequantizeLinear') || (node.is('Clip') && node.inputs.slice(1).every(isScalar));

const isScalar = (value: Value | undefined) => !value || value.constant?.size === 1;

const isPrivate = (graph: Graph, value: Value) => value.readers.length === 1 && !graph.outputs.includes(value);

/** The node whose result `node` reads, through ops of one channel each; undefined where anything else reads it too. */
function producerOf(graph: Graph, node: Node): Node | undefined {
  let at = node.input(0);
  for (;;) {
    const producer = at.producer;
    if (!producer || !isPrivate(graph, at)) return undefined;
    if (!between(producer)) return producer;
    at = producer.input(0);
  }
}

/** The node that reads the result of `node`, the same way. */
function readerOf(graph: Graph, node: Node): Node | undefined {
  let at = node.output();
  for (;;) {
    const reader = at.readers[0];
    if (!reader || !isPrivate(graph, at) || reader.inputs[0] !== at) return undefined;
    if (!between(reader)) return reader;
    at = reader.output();
  }
}

/** A Conv whose weights are symmetric integers that nothing else reads; undefined for anything else. */
function layerOf(node: Node | undefined): Layer | undefined {
  if (!node?.is('Conv')) return undefined;
  const weight = node.input(1).producer;
  const bias = node.inputs[2]?.producer;
  if (!weight?.is('DequantizeLinear') || (node.inputs[2] && !bias?.is('DequantizeLinear'))) return undefined;
  const [integers, zero] = [weight.input(0), weight.inputs[2]?.constant];
  const own = [integers, ...(bias ? [bias.input(0)] : [])].every((value) => value.constant && value.readers.length === 1);
  if (!own || (zero && (zero.data as Int8Array).some((z) => z !== 0))) return undefined;
  return { node, weight, bias: bias?.is('DequantizeLinear') ? bias : undefined };
}

/** More outputs, of zero weights and biases; scales and zero points of channels are repeated. */
function growOutputs({ weight, bias }: Layer, wanted: number): void {
  for (const source of bias ? [weight, bias] : [weight]) {
    grow(source.input(0), 0, wanted, 0);
    for (const parameter of source.inputs.slice(1)) {
      const data = parameter?.constant?.data;
      if (parameter && data && data.length > 1) grow(parameter, 0, wanted, Number(data[0]));
    }
  }
}

/** Lengthen a constant along an axis. */
function grow(value: Value, axis: number, wanted: number, fill: number): void {
  const tensor = value.constant as Tensor<'int8'>;
  const shape = tensor.shape.map((dim, index) => (index === axis ? wanted : dim));
  const [run, longer] = [sizeOf(tensor.shape.slice(axis)), sizeOf(shape.slice(axis))];
  const data = allocate(tensor.dtype, sizeOf(shape)).fill(fill);
  for (let row = 0; row * run < tensor.size; row++) data.set(tensor.data.subarray(row * run, (row + 1) * run), row * longer);
  value.constant = new Tensor(tensor.dtype, shape, data);
  value.type = { dtype: tensor.dtype, shape };
}
