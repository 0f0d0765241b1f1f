import { attributeProtos } from '../../formats/onnx/attributes.js';
import { OnnxNode } from '../../formats/onnx/origin.js';
import { type AttributeProto, attributeTypes } from '../../formats/onnx/schema.js';
import { GraphBuilder } from '../../ir/builder.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import type { Attrs } from '../../ir/ops.js';

/**
 * ONNX Runtime computes convolutions with constant weights in a blocked layout (NCHWc: channels in blocks of 8 or 16). In a
 * training graph weights are no constants, so it would not. Its kernels can be addressed directly, in the domain below;
 * the weights are reordered inside the graph.
 */
const domain = 'com.microsoft.nchwc';

/** A node of the runtime's own domain. */
function internal(graph: Graph, opType: string, inputs: readonly (Value | undefined)[], attribute: AttributeProto[], name: string): Value {
  const node = graph.node('Opaque', inputs, {}, { name });
  node.opaque = {
    opType,
    domain,
    proto: new OnnxNode({ opType, domain, attribute, output: [node.output().name] }, []),
    ownInputs: inputs.length,
  };
  return node.output();
}

interface Sizes {
  out: number;
  in: number;
  kernel: readonly number[];
}

/** `[O, I, kh, kw]` → blocks of output and input channels, as the kernel wants its weights. */
function reorderWeights(
  b: GraphBuilder,
  weights: Value,
  { out, in: channels, kernel: [h, w] }: Sizes,
  block: number,
  depthwise: boolean,
): Value {
  const split = (shape: number[], perm: number[]) =>
    b.reshape(b.op('Transpose', [b.reshape(weights, shape)], { perm }), [out, channels, h as number, w as number]);
  if (depthwise || channels < block) return split([out / block, block, channels, h as number, w as number], [0, 2, 3, 4, 1]);
  return split([out / block, block, channels / block, block, h as number, w as number], [0, 2, 4, 5, 3, 1]);
}

/** Whether the blocked kernel takes a convolution and is faster than the plain one. */
function fits(node: Node, block: number): node is Node<'Conv'> {
  if (!node.is('Conv') || node.opaque) return false;
  const weights = node.input(1);
  const shape = weights.shape as readonly number[] | undefined;
  if (weights.constant || shape?.length !== 4 || shape.some((dim) => typeof dim !== 'number')) return false;
  const [out, channels, h, w] = shape as [number, number, number, number];
  const group = node.attr('group') as number;
  // A 1x1 kernel is a matrix product, which the plain form does best.
  if (h * w === 1 || out % block !== 0) return false;
  const auto = node.attr('auto_pad');
  if (auto !== 'NOTSET' && auto !== 'VALID') return false;
  if (group > 1) return channels === 1 && group === out;
  return channels % block === 0 || channels < 8;
}

/** Let every convolution that gains from it run on the blocked kernels. In place; types of new values are not inferred. */
export function lowerToBlocked(graph: Graph, block: number): void {
  const b = new GraphBuilder(graph);
  for (const node of [...graph.nodes]) {
    if (!fits(node, block)) continue;
    const [x, weights, bias] = [node.input(0), node.input(1), node.inputs[2]];
    const [out, channels, ...kernel] = weights.shape as number[];
    const depthwise = (node.attr('group') as number) > 1;
    const small = !depthwise && (channels as number) < block;
    const input = small ? x : internal(graph, 'ReorderInput', [x], [], `${node.name}_reorder_input`);
    const blocked = reorderWeights(b, weights, { out: out as number, in: channels as number, kernel }, block, depthwise);
    const attrs: Attrs<'Conv'> = { ...node.attrs, kernel_shape: kernel };
    const result = internal(
      graph,
      'Conv',
      [input, blocked, ...(bias ? [bias] : [])],
      attributeProtos('Conv', attrs as never),
      `${node.name}_blocked`,
    );
    const plain = internal(
      graph,
      'ReorderOutput',
      [result],
      [{ name: 'channels', type: attributeTypes.int, i: out as number }],
      `${node.name}_reorder_output`,
    );
    plain.type = node.output().type;
    graph.replaceAll(node.output(), plain);
    graph.remove(node);
  }
  graph.sort();
}
