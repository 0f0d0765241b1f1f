import { describe, expect, it } from 'vitest';
import type { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { parse } from '../ir/text.js';
import { runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { alignDepthwise } from './depthwise.js';

const random = new Random(6);
const integers = (shape: readonly number[]) =>
  new Tensor(
    'int8',
    shape,
    Int8Array.from({ length: sizeOf(shape) }, () => random.below(127) - 63),
  );

/** Conv, Relu, depthwise, Clip, Conv between quantizers: `channels` inside. `extra` reads the inner value a second time. */
function blockOf(channels: number, { extra = false, zeroPoint = 0 } = {}): Graph {
  const perChannel = Tensor.float32(
    [channels],
    Float32Array.from({ length: channels }, () => 0.01 + 0.01 * random.uniform()),
  );
  const bias = new Tensor(
    'int32',
    [channels],
    Int32Array.from({ length: channels }, () => random.below(4000) - 2000),
  );
  const zeros = new Tensor('int8', [channels], new Int8Array(channels).fill(zeroPoint));
  const graph = parse(
    `graph g (x: float32[N, 4, 5, 5]) opset 18
    q = QuantizeLinear(x, s=float32[]{0.03}, z=uint8[]{120})
    d = DequantizeLinear(q, s, z)
    w1 = DequantizeLinear(k1=int8[${channels}, 4, 1, 1]#, s1=float32[${channels}]#, z1=int8[${channels}]#) {axis=0}
    b1 = DequantizeLinear(i1=int32[${channels}]#, t1=float32[]{0.0005}, u1=int32[]{0})
    c1 = Conv(d, w1, b1) @expand
    r1 = Relu(c1)
    q1 = QuantizeLinear(r1, o1=float32[]{0.04}, p1=uint8[]{3})
    d1 = DequantizeLinear(q1, o1, p1)
    w2 = DequantizeLinear(k2=int8[${channels}, 1, 3, 3]#, s2=float32[${channels}]#, z2=int8[${channels}]#) {axis=0}
    c2 = Conv(d1, w2) {pads=[1, 1, 1, 1], group=${channels}} @dw
    r2 = Clip(c2, lo=float32[]{0}, hi=float32[]{6})
    q2 = QuantizeLinear(r2, o2=float32[]{0.02}, p2=uint8[]{0})
    d2 = DequantizeLinear(q2, o2, p2)
    w3 = DequantizeLinear(k3=int8[4, ${channels}, 1, 1]#, s3=float32[]{0.02}, z3=int8[]{0})
    c3 = Conv(d2, w3) @project
    q3 = QuantizeLinear(c3, o3=float32[]{0.1}, p3=uint8[]{100})
    y = DequantizeLinear(q3, o3, p3)
    ${extra ? 'm = ReduceMax(d1)\n    return y, m' : 'return y'}
`,
    new Map<string, Tensor>([
      ['k1', integers([channels, 4, 1, 1])],
      ['k2', integers([channels, 1, 3, 3])],
      ['k3', integers([4, channels, 1, 1])],
      ['s1', perChannel],
      ['s2', perChannel],
      ['z1', zeros],
      ['z2', zeros],
      ['i1', bias],
    ]),
  );
  inferShapes(graph);
  return graph;
}

const shapes = (graph: Graph) =>
  graph.nodes.flatMap((node) => (node.is('Conv') ? [node.input(1).producer?.input(0).constant?.shape.slice(0, 2)] : []));

describe('a depthwise layer between two others', () => {
  it.each([10, 12, 20, 24])('gets a multiple of sixteen channels, and the sums stay what they are: %i', async (channels) => {
    const graph = blockOf(channels);
    const feeds = {
      x: Tensor.float32(
        [2, 4, 5, 5],
        Float32Array.from({ length: 200 }, () => 2 * random.normal()),
      ),
    };
    const before = await runGraph(graph, feeds);
    alignDepthwise(graph);
    inferShapes(graph);
    const wanted = Math.ceil(channels / 16) * 16;
    expect(shapes(graph)).toEqual([
      [wanted, 4],
      [wanted, 1],
      [4, wanted],
    ]);
    expect((await runGraph(graph, feeds)).y).toEqual(before.y);
  });

  it.each([
    ['sixteen already', () => blockOf(16)],
    ['it would double', () => blockOf(8)],
    ['somebody else reads what lies between', () => blockOf(24, { extra: true })],
    ['weights with a zero point', () => blockOf(24, { zeroPoint: 1 })],
  ])('is left alone: %s', (_what, make) => {
    const graph = make();
    const before = shapes(graph);
    alignDepthwise(graph);
    expect(shapes(graph)).toEqual(before);
  });
});
