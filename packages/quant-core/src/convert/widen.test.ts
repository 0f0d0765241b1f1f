import { describe, expect, it } from 'vitest';
import type { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { parse } from '../ir/text.js';
import { runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { widenInputs } from './widen.js';

/** One int8 Conv: `channels` in, 4 out, weights with one zero point. */
function convOf(channels: number, kernel: readonly number[], { zeroPoint = 0, attrs = 'pads=[1, 1, 1, 1]', group = 1 } = {}): Graph {
  const spatial = kernel.map(() => 7);
  const random = new Random(4);
  const shape = [4 * group, channels / group, ...kernel];
  const weight = new Tensor(
    'int8',
    shape,
    Int8Array.from({ length: sizeOf(shape) }, () => random.below(127) - 63),
  );
  const text = `graph g (x: float32[N, ${[channels, ...spatial].join(', ')}]) opset 18
    q = QuantizeLinear(x, s=float32[]{0.05}, z=uint8[]{77})
    d = DequantizeLinear(q, s, z)
    w = DequantizeLinear(k=int8[${shape.join(', ')}]#, ws=float32[]{0.02}, wz=int8[]{${zeroPoint}})
    y = Conv(d, w) {${attrs}${group > 1 ? `, group=${group}` : ''}} @conv
    return y\n`;
  const graph = parse(text, new Map([['k', weight]]));
  inferShapes(graph);
  return graph;
}

const inputChannels = (graph: Graph) =>
  graph.nodes
    .find((node) => node.is('Conv'))
    ?.input(1)
    .producer?.input(0).constant?.shape[1];

describe('a Conv on few channels', () => {
  it.each([
    ['1 channel', 1, [3, 3], {}],
    ['3 channels', 3, [3, 3], {}],
    ['6 channels', 6, [3, 3], {}],
    ['weights with a zero point', 3, [3, 3], { zeroPoint: 5 }],
    ['one dimension', 3, [5], { attrs: 'pads=[2, 2]' }],
  ] as const)('gets four, and the same result to the last bit: %s', async (_what, channels, kernel, options) => {
    const graph = convOf(channels, kernel, options);
    const random = new Random(3);
    const shape = [2, channels, ...kernel.map(() => 7)];
    const feeds = {
      x: Tensor.float32(
        shape,
        Float32Array.from({ length: sizeOf(shape) }, () => 3 * random.normal()),
      ),
    };
    const before = await runGraph(graph, feeds);
    widenInputs(graph);
    inferShapes(graph);
    expect((inputChannels(graph) as number) % 4).toBe(0);
    expect((await runGraph(graph, feeds)).y).toEqual(before.y);
  });

  it.each([
    ['4 channels', 4, [3, 3], {}],
    ['a kernel of one point', 3, [1, 1], { attrs: 'pads=[0, 0, 0, 0]' }],
    ['a large kernel', 3, [5, 5], {}],
    ['an even number of products', 1, [2, 2], { attrs: 'pads=[0, 0, 0, 0]' }],
    ['depthwise', 3, [3, 3], { group: 3 }],
  ] as const)('is left alone: %s', (_what, channels, kernel, options) => {
    const graph = convOf(channels, kernel, options);
    const nodes = graph.nodes.length;
    widenInputs(graph);
    expect(graph.nodes.length).toBe(nodes);
  });
});
