import { expect, it } from 'vitest';
import { differentiate } from '../../autodiff/build.js';
import { GraphBuilder } from '../../ir/builder.js';
import { Graph } from '../../ir/graph.js';
import { inferShapes } from '../../ir/infer.js';
import type { Attrs } from '../../ir/ops.js';
import { difference, runGraph } from '../../normalise/testing/oracle.js';
import { stepsOf } from './steps.js';
import { enginesHere, feedsFor } from './testing/engines.js';

const engines = await enginesHere();

/** The gradient of Σ conv(x, w)² by w. */
function gradient(x: readonly number[], w: readonly number[], attrs: Attrs<'Conv'>): Graph {
  const graph = new Graph('gradient');
  const b = new GraphBuilder(graph);
  const weights = graph.input('w', { dtype: 'float32', shape: w });
  const y = b.op('Conv', [graph.input('x', { dtype: 'float32', shape: x }), weights], { kernel_shape: w.slice(2), ...attrs });
  const loss = b.op('ReduceSumSquare', [y], { keepdims: 0 });
  inferShapes(graph);
  graph.outputs.push(b.op('Identity', [differentiate(graph, loss, [weights]).get(weights)]));
  inferShapes(graph);
  return graph;
}

/** Operators of the steps that stand for more than their own node. */
const fused = (graph: Graph) =>
  stepsOf(graph)
    .filter((step) => step.inputs !== step.node.inputs)
    .map((step) => step.node.op);

const image = [3, 4, 9, 7];

it.each([
  ['3x3', image, [5, 4, 3, 3], { pads: [1, 1, 1, 1] }, true],
  ['uneven padding', image, [5, 4, 3, 2], { pads: [0, 1, 2, 1] }, true],
  ['no padding', image, [5, 4, 2, 3], {}, true],
  ['a row', image, [5, 4, 1, 3], { pads: [0, 1, 0, 1] }, true],
  ['a column', image, [5, 4, 3, 1], {}, true],
  ['dilated', image, [5, 4, 3, 2], { dilations: [2, 3], pads: [2, 0, 2, 0] }, true],
  ['stride 2', image, [5, 4, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }, true],
  ['strides 3 and 1', image, [5, 4, 2, 2], { strides: [3, 1] }, true],
  ['1x1', image, [5, 4, 1, 1], {}, true],
  ['1x1, stride 2', image, [5, 4, 1, 1], { strides: [2, 2] }, true],
  ['stride and dilation', image, [5, 4, 3, 3], { strides: [2, 2], dilations: [2, 2], pads: [2, 2, 2, 2] }, false],
  ['groups', image, [6, 2, 3, 3], { group: 2 }, false],
  ['depthwise', image, [4, 1, 3, 3], { group: 4 }, false],
  ['one dimension', [3, 4, 9], [5, 4, 3], {}, false],
] as const)('the gradient of the weights, %s', async (_what, x, w, attrs, whole) => {
  const graph = gradient(x, w, attrs as Attrs<'Conv'>);
  const product = (w as readonly number[]).slice(2).every((k) => k === 1);
  // The whole gradient in one step, besides the parts it stands for; or the parts alone; or nothing.
  expect(fused(graph).includes('Reshape')).toBe(whole && !product);
  if (product) expect(fused(graph)).toEqual(['ReduceSum']);
  const feeds = feedsFor(graph);
  const wanted = await runGraph(graph, feeds);
  for (const engine of engines) {
    const program = await engine.compile(graph, { threads: 1, mode: 'train' });
    expect(difference(wanted, await program.run(feeds))).toBeLessThan(1e-5);
    await program.dispose();
  }
});

it('a product that somebody else reads is left as it is', () => {
  const graph = gradient(image, [5, 4, 1, 1], {});
  const product = graph.nodes.find((node) => node.op === 'FusedMatMul');
  graph.outputs.push(new GraphBuilder(graph).op('Neg', [product?.output()]));
  expect(fused(graph)).toEqual([]);
});
