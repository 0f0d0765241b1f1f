import { describe, expect, it } from 'vitest';
import type { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { parse } from '../ir/text.js';
import { runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { widenInputs } from './widen.js';

/** One int8 Conv: `channels` in, 4 out, weights with one zero point. */
function convOf(
  channels: number,
  kernel: readonly number[],
  { zeroPoint = 0, attrs = 'pads=[1, 1, 1, 1]', group = 1, type = '' } = {},
): Graph {
  const spatial = kernel.map(() => 7);
  const random = new Random(4);
  const shape = [4 * group, channels / group, ...kernel];
  const weight = new Tensor(
    'int8',
    shape,
    Int8Array.from({ length: sizeOf(shape) }, () => random.below(127) - 63),
  );
  const text = `graph g (x: ${type || `float32[N, ${[channels, ...spatial].join(', ')}]`}) opset 18
    q = QuantizeLinear(x, s=float32[]{0.05}, z=uint8[]{77})
    d = DequantizeLinear(q, s, z)
    w = DequantizeLinear(k=int8[${shape.join(', ')}]#, ws=float32[]{0.02}, wz=int8[]{${zeroPoint}})
    y = Conv(d, w) {${attrs}${group > 1 ? `, group=${group}` : ''}} @conv
    return y\n`;
  const graph = parse(text, new Map([['k', weight]]));
  inferShapes(graph);
  return graph;
}

const weightShape = (graph: Graph) =>
  graph.nodes
    .find((node) => node.is('Conv'))
    ?.input(1)
    .producer?.input(0).constant?.shape;

describe('a Conv on one to three channels', () => {
  it.each([
    ['3×3 on 1 channel', 1, [3, 3], {}, [4, 4, 1, 3]],
    ['3×3 on 2 channels', 2, [3, 3], {}, [4, 8, 1, 3]],
    ['3×3 on 3 channels', 3, [3, 3], {}, [4, 12, 1, 3]],
    ['strides and uneven pads', 3, [5, 3], { attrs: 'pads=[2, 0, 1, 2], strides=[2, 3]' }, [4, 24, 1, 3]],
    ['dilations', 1, [3, 2], { attrs: 'pads=[1, 1, 2, 0], dilations=[2, 3]' }, [4, 4, 1, 2]],
    ['no padding', 1, [4, 4], { attrs: 'auto_pad="VALID"' }, [4, 4, 1, 4]],
    ['rows enough', 1, [4, 1], { attrs: 'strides=[3, 1]' }, [4, 4, 1, 1]],
  ] as const)('takes rows as channels, and the sums stay what they are: %s', async (_what, channels, kernel, options, shape) => {
    const graph = convOf(channels, kernel, options);
    const random = new Random(3);
    const feeds = {
      x: Tensor.float32(
        [2, channels, 7, 7],
        Float32Array.from({ length: 98 * channels }, () => 3 * random.normal()),
      ),
    };
    const before = await runGraph(graph, feeds);
    widenInputs(graph);
    inferShapes(graph);
    expect(weightShape(graph)).toEqual(shape);
    expect((await runGraph(graph, feeds)).y).toEqual(before.y);
  });

  it.each([
    ['a height not known', 'float32[N, 1, H, W]', 'pads=[1, 1, 1, 1]'],
    ['pads that the runtime works out', 'float32[N, 1, 7, 7]', 'auto_pad="SAME_UPPER"'],
  ])('is given four channels where the lines cannot be told beforehand: %s', (_what, type, attrs) => {
    const graph = convOf(1, [3, 3], { attrs, type });
    widenInputs(graph);
    expect(weightShape(graph)).toEqual([4, 4, 3, 3]);
  });
});

describe('a Conv on few channels', () => {
  it.each([
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
    expect((weightShape(graph)?.[1] as number) % 4).toBe(0);
    expect((await runGraph(graph, feeds)).y).toEqual(before.y);
  });

  it.each([
    ['4 channels', 4, [3, 3], {}],
    ['a kernel of one point', 3, [1, 1], { attrs: 'pads=[0, 0, 0, 0]' }],
    ['a large kernel', 6, [5, 5], {}],
    ['an even number of products', 6, [2, 2], { attrs: 'pads=[0, 0, 0, 0]' }],
    ['depthwise', 3, [3, 3], { group: 3 }],
  ] as const)('is left alone: %s', (_what, channels, kernel, options) => {
    const graph = convOf(channels, kernel, options);
    const nodes = graph.nodes.length;
    widenInputs(graph);
    expect(graph.nodes.length).toBe(nodes);
  });
});
