import { GraphBuilder } from '../../ir/builder.js';
import type { Graph, Node } from '../../ir/graph.js';

/** Elements side by side that a channel must have for a call of the kernel to be worth it. */
const leastRun = 32;

const ends = { int8: [-128, 127], uint8: [0, 255] } as const;

/** The shape that lets a scale broadcast over its channels; absent where the channels are not a vector, come first, or have long runs. */
function scaleShape(node: Node<'QuantizeLinear' | 'DequantizeLinear'>): number[] | undefined {
  const shape = node.input(0).shape as readonly number[] | undefined;
  if (node.input(0).constant || node.input(1).shape?.length !== 1 || !shape || shape.some((dim) => typeof dim !== 'number'))
    return undefined;
  const axis = node.attr('axis');
  const channel = axis < 0 ? axis + shape.length : axis;
  const run = shape.slice(channel + 1).reduce((a, dim) => a * dim, 1);
  if (channel === 0 || run >= leastRun || node.input(1).shape?.[0] !== shape[channel]) return undefined;
  return shape.map((dim, at) => (at === channel ? dim : 1));
}

/**
 * ONNX Runtime quantizes by channel with a call for every run of elements that share a scale. Where the channels are the last axis, as in the
 * weights of a MatMul, that is a call for every element, at every step of training. There `QuantizeLinear` and `DequantizeLinear` are written as they are
 * defined, `clip(round(x / s) + z)` and `(q - z) · s`, with a kernel for the whole tensor at each operator. (Transposed to rows it would be one
 * operator each, but the runtime takes pairs of Transposes out again.) In place; the results are the same to the last bit.
 */
export function quantizeBroadcast(graph: Graph): void {
  const b = new GraphBuilder(graph);
  for (const node of [...graph.nodes]) {
    if (!node.is('QuantizeLinear') && !node.is('DequantizeLinear')) continue;
    const shape = scaleShape(node);
    const zeroPoint = node.inputs[2];
    if (!shape || (zeroPoint?.dtype !== 'int8' && zeroPoint?.dtype !== 'uint8')) continue;
    const x = node.input(0);
    const scale = b.reshape(node.input(1), shape);
    const zero = b.reshape(b.op('Cast', [zeroPoint], { to: 'float32' }), shape);
    const [low, high] = ends[zeroPoint.dtype];
    const result = node.is('QuantizeLinear')
      ? b.op('Cast', [b.op('Clip', [b.op('Add', [b.op('Round', [b.op('Div', [x, scale])]), zero]), b.scalar(low), b.scalar(high)])], {
          to: zeroPoint.dtype,
        })
      : b.op('Mul', [b.op('Sub', [b.op('Cast', [x], { to: 'float32' }), zero]), scale]);
    result.type = node.output().type;
    graph.replaceAll(node.output(), result);
    graph.remove(node);
  }
  graph.sort();
}
