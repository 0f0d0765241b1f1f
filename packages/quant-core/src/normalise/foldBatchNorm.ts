import type { Graph, Node, Value } from '../ir/graph.js';
import type { Pass } from '../ir/pass.js';
import { Tensor } from '../tensor/tensor.js';
import { biasOf, foldAffine, type Layer, layerBefore, layerOf, setWeights } from './layer.js';
import { bypass, floatConstant, sweep } from './match.js';

/**
 * Batch norm in inference form is `x · scale + shift` a channel, with `scale = gamma / sqrt(var + epsilon)` and `shift = beta - mean · scale`.
 * Undefined when a parameter is not constant or the result is not finite. No division by gamma anywhere.
 */
function affineOf(node: Node<'BatchNormalization'>): { scale: Float64Array; shift: Float64Array } | undefined {
  if (node.attr('training_mode') === 1 || node.outputs.length !== 1) return undefined;
  const parameters = [1, 2, 3, 4].map((port) => floatConstant(node.inputs[port])?.data);
  if (parameters.includes(undefined)) return undefined;
  const [gamma, beta, mean, variance] = parameters as [Float32Array, Float32Array, Float32Array, Float32Array];
  const epsilon = node.attr('epsilon');
  const scale = Float64Array.from(gamma, (g, c) => g / Math.sqrt((variance[c] as number) + epsilon));
  const shift = Float64Array.from(beta, (b, c) => b - (mean[c] as number) * (scale[c] as number));
  return scale.every(Number.isFinite) && shift.every(Number.isFinite) ? { scale, shift } : undefined;
}

/** A batch norm that was folded into the layer before it, and what both were: enough to train with it again. */
export interface FoldedNorm {
  /** Name of the layer. */
  node: string;
  /** Weights of the layer without the batch norm, in the shape they still have. */
  weight: Tensor<'float32'>;
  /** One number a channel each. `mean` is that of the layer without its bias, which is now kept nowhere else. */
  gamma: Float32Array;
  beta: Float32Array;
  mean: Float64Array;
  variance: Float32Array;
  epsilon: number;
  /** What the layer became: constants that are still in place when nothing else was folded into it. */
  folded: { weight: Tensor; bias: Tensor };
}

/** Batch norm into the Conv, ConvTranspose, Gemm or MatMul that feeds it alone; `note` is told of each that leaves a bias. */
export const batchNormFolding = (note: (norm: FoldedNorm) => void = () => undefined): Pass => ({
  name: 'foldBatchNorm',
  run: (graph) =>
    sweep(graph, (node) => {
      if (!node.is('BatchNormalization')) return false;
      const layer = layerBefore(graph, node.inputs[0]);
      const affine = layer && layer.axis === 1 ? affineOf(node) : undefined;
      if (!layer || !affine || affine.scale.length !== layer.channels) return false;
      const parts = normOf(node, layer);
      const result = foldAffine(graph, layer, affine.scale, affine.shift);
      const [weight, bias] = [1, 2].map((port) => result?.producer?.inputs[port]?.constant);
      if (parts && weight && bias) note({ ...parts, folded: { weight, bias } });
      return result !== undefined && bypass(graph, node, result);
    }),
});

export const foldBatchNorm = batchNormFolding();

/** The parts of a batch norm and of the layer before it; undefined for a ConvTranspose in groups, whose channels lie on two axes. */
function normOf(node: Node<'BatchNormalization'>, layer: Layer): Omit<FoldedNorm, 'folded'> | undefined {
  const bias = biasOf(layer);
  if (!bias || (layer.node.is('ConvTranspose') && layer.node.attr('group') !== 1)) return undefined;
  const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((port) => floatConstant(node.inputs[port])?.data) as Float32Array[];
  return {
    node: layer.node.name,
    weight: layer.weight,
    gamma: gamma as Float32Array,
    beta: beta as Float32Array,
    mean: Float64Array.from(mean as Float32Array, (m, c) => m - (bias[c] as number)),
    variance: variance as Float32Array,
    epsilon: node.attr('epsilon'),
  };
}

/** Of the batch norms that were folded, those whose layers are still what folding left: nothing else was folded into them. */
export function stillFolded(graph: Graph, norms: readonly FoldedNorm[]): FoldedNorm[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  return norms.filter(({ node, folded }) => {
    const [, weight, bias] = nodes.get(node)?.inputs ?? [];
    return weight?.constant === folded.weight && bias?.constant === folded.bias && weight.readers.length === 1 && bias.readers.length === 1;
  });
}

