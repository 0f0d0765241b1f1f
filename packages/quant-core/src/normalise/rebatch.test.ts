import { expect, it } from 'vitest';
import type { Graph } from '../ir/graph.js';
import { bindDims } from '../ir/infer.js';
import { runPasses } from '../ir/pass.js';
import { print } from '../ir/text.js';
import { verify } from '../ir/verify.js';
import { Tensor } from '../tensor/tensor.js';
import { rebatch } from './rebatch.js';
import { difference, graphOf, randomFeeds, runGraph } from './testing/oracle.js';
import { tidy } from './tidy.js';

/** Samples `from` to `to` of every tensor. */
function rows(tensors: Record<string, Tensor>, from: number, to: number): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, t]) => {
      const each = t.size / (t.shape[0] as number);
      return [name, new Tensor('float32', [to - from, ...t.shape.slice(1)], t.as('float32').data.slice(from * each, to * each))];
    }),
  );
}

/** Make the batch open, and check that three fixed batches give what one batch of three times the size does. */
async function opened(text: string, batch: number): Promise<Graph> {
  const fixed = graphOf(text);
  const graph = graphOf(text);
  expect(rebatch(graph)).toEqual({ fixedBatch: batch, symbol: 'N' });
  verify(graph);
  for (const value of [...graph.inputs, ...graph.outputs]) expect(value.shape?.[0]).toBe('N');
  const tripled = graph.clone();
  bindDims(tripled, { N: 3 * batch });
  const feeds = randomFeeds(tripled);
  const whole = await runGraph(graph, feeds);
  for (let i = 0; i < 3; i++) {
    const part = await runGraph(fixed, rows(feeds, i * batch, (i + 1) * batch));
    expect(difference(part, rows(whole, i * batch, (i + 1) * batch))).toBeLessThan(1e-5);
  }
  return graph;
}

const net = (batch: number, tail: string) => `graph g (x: float32[${batch}, 4, 6]) opset ${tail.includes('Attention') ? 23 : 18}
  c = Conv(x, w=float32[8, 4, 3]#, b=float32[8]#) {pads=[1, 1]}
  r = Relu(c)
  ${tail}
  return y`;

it.each([1, 2])('opens a net with literal sizes, batch %i', async (batch) => {
  const graph = await opened(
    net(
      batch,
      `f = Reshape(r, t=int64[2]{${batch}, -1})
      g = Gemm(f, v=float32[48, 6]#, u=float32[6]#)
      y = Softmax(g)`,
    ),
    batch,
  );
  expect(print(graph)).toContain('{0, 48}');
});

