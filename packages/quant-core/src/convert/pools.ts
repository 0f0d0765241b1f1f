import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * Write an int8 AveragePool with one result for each channel as GlobalAveragePool, after a Slice where the window does not reach to the
 * end of the image: the same mean. ONNX Runtime sums that one in integers, and the other in float, point by point
 * (docs/decisions/0007). In place, on a graph of QuantizeLinear/DequantizeLinear pairs; shapes must be inferred.
 */
export function poolWhole(graph: Graph): void {
  for (const node of [...graph.nodes]) {
    const source = node.inputs[0]?.producer;
    if (!node.is('AveragePool') || !source?.is('DequantizeLinear')) continue;
    const kernel = node.attr('kernel_shape');
    const image = node.input(0).shape?.slice(2) ?? [];
    const result = node.output().shape?.slice(2) ?? [];
    const padded = node.attr('pads')?.some((pad) => pad !== 0) || node.attr('auto_pad')?.startsWith('SAME');
    const apart = node.attr('dilations')?.some((step) => step !== 1);
    if (padded || apart || !image.length || result.some((size) => size !== 1) || kernel.length !== image.length) continue;
    if (!image.every((size, axis) => typeof size === 'number' && size >= (kernel[axis] as number))) continue;
    const whole = kernel.every((size, axis) => size === image[axis]);
    const input = whole ? node.input(0) : window(graph, node, source, kernel);
    graph.replaceAll(node.output(), graph.node('GlobalAveragePool', [input], {}, { name: node.name }).output());
    graph.remove(node);
    if (source.output().readers.length === 0) graph.remove(source);
  }
  graph.sort();
}

/** The part of the image under the window, cut out of the integers. */
function window(graph: Graph, node: Node, source: Node<'DequantizeLinear'>, kernel: readonly number[]) {
  const ints = (what: string, values: readonly number[]) => graph.constant(`${node.name}_${what}`, Tensor.ints(values));
  const starts = ints(
    'starts',
    kernel.map(() => 0),
  );
  const axes = ints(
    'axes',
    kernel.map((_, axis) => axis + 2),
  );
  const cut = graph.node('Slice', [source.input(0), starts, ints('ends', kernel), axes], {}, { name: `${node.name}_window` });
  return graph
    .node('DequantizeLinear', [cut.output(), ...source.inputs.slice(1)], source.attrs, { name: `${node.name}_window_dequantize` })
    .output();
}