/**
 * Batch norm into the layer that alone reads it: `W · (x · scale + shift) + b`. Exact only where no padding puts zeros beside the
 * shifted values.
 */
export const foldBatchNormForward: Pass = {
  name: 'foldBatchNormForward',
  run: (graph) =>
    sweep(graph, (node) => {
      if (!node.is('BatchNormalization')) return false;
      const value = node.output();
      const reader = value.readers.length === 1 && !graph.outputs.includes(value) ? value.readers[0] : undefined;
      if (!reader || reader.inputs[0] !== value || !(reader.is('Conv') || reader.is('Gemm') || reader.is('MatMul'))) return false;
      const affine = affineOf(node);
      const layer = layerOf(reader);
      if (!affine || !layer || !foldInput(graph, layer, affine.scale, affine.shift)) return false;
      return bypass(graph, node, node.input(0));
    }),
};

function foldInput(graph: Graph, layer: Layer, scale: Float64Array, shift: Float64Array): boolean {
  const { node, weight } = layer;
  const shifts = shift.some((x) => x !== 0);
  const dense = node.is('Gemm') || node.is('MatMul');
  if (dense && (node.input(0).shape?.length !== 2 || weight.shape.length !== 2)) return false;
  if (node.is('Gemm') && node.attr('transA') === 1) return false;
  if (node.is('Conv') && shifts && pads(node)) return false;
  const bias = biasOf(layer);
  if (!bias) return false;
  const { input, output } = indices(layer);
  const alpha = node.is('Gemm') ? node.attr('alpha') : 1;
  const scaled = weight.data.map((w, i) => w * (scale[input(i)] as number));
  for (const [i, w] of weight.data.entries()) bias[output(i)] = (bias[output(i)] as number) + alpha * w * (shift[input(i)] as number);
  const rounded = Float32Array.from(bias);
  if (!scaled.every(Number.isFinite) || !rounded.every(Number.isFinite)) return false;
  setWeights(graph, layer, scaled, shifts || node.inputs[2] ? rounded : undefined);
  return true;
}

const pads = (node: Node<'Conv'>): boolean =>
  node.attr('auto_pad').startsWith('SAME') || (node.attr('pads') ?? []).some((pad) => pad !== 0);

/** Input and output channel of element `i` of the weights. */
function indices(layer: Layer): { input: (i: number) => number; output: (i: number) => number } {
  const { node, weight, channels } = layer;
  if (node.is('Conv')) {
    const perGroup = weight.shape[1] as number;
    const each = weight.size / channels;
    const kernel = each / perGroup;
    const filtersInGroup = channels / node.attr('group');
    const output = (i: number) => Math.floor(i / each);
    return { output, input: (i) => Math.floor(output(i) / filtersInGroup) * perGroup + (Math.floor(i / kernel) % perGroup) };
  }
  const [rows, columns] = [(i: number) => Math.floor(i / (weight.shape[1] as number)), (i: number) => i % (weight.shape[1] as number)];
  return node.is('Gemm') && node.attr('transB') === 1 ? { output: rows, input: columns } : { output: columns, input: rows };
}

/** A batch norm that no layer can take up, as Mul and Add. */
export const spellOutBatchNorm: Pass = {
  name: 'spellOutBatchNorm',
  run: (graph) =>
    sweep(graph, (node) => {
      if (!node.is('BatchNormalization')) return false;
      const rank = node.input(0).shape?.length;
      const affine = affineOf(node);
      if (!rank || !affine) return false;
      const shape = [affine.scale.length, ...new Array<number>(rank - 2).fill(1)];
      const constant = (suffix: string, data: Float64Array): Value =>
        graph.constant(`${node.name}.${suffix}`, Tensor.float32(shape, Float32Array.from(data)));
      const mul = graph.node('Mul', [node.input(0), constant('scale', affine.scale)], {}, { name: node.name, before: node });
      const add = graph.node('Add', [mul.output(), constant('shift', affine.shift)], {}, { name: `${node.name}_shift`, before: node });
      for (const made of [mul, add]) made.output().type = node.output().type;
      return bypass(graph, node, add.output());
    }),
};