it.each<[string, string]>([
  [
    'heads of attention',
    'h = Reshape(r, t=int64[4]{2, 2, 4, 6})\nq = Transpose(h) {perm=[0, 1, 3, 2]}\ns = MatMul(q, h)\np = Softmax(s)\no = MatMul(h, p)\ny = Reshape(o, t2=int64[2]{2, 48})',
  ],
  ['rows split and joined again', 'h = Reshape(r, t=int64[2]{16, 6})\ng = MatMul(h, v=float32[6, 5]#)\ny = Reshape(g, t2=int64[2]{2, 40})'],
  [
    'a channel shuffle',
    'h = Reshape(r, t=int64[4]{2, 2, 4, 6})\nq = Transpose(h) {perm=[0, 2, 1, 3]}\ny = Reshape(q, t2=int64[3]{2, 8, 6})',
  ],
  ['a constant repeated for the batch', 'y = Add(r, k=float32[2, 1, 6]{3})'],
  ['a token joined to every sample', 'z = Concat(k=float32[2, 1, 6]{3}, r) {axis=1}\ny = ReduceMean(z, a=int64[1]{1}) {keepdims=0}'],
  [
    'slices, pads and pieces',
    's = Slice(r, a=int64[1]{1}, e=int64[1]{5}, ax=int64[1]{1})\np = Pad(s, pads=int64[6]{0, 0, 1, 0, 0, 1})\nl, m = Split(p) {axis=1, num_outputs=2}\nn = Mul(l, m)\ny = Flatten(n)',
  ],
  [
    'sizes of a Resize',
    's = Unsqueeze(r, a=int64[1]{2})\nz = Resize(s, _, _, size=int64[4]{2, 8, 3, 12}) {mode="linear"}\ny = ReduceMean(z, ax=int64[1]{2}) {keepdims=0}',
  ],
  [
    'copies along other axes',
    't = Tile(r, times=int64[3]{1, 2, 1})\nn = LayerNormalization(t, g=float32[6]{2}, h=float32[6]{1})\ny = CumSum(n, a=int64[]{1})',
  ],
  ['products under a letter', 'e = Einsum(r, r) {equation="bij,bkj->bik"}\ny = ReduceL2(e, a=int64[1]{-1}) {keepdims=0}'],
  [
    'norms and activations',
    'i = InstanceNormalization(r, g=float32[8]{1}, h=float32[8]{0.5})\ne = Elu(i)\ny = LpNormalization(e) {axis=1}',
  ],
  ['what is looked up by sample', 'm, i = TopK(r, k=int64[1]{2}) {axis=1}\nq = GatherElements(r, i) {axis=1}\ny = Add(q, m)'],
  ['attention in one operator', 'y = Attention(r, r, r) {q_num_heads=2, kv_num_heads=2, scale=0.5}'],
  [
    'heads folded into the batch, time first',
    `t = Transpose(r) {perm=[1, 0, 2]}
      h = Reshape(t, t1=int64[3]{8, 4, 3})
      q = Transpose(h) {perm=[1, 0, 2]}
      k = Transpose(h) {perm=[1, 2, 0]}
      s = MatMul(q, k)
      p = Softmax(s)
      o = MatMul(p, q)
      e = Transpose(o) {perm=[1, 0, 2]}
      f = Reshape(e, t2=int64[2]{16, 6})
      l = Gemm(f, v=float32[6, 6]#, u=float32[6]#)
      z = Reshape(l, t3=int64[3]{8, 2, 6})
      y = Transpose(z) {perm=[1, 0, 2]}`,
  ],
  [
    'a bias by head, written out for the batch',
    'h = Reshape(r, t=int64[3]{4, 4, 6})\ne = Add(h, k=float32[4, 1, 1]{1, 2, 1, 2})\nm = MatMul(q=float32[4, 3, 4]{2}, e)\nn = MatMul(e, v=float32[6]#)\no = ReduceSum(m, ax=int64[1]{1}) {keepdims=0}\nj = Concat(n, o, k2=float32[4, 1]{5, 6, 5, 6}) {axis=1}\ny = Reshape(j, t2=int64[2]{2, 22})',
  ],
  [
    'one layer of an LSTM, time first',
    't = Transpose(r) {perm=[1, 0, 2]}\ne, h, m = LSTM(t, u=float32[2, 8, 6]#, v=float32[2, 8, 2]#, u2=float32[2, 16]#, _, h0=float32[2, 2, 2]{0.5}, c0=float32[2, 2, 2]{0}) {hidden_size=2, direction="bidirectional"}\ns = Transpose(e) {perm=[2, 0, 1, 3]}\nf = Flatten(s)\ng = Transpose(h) {perm=[1, 0, 2]}\ng2 = Flatten(g)\ny = Concat(f, g2) {axis=1}',
  ],
  ['an expansion', 's = ReduceMean(r, a=int64[1]{2})\nq = Expand(s, t=int64[3]{2, 8, 6})\ny = Mul(q, r)'],
])('opens %s', async (_, tail) => {
  await opened(net(2, tail), 2);
});

