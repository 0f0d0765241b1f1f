import { expect, it } from 'vitest';
import { difference, graphOf, linesOf, randomFeeds, runGraph } from './testing/oracle.js';
import { leaveTrainingMode } from './trainingMode.js';

const norm = (mean: string, variance: string) => `g=float32[2]{1, 2}, b=float32[2]{0, 1}, m=float32[2]{${mean}}, v=float32[2]{${variance}}`;
const net = (mode: string, mean = '0.5, 0', variance = '1, 2') =>
  graphOf(`graph g (x: float32[N, 2, 3]) opset 18
    h = BatchNormalization(x, ${norm(mean, variance)}) {${mode}} @bn
    y = Relu(h)
    return y`);

it('names batch norms in training mode, and takes their running statistics', async () => {
  const graph = net('training_mode=1');
  expect(leaveTrainingMode(graph)).toEqual([
    expect.stringMatching(/training mode: BatchNormalization bn would use the statistics of the batch/),
  ]);
  const wanted = net('epsilon=0.00001');
  const feeds = randomFeeds(graph);
  expect(difference(await runGraph(wanted, feeds), await runGraph(graph, feeds))).toBe(0);
});

it('names dropouts that are on', () => {
  const graph = graphOf(`graph g (x: float32[N, 4]) opset 18
    d = Dropout(x, r=float32[]{0.5}, live=bool[]{1}) @drop
    y = Relu(d)
    return y`);
  expect(leaveTrainingMode(graph)).toEqual([expect.stringContaining('Dropout drop would drop at random')]);
  expect(graph.nodes.map(({ op }) => op)).toEqual(['Relu']);
});

it('refuses statistics that were never updated', () => {
  expect(() => leaveTrainingMode(net('training_mode=1', '0, 0', '1, 1'))).toThrow(
    expect.objectContaining({ code: 'MODEL_INVALID', place: expect.objectContaining({ node: 'bn' }) }),
  );
});

it('leaves a graph in inference form as it is', () => {
  const graph = net('epsilon=0.001', '0, 0', '1, 1');
  const before = linesOf(graph);
  expect(leaveTrainingMode(graph)).toEqual([]);
  expect(linesOf(graph)).toEqual(before);
});
