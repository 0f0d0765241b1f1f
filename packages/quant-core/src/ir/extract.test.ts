import { expect, it } from 'vitest';
import { difference, graphOf, linesOf, randomFeeds, runGraph } from '../normalise/testing/oracle.js';
import { extract } from './extract.js';
import type { Graph, Value } from './graph.js';
import { verify } from './verify.js';

const net = () =>
  graphOf(`graph net (x: float32[N, 4], z: float32[N, 4]) opset 18
    a = Gemm(x, w=float32[4, 4]#) @first
    b = Relu(a)
    l, r = Split(b) {axis=1, num_outputs=2}
    c = Concat(r, l) {axis=1}
    d = Add(c, b)
    y = Add(d, z)
    return y`);

const named = (graph: Graph, name: string) => graph.values().find((value) => value.name === name) as Value;

it('takes the part between values, with what it needs and no more', () => {
  const graph = net();
  const part = extract(graph, [named(graph, 'b')], [named(graph, 'd')]);
  verify(part);
  expect(linesOf(part).map((line) => line.replace(/: float32\[[^\]]*\]/g, ''))).toEqual([
    'l, r = Split(b) {axis=1, num_outputs=2}',
    'c = Concat(r, l) {axis=1}',
    'd = Add(c, b)',
    'return d',
  ]);
  expect(part.inputs.map((value) => value.name)).toEqual(['b']);
});

it('computes what the whole computes there', async () => {
  const graph = net();
  const part = extract(graph, [named(graph, 'a')], [named(graph, 'c'), named(graph, 'd')]);
  const feeds = randomFeeds(graph);
  graph.outputs.splice(0, 1, named(graph, 'a'), named(graph, 'c'), named(graph, 'd'));
  const { a, ...wanted } = await runGraph(graph, feeds);
  expect(difference(wanted, await runGraph(part, { a: a! }))).toBe(0);
});

it('shares constants and leaves the graph alone', () => {
  const graph = net();
  const before = graph.nodes.length;
  const part = extract(graph, [named(graph, 'x')], [named(graph, 'a')]);
  expect(part.constants()[0]?.constant).toBe(named(graph, 'w').constant);
  expect(graph.nodes.length).toBe(before);
  expect(named(graph, 'w').readers).toHaveLength(1);
});

it('refuses an end that depends on something else', () => {
  const graph = net();
  expect(() => extract(graph, [named(graph, 'b')], [named(graph, 'y')])).toThrow('y depend on z');
});
