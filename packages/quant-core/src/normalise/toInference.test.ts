import { expect, it } from 'vitest';
import { runPasses } from '../ir/pass.js';
import { difference, expectUntouched, graphOf, linesOf, randomFeeds, runGraph } from './testing/oracle.js';
import { toInference } from './toInference.js';

const norm = 'g=float32[4]{1, 2, 3, 4}, b=float32[4]{0, 1, 0, 1}, m=float32[4]{0.5, 0, 0.1, 0}, v=float32[4]{1, 2, 0.5, 1}';

it('uses the running statistics of a live batch norm', async () => {
  const graph = graphOf(`graph g (x: float32[N, 4, 5]) opset 18
    y, mean, var = BatchNormalization(x, ${norm}) {training_mode=1, epsilon=0.001} @bn
    z = Add(mean, var)
    return y, z, mean`);
  expect(runPasses(graph, [toInference])).toBe(true);
  expect(linesOf(graph)).toEqual([
    'y: float32[N, 4, 5] = BatchNormalization(x, g=float32[4], b=float32[4], m=float32[4], v=float32[4]) {epsilon=0.001} @bn',
    'z: float32[4] = Add(m, v)',
    'mean: float32[4] = Identity(m) @Identity',
    'return y, z, mean',
  ]);
  const wanted = graphOf(`graph g (x: float32[N, 4, 5]) opset 18
    y = BatchNormalization(x, ${norm}) {epsilon=0.001}
    z = Add(m, v)
    mean = Identity(m)
    return y, z, mean`);
  const feeds = randomFeeds(graph);
  expect(difference(await runGraph(wanted, feeds), await runGraph(graph, feeds))).toBe(0);
});

it('passes dropout on, with a mask of true', async () => {
  const graph = graphOf(`graph g (x: float32[N, 4]) opset 18
    a = Relu(x)
    d, mask = Dropout(a, r=float32[]{0.9}, live=bool[]{1}) @drop
    y = Where(mask, d, x)
    return y`);
  expect(runPasses(graph, [toInference])).toBe(true);
  expect(graph.nodes.map((node) => node.op)).toEqual(['Relu', 'Shape', 'ConstantOfShape', 'Where']);
  const wanted = graphOf('graph g (x: float32[N, 4]) opset 18\ny = Relu(x)\nreturn y');
  const feeds = randomFeeds(graph);
  expect(difference(await runGraph(wanted, feeds), await runGraph(graph, feeds))).toBe(0);
});

it('keeps the name of an output after a dropout', async () => {
  const graph = graphOf('graph g (x: float32[N, 4]) opset 18\na = Relu(x)\ny = Dropout(a)\nreturn y');
  runPasses(graph, [toInference]);
  expect(linesOf(graph)).toEqual(['y: float32[N, 4] = Relu(x) @a', 'return y']);
});

it('leaves a batch norm in inference form alone', () => {
  expectUntouched(`graph g (x: float32[N, 4, 5]) opset 18\ny = BatchNormalization(x, ${norm})\nreturn y`, toInference);
});
