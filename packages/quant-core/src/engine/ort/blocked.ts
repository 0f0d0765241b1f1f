import { attributeProtos } from '../../formats/onnx/attributes.js';
import { OnnxNode } from '../../formats/onnx/origin.js';
import { type AttributeProto, attributeTypes } from '../../formats/onnx/schema.js';
import { GraphBuilder } from '../../ir/builder.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import type { Attrs } from '../../ir/ops.js';

/**
 * ONNX Runtime computes convolutions with constant weights in a blocked layout (NCHWc: channels in blocks of 8 or 16). In a
 * training graph weights are not constants, so it would not. Its kernels can be addressed directly, in the domain below;
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
  const group = node.attr('group');
  // A 1x1 kernel is a matrix product, which the plain form does best.
  if (h * w === 1 || out % block !== 0) return false;
  const auto = node.attr('auto_pad');
  if (auto !== 'NOTSET' && auto !== 'VALID') return false;
  if (group > 1) return channels === 1 && group === out;
  return channels % block === 0 || channels < 8;
}

/** Images that are brought to the blocked layout, each once. */
class Reorders {
  private readonly made = new Map<Value, Value>();

  constructor(
    private readonly graph: Graph,
    private readonly b: GraphBuilder,
    private readonly block: number,
  ) {}

  image(x: Value): Value {
    const known = this.made.get(x);
    if (known) return known;
    const source = this.source(x);
    const value =
      source && this.nothingElseReads(source, x)
        ? this.b.reshape(this.image(source), x.shape as number[])
        : internal(this.graph, 'ReorderInput', [x], [], `${x.name}_reorder_input`);
    this.made.set(x, value);
    return value;
  }

  /** A depthwise filter that is an image seen as weights, as in the weight gradient; its blocked form is that of the image. */
  filter(weights: Value): Value | undefined {
    const source = this.source(weights);
    return source && this.b.reshape(this.image(source), weights.shape as number[]);
  }

  /** `[n, c, …]` where `x` is it as `[1, n·c, …]` or `[n·c, 1, …]`: with whole blocks in c, all three are the same in the blocked layout. */
  private source(x: Value): Value | undefined {
    const source = x.producer?.is('Reshape') ? x.producer.input(0) : undefined;
    const [from, to] = [source?.shape, x.shape];
    if (from?.length !== 4 || to?.length !== 4 || ![...from, ...to].every((dim) => typeof dim === 'number')) return undefined;
    const [n, c, ...image] = from as number[] as [number, number, ...number[]];
    const [first, second, ...own] = to as number[];
    const channels = n * c;
    const merged = (first === 1 && second === channels) || (first === channels && second === 1);
    return c % this.block === 0 && merged && image.every((dim, axis) => dim === own[axis]) ? source : undefined;
  }

  /** Whether the plain form of `source` can be forgotten: kept in both, an activation would take twice the memory until its gradient. */
  private nothingElseReads(source: Value, x: Value): boolean {
    return source.readers.every((reader) => reader === x.producer || reader.opaque?.opType === 'ReorderInput');
  }
}

/** The Relu that alone reads a value: the blocked kernel computes it along. */
function reluAfter(graph: Graph, value: Value): Node<'Relu'> | undefined {
  const reader = value.readers.length === 1 && !graph.outputs.includes(value) ? value.readers[0] : undefined;
  return reader?.is('Relu') ? reader : undefined;
}

/** Let every convolution that gains from it run on the blocked kernels. In place; types of new values are not inferred. */
export function lowerToBlocked(graph: Graph, block: number): void {
  const b = new GraphBuilder(graph);
  const reorders = new Reorders(graph, b, block);
  for (const node of [...graph.nodes]) {
    if (!fits(node, block)) continue;
    const [x, weights, bias] = [node.input(0), node.input(1), node.inputs[2]];
    const [out, channels, ...kernel] = weights.shape as number[];
    const depthwise = node.attr('group') > 1;
    const small = !depthwise && (channels as number) < block;
    const input = small ? x : reorders.image(x);
    const blocked =
      (depthwise ? reorders.filter(weights) : undefined) ??
      reorderWeights(b, weights, { out: out as number, in: channels as number, kernel }, block, depthwise);
    const attrs: Attrs<'Conv'> = { ...node.attrs, kernel_shape: kernel };
    const relu = reluAfter(graph, node.output());
    const attributes = attributeProtos('Conv', attrs as never);
    if (relu) attributes.push({ name: 'activation', type: attributeTypes.string, s: new TextEncoder().encode('Relu') });
    const result = internal(graph, 'Conv', [input, blocked, ...(bias ? [bias] : [])], attributes, `${node.name}_blocked`);
    const plain = internal(
      graph,
      'ReorderOutput',
      [result],
      [{ name: 'channels', type: attributeTypes.int, i: out as number }],
      `${node.name}_reorder_output`,
    );
    const target = relu ? relu.output() : node.output();
    plain.type = target.type;
    graph.replaceAll(target, plain);
    if (relu) graph.remove(relu);
    graph.remove(node);
    for (const value of [x, weights]) if (value.producer?.is('Reshape') && !value.readers.length) graph.remove(value.producer);
  }
  graph.sort();
}
