import type { QuantPlan } from '../fakequant/plan.js';
import { opsetOfInt4 } from '../fakequant/storage.js';
import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * Store the weights that the plan wants so as int4: the constant, and a Cast that makes int8 of it. The runtime computes the Cast once, when it loads
 * the model, so that integer kernels run on it as on any other int8 weight; of a DequantizeLinear that reads int4 itself
 * ONNX Runtime makes float arithmetic. In place, on a graph of QuantizeLinear/DequantizeLinear pairs.
 */
export function packWeights(graph: Graph, plan: QuantPlan): void {
  const packed = new Map(plan.weights.flatMap((point) => (point.storage === 'int4' ? [[point.node, point.port] as const] : [])));
  if (!packed.size) return;
  for (const node of [...graph.nodes]) {
    const port = packed.get(node.name);
    const dequantize = port === undefined ? undefined : node.inputs[port]?.producer;
    if (dequantize?.is('DequantizeLinear')) pack(graph, dequantize);
  }
  graph.opset = Math.max(graph.opset, opsetOfInt4);
  graph.sort();
}

function pack(graph: Graph, dequantize: Node<'DequantizeLinear'>): void {
  const stored = dequantize.input(0);
  const integers = stored.constant;
  if (integers?.dtype !== 'int8') return;
  const tensor = new Tensor('int4', integers.shape, integers.data as Int8Array);
  const packed = graph.constant(`${stored.name}_int4`, tensor);
  dequantize.setInput(0, graph.node('Cast', [packed], { to: 'int8' }, { name: `${stored.name}_unpack` }).output());
}