it.each<[string, number, string, RegExp]>([
  ['a transpose of the batch', 1, 'y = Transpose(r) {perm=[1, 0, 2]}', /output "y"/],
  ['a softmax over the batch', 2, 'y = Softmax(r) {axis=0}', /Softmax "y" works on the batch axis/],
  [
    'a softmax over the batch where it was moved',
    2,
    't = Transpose(r) {perm=[1, 2, 0]}\ny = Softmax(t)',
    /Softmax "y" works on the batch axis/,
  ],
  [
    'samples that attend to one another',
    2,
    'h = Transpose(r) {perm=[1, 0, 2]}\nt = Transpose(r) {perm=[1, 2, 0]}\ns = MatMul(h, t)\np = Softmax(s)\no = MatMul(p, h)\ny = Transpose(o) {perm=[1, 0, 2]}',
    /MatMul "s" works across samples/,
  ],
  [
    'heads and samples told apart in the wrong order',
    2,
    'h = Reshape(r, t=int64[3]{2, 16, 3})\nq = Transpose(h) {perm=[1, 0, 2]}\no = Reshape(q, t2=int64[4]{2, 8, 2, 3})\ny = ReduceMean(o, a=int64[1]{2}) {keepdims=0}',
    /ReduceMean "y" works on the batch axis/,
  ],
  [
    'a sum over samples by a matrix',
    2,
    't = Transpose(r) {perm=[1, 2, 0]}\ny = MatMul(t, v=float32[2, 5]#)',
    /MatMul "y" works across samples/,
  ],
  ['a size that broadcasts where the batch is 1', 1, 'y = Add(r, k=float32[3, 8, 6]{1})', /Add "y" works across samples/],
  ['an expansion of the batch', 1, 'y = Expand(r, t=int64[3]{3, 8, 6})', /Expand "y" repeats samples/],
  ['a mean over the batch', 2, 'y = ReduceMean(r, a=int64[1]{0})', /ReduceMean "y" works on the batch axis/],
  ['a mean over everything', 2, 'y = ReduceMean(r)', /ReduceMean "y"/],
  [
    'products between samples',
    1,
    'h = Reshape(r, t=int64[2]{8, 6})\nq = Reshape(r, t2=int64[2]{6, 8})\ny = MatMul(h, q)',
    /MatMul "y" works across samples/,
  ],
  ['a constant that differs in the batch', 2, 'y = Add(r, k=float32[2, 1, 6]#)', /input "k" made for a batch of 2/],
  ['a squeezed batch', 1, 'y = Squeeze(r, a=int64[1]{0})', /works on the batch axis/],
  ['an output without samples', 1, 'y = Relu(k=float32[1, 2]#)', /output "y"/],
  ['a result of more rows than samples', 1, 'y = Reshape(r, t=int64[2]{8, 6})', /output "y"/],
  [
    'an LSTM with time first',
    1,
    'y = LSTM(r, u=float32[1, 8, 6]#, v=float32[1, 8, 2]#) {hidden_size=2}',
    /LSTM "y" takes the axis of the samples for another/,
  ],
  ['a copy of every sample', 2, 'y = Tile(r, n=int64[3]{2, 1, 1})', /Tile "y" repeats samples/],
  ['a sum over samples', 2, 'y = Einsum(r) {equation="bij->ij"}', /Einsum "y" works across samples/],
  ['samples cut in two', 2, 'y = Reshape(r, t=int64[3]{3, 16, 2})', /keep samples apart/],
])('leaves %s', (_, batch, tail, message) => {
  const graph = graphOf(net(batch, tail));
  runPasses(graph, tidy);
  const before = print(graph);
  const result = rebatch(graph);
  expect(result).toMatchObject({ fixedBatch: batch, symbol: undefined });
  expect(result.obstacle).toMatch(message);
  expect(print(graph)).toBe(before);
});

it('opens a graph as it was read, with sizes that are computed', async () => {
  await opened(
    net(
      2,
      `s = Shape(r)
      n = Gather(s, first=int64[]{0})
      u = Unsqueeze(n, axes=int64[1]{0})
      rest = Constant() {value=int64[1]{-1}}
      t = Concat(u, rest) {axis=0}
      y = Reshape(r, t)`,
    ),
    2,
  );
});

it('has nothing to do where the batch is open, and takes another symbol where N means something else', () => {
  expect(rebatch(graphOf('graph g (x: float32[B, 4]) opset 18\ny = Relu(x)\nreturn y'))).toEqual({ fixedBatch: undefined, symbol: 'B' });
  expect(rebatch(graphOf('graph g (x: float32[1, N]) opset 18\ny = Relu(x)\nreturn y'))).toEqual({ fixedBatch: 1, symbol: 'batch_1' });
});
