import { describe, expect, it } from 'vitest';
import type { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { parse } from '../ir/text.js';
import { runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { poolWhole } from './pools.js';

function poolOf(attrs: string, type = 'float32[N, 3, 6, 5]'): Graph {
  const graph = parse(`graph g (x: ${type}) opset 18
    q = QuantizeLinear(x, s=float32[]{0.03}, z=uint8[]{120})
    d = DequantizeLinear(q, s, z)
    a = AveragePool(d) {${attrs}} @pool
    o = QuantizeLinear(a, t=float32[]{0.02}, u=uint8[]{110})
    y = DequantizeLinear(o, t, u)
    return y\n`);
  inferShapes(graph);
  return graph;
}

const ops = (graph: Graph) => graph.nodes.map((node) => node.op).filter((op) => !/Linear$/.test(op));

describe('an int8 AveragePool with one result for each channel', () => {
  it.each([
    ['the whole image', 'kernel_shape=[6, 5]', ['GlobalAveragePool']],
    ['strides that never step', 'kernel_shape=[6, 5], strides=[6, 5]', ['GlobalAveragePool']],
    ['most of the image', 'kernel_shape=[5, 5], strides=[5, 5]', ['Slice', 'GlobalAveragePool']],
  ])('becomes a global one, with the same result: %s', async (_what, attrs, wanted) => {
    const graph = poolOf(attrs);
    const random = new Random(5);
    const feeds = {
      x: Tensor.float32(
        [2, 3, 6, 5],
        Float32Array.from({ length: 180 }, () => 2 * random.normal()),
      ),
    };
    const before = await runGraph(graph, feeds);
    poolWhole(graph);
    inferShapes(graph);
    expect(ops(graph)).toEqual(wanted);
    expect((await runGraph(graph, feeds)).y).toEqual(before.y);
  });

  it.each([
    ['more than one result', 'kernel_shape=[3, 5], strides=[3, 5]', undefined],
    ['padding that counts', 'kernel_shape=[6, 5], pads=[1, 0, 0, 0], count_include_pad=1, strides=[9, 9]', undefined],
    ['an image of open size', 'kernel_shape=[6, 5]', 'float32[N, 3, H, W]'],
  ])('is left alone: %s', (_what, attrs, type) => {
    const graph = poolOf(attrs, type);
    poolWhole(graph);
    expect(ops(graph)).toEqual(['AveragePool']);
  });
});
