import { expect, it } from 'vitest';
import { Graph } from '../ir/graph.js';
import { print } from '../ir/text.js';
import { Tensor } from '../tensor/tensor.js';
import { normalise } from './index.js';
import { difference, graphOf, linesOf, randomFeeds, runGraph } from './testing/oracle.js';

async function normalised(text: string): Promise<Graph> {
  const graph = graphOf(text);
  const feeds = randomFeeds(graph);
  const before = await runGraph(graph, feeds);
  await normalise(graph, { evaluate: runGraph });
  expect(difference(before, await runGraph(graph, feeds))).toBeLessThan(1e-5);
  return graph;
}

const norm = (name: string) => `${name}g=float32[4]#, ${name}b=float32[4]#, ${name}m=float32[4]#, ${name}v=float32[4]{1, 2, 3, 4}`;

it('brings a net as exporters write it to layers and activations', async () => {
  const graph = await normalised(`graph net (x: float32[N, 8, 8, 3]) opset 18
    image = Transpose(x) {perm=[0, 3, 1, 2]}
    c1 = Conv(image, w1=float32[4, 3, 3, 3]#) {auto_pad="SAME_UPPER"} @conv1
    n1 = BatchNormalization(c1, ${norm('p')})
    six = Constant() {value=float32[]{6}}
    r1 = Relu(n1)
    r2 = Min(r1, six)
    i = Identity(r2)
    c2 = Conv(i, w2=float32[4, 1, 3, 3]#) {group=4} @conv2
    b2 = Add(c2, t=float32[1, 4, 1, 1]#)
    n2 = BatchNormalization(b2, ${norm('q')})
    a = Add(n2, three=float32[]{3})
    cl = Clip(a, zero=float32[]{0}, six)
    d = Div(cl, six)
    h = Mul(n2, d)
    s = Shape(h)
    n = Gather(s, first=int64[]{0})
    u = Unsqueeze(n, axes=int64[1]{0})
    target = Concat(u, open=int64[1]{-1}) {axis=0}
    f = Reshape(h, target)
    wt = Transpose(w3=float32[10, 144]#)
    m = MatMul(f, wt) @fc
    o = Add(m, b3=float32[10]#)
    y = Softmax(o)
    return y`);
  expect(linesOf(graph).map((line) => line.replace(/^.* = /, '').replace(/ \{.*\}/, ''))).toEqual([
    'Transpose(x)',
    'Conv(image, w1=float32[4, 3, 3, 3], conv1.bias=float32[4]) @conv1',
    'Clip(c1, r2_min=float32[]{0}, r2_max=float32[]{6})',
    'Conv(r2, w2=float32[4, 1, 3, 3], conv2.bias=float32[4]) @conv2',
    'HardSwish(c2)',
    'Reshape(h, f_shape=int64[2]{0, 144})',
    'Gemm(f, wt=float32[144, 10], b3=float32[10]) @fc',
    'Softmax(m)',
    'return y',
  ]);
});

it('spells out a batch norm no layer can take, and keeps a factor before it', async () => {
  const graph = await normalised(`graph g (x: float32[N, 4, 6]) opset 18
    n = BatchNormalization(x, ${norm('p')}) @bn
    r = Relu(n)
    y = Conv(r, w=float32[4, 4, 3]#)
    return y`);
  expect(graph.nodes.map((node) => node.op)).toEqual(['Mul', 'Add', 'Relu', 'Conv']);
});

it('does not change a graph it has normalised', async () => {
  const graph = await normalised(
    `graph g (x: float32[N, 4, 6]) opset 18\nc = Conv(x, w=float32[4, 4, 3]#)\nn = BatchNormalization(c, ${norm('p')})\ny = Relu(n)\nreturn y`,
  );
  const before = print(graph);
  await normalise(graph, { evaluate: runGraph });
  expect(print(graph)).toBe(before);
});

it('walks through 20,000 nodes without getting stuck', async () => {
  const graph = new Graph();
  let value = graph.input('x', { dtype: 'float32', shape: ['N', 2] });
  const one = graph.constant('one', Tensor.scalar(1));
  for (let i = 0; i < 5000; i++) {
    value = graph.node('Identity', [value]).output();
    value = graph.node('Mul', [value, one]).output();
    value = graph.node('Tanh', [value]).output();
    value = graph.node('Reshape', [value, graph.node('Shape', [value]).output()]).output();
  }
  graph.outputs.push(value);
  await normalise(graph);
  expect(graph.nodes.length).toBe(5000);
});
