import { GraphBuilder } from '../ir/builder.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { deadCode } from '../normalise/deadCode.js';
import type { Tensor } from '../tensor/tensor.js';
import { beforeAbsorbed } from './absorb.js';

/** A layer on two dequantized inputs, and what comes after it. */
interface Layer {
  node: Node;
  x: Node<'DequantizeLinear'>;
  w: Node<'DequantizeLinear'>;
}

/**
 * The simulation with the scales taken out of its sums: layers multiply and add whole numbers held in float32, which is exact up
 * to 2^24, and one factor `s_in · s_w / s_out` requantizes the sum, as integer kernels do it. The same map as the fake-quant
 * graph in real numbers. In float32 the two part where a value lies within rounding error of a half, some 10^-5 of all values of a
 * layer, and a deep network carries that on; compared with an int8 model, this form differs only where the model is wrong.
 */
export function exactArithmetic(simulation: Graph): Graph {
  const graph = simulation.clone();
  const b = new GraphBuilder(graph);
  for (const node of [...graph.nodes]) {
    if (!node.is('Conv') && !node.is('Gemm') && !node.is('MatMul')) continue;
    const [x, w] = [node.input(0).producer, node.input(1).producer];
    if (x?.is('DequantizeLinear') && w?.is('DequantizeLinear')) rewrite(graph, b, { node: node, x, w });
  }
  graph.sort();
  deadCode.run(graph, inferShapes(graph));
  return graph;
}

/** `q - zero point` as whole numbers in float32. */
function integers(b: GraphBuilder, node: Node<'DequantizeLinear'>): Value {
  const zero = node.inputs[2];
  const q = b.op('Cast', [node.input(0)], { to: 'float32' });
  if (!zero || (zero.constant?.data as Int8Array | undefined)?.every((v) => v === 0)) return q;
  return b.op('Sub', [q, b.op('Cast', [zero], { to: 'float32' })]);
}

function rewrite(graph: Graph, b: GraphBuilder, { node, x, w }: Layer): void {
  const bias = node.inputs[2];
  const scale = b.op('Mul', [x.input(1), w.input(1)]);
  const channels = w.input(1).constant?.size ?? 1;
  const spatial = node.op === 'Conv' ? (node.input(1).shape?.length ?? 4) - 2 : 0;
  const perChannel = (value: Value) =>
    channels > 1 && spatial ? b.reshape(value, [channels, ...new Array<number>(spatial).fill(1)]) : value;
  const whole = bias && b.op('Round', [b.op('Div', [bias, scale])]);
  const sum = graph
    .node(node.op, [integers(b, x), integers(b, w), ...(whole ? [whole] : [])], node.attrs, { name: `${node.name}_sum` })
    .output();
  const quantizer = quantizerAfter(graph, node.output());
  if (!quantizer) {
    graph.replaceAll(node.output(), b.op('Mul', [sum, perChannel(scale)]));
    return;
  }
  const factor = b.op('Div', [scale, quantizer.input(1)]);
  const zero = quantizer.input(2);
  const q = b.op('Add', [b.op('Round', [b.op('Mul', [sum, perChannel(factor)])]), b.op('Cast', [zero], { to: 'float32' })]);
  const [low, high] = zero.dtype === 'int8' ? [-128, 127] : [0, 255];
  const stored = b.op('Cast', [b.op('Clip', [q, b.scalar(low as number), b.scalar(high as number)])], { to: zero.dtype as 'uint8' });
  graph.replaceAll(quantizer.output(), stored);
}

/** The only reader of a layer's result, if that is a quantizer, seen through activations that it repeats exactly. */
function quantizerAfter(graph: Graph, value: Value): Node<'QuantizeLinear'> | undefined {
  let at = value;
  for (;;) {
    const reader = at.readers.length === 1 && !graph.outputs.includes(at) ? at.readers[0] : undefined;
    if (!reader) return undefined;
    if (reader.is('QuantizeLinear')) {
      const params = paramsOf(reader);
      const grid = {
        dtype: reader.input(2).dtype as 'uint8' | 'int8',
        qmin: reader.input(2).dtype === 'int8' ? -128 : 0,
        qmax: reader.input(2).dtype === 'int8' ? 127 : 255,
        symmetric: false,
      };
      return params && beforeAbsorbed(at, grid, params) === value ? reader : undefined;
    }
    if (!reader.is('Relu') && !reader.is('Clip')) return undefined;
    at = reader.output();
  }
}

function paramsOf(node: Node<'QuantizeLinear'>): { scale: number; zeroPoint: number } | undefined {
  const [scale, zero] = [node.inputs[1]?.constant, node.inputs[2]?.constant];
  return scale?.size === 1 && zero ? { scale: (scale as Tensor<'float32'>).data[0] as number, zeroPoint: Number(zero.data[0]) } : undefined;
}
