import type { Graph, Node, Value } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';
import { floatConstant, soleProducer } from './match.js';

/** A layer with constant weights (and bias), whose result only the one node after it reads. */
export interface Layer {
  node: Node<'Conv' | 'ConvTranspose' | 'Gemm' | 'MatMul'>;
  weight: Tensor<'float32'>;
  /** Output channels, and the axis of the result that counts them. */
  channels: number;
  axis: number;
  /** Rank of the result. */
  rank: number;
}

/** The layer that writes `value`, if it can take up what comes after it. */
export function layerBefore(graph: Graph, value: Value | undefined): Layer | undefined {
  const node = soleProducer(graph, value, 'Conv', 'ConvTranspose', 'Gemm', 'MatMul');
  return node && layerOf(node);
}

/** See a node as a layer; undefined when its weights or bias are not float32 constants. */
export function layerOf(node: Node<'Conv' | 'ConvTranspose' | 'Gemm' | 'MatMul'>): Layer | undefined {
  const weight = floatConstant(node.inputs[1]);
  const shape = node.output().shape;
  if (!weight || !shape || weight.shape.length < 2 || (node.inputs[2] && !floatConstant(node.inputs[2]))) return undefined;
  const dense = node.op === 'Gemm' || node.op === 'MatMul';
  const axis = dense ? shape.length - 1 : 1;
  const channels = shape[axis];
  if (typeof channels !== 'number') return undefined;
  const layer: Layer = { node, weight, channels, axis, rank: shape.length };
  return node.inputs[2] && !biasOf(layer) ? undefined : layer;
}

/** The bias that counts, one number a channel (zeros when there is none); undefined when it is not per channel. */
export function biasOf(layer: Layer): Float64Array | undefined {
  const tensor = floatConstant(layer.node.inputs[2]);
  if (!tensor) return new Float64Array(layer.channels);
  if (!layer.node.is('Gemm')) return Float64Array.from(tensor.data);
  const beta = layer.node.attr('beta');
  return perChannel(tensor, 2, 1, layer.channels)?.map((x) => x * beta);
}

/** One number a channel from a constant that broadcasts along all other axes of a tensor of `rank`; else undefined. */
export function perChannel(tensor: Tensor<'float32'>, rank: number, axis: number, channels: number): Float64Array | undefined {
  const offset = rank - tensor.shape.length;
  if (offset < 0) return undefined;
  for (const [i, dim] of tensor.shape.entries()) if (dim !== 1 && (i + offset !== axis || dim !== channels)) return undefined;
  return tensor.size === 1 ? new Float64Array(channels).fill(tensor.data[0] as number) : Float64Array.from(tensor.data);
}

/** Which output channel element `i` of the weights belongs to. */
function channelOf(layer: Layer): (i: number) => number {
  const { node, weight, channels } = layer;
  const { shape } = weight;
  if (node.is('Conv') || (node.is('Gemm') && node.attr('transB') === 1)) {
    const each = weight.size / channels;
    return (i) => Math.floor(i / each);
  }
  if (!node.is('ConvTranspose')) return (i) => i % channels;
  const perGroup = shape[1] as number;
  const kernel = shape.slice(2).reduce((a, b) => a * b, 1);
  const inEachGroup = (shape[0] as number) / node.attr('group');
  return (i) => {
    const input = Math.floor(i / (perGroup * kernel));
    return Math.floor(input / inEachGroup) * perGroup + (Math.floor(i / kernel) % perGroup);
  };
}

/** Whether the layer can add a constant to its result: MatMul only where it can become a Gemm. */
const canShift = (layer: Layer): boolean =>
  layer.node.op !== 'MatMul' || (layer.node.input(0).shape?.length === 2 && layer.weight.shape.length === 2);

/**
 * Make the layer compute `y · scale + shift` for each channel in place of `y`, in double precision before it is rounded to float32.
 * A MatMul that gets a shift becomes a Gemm of the same name. Returns the result's value, or undefined (and nothing
 * done) when it cannot be.
 */
export function foldAffine(graph: Graph, layer: Layer, scale: Float64Array, shift: Float64Array): Value | undefined {
  const before = biasOf(layer);
  const needsBias = layer.node.inputs[2] !== undefined || shift.some((x) => x !== 0);
  if (!before || (needsBias && !canShift(layer))) return undefined;
  const channel = channelOf(layer);
  const weight = layer.weight.data.map((w, i) => w * (scale[channel(i)] as number));
  const bias = Float32Array.from(before, (b, c) => b * (scale[c] as number) + (shift[c] as number));
  if (!weight.every(Number.isFinite) || !bias.every(Number.isFinite)) return undefined;
  return setWeights(graph, layer, weight, needsBias ? bias : undefined);
}

/** Give the layer other weights and bias; constants that others read too are left alone. */
export function setWeights(graph: Graph, layer: Layer, weight: Float32Array, bias: Float32Array | undefined): Value {
  const { node } = layer;
  setConstant(graph, node, 1, new Tensor('float32', layer.weight.shape, weight), '');
  if (!bias) return node.output();
  const biasTensor = new Tensor('float32', [layer.channels], bias);
  if (node.is('MatMul')) return toGemm(graph, node, graph.constant(`${node.name}.bias`, biasTensor));
  setConstant(graph, node, 2, biasTensor, `${node.name}.bias`);
  if (node.is('Gemm')) node.attrs = { ...node.attrs, beta: 1 };
  return node.output();
}

/** `MatMul` and a bias as one Gemm, in its place and under its name. Both operands must have rank 2. */
export function toGemm(graph: Graph, node: Node<'MatMul'>, bias: Value): Value {
  const gemm = graph.node('Gemm', [node.input(0), node.input(1), bias], {}, { name: node.name, before: node });
  const result = gemm.output();
  result.type = node.output().type;
  graph.replaceAll(node.output(), result);
  if (!graph.outputs.includes(result)) [result.name, node.output().name] = [node.output().name, result.name];
  graph.remove(node);
  return result;
}

function setConstant(graph: Graph, node: Layer['node'], port: number, tensor: Tensor, name: string): void {
  const value = node.inputs[port];
  if (value && value.readers.length === 1 && !graph.outputs.includes(value)) {
    value.constant = tensor;
    value.type = { dtype: tensor.dtype, shape: tensor.shape };
  } else node.setInput(port, graph.constant(name || value?.name || node.name, tensor));
}
