import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { graphOf, linesOf, randomFeeds } from '../../normalise/testing/oracle.js';
import { orderGradients } from './order.js';
import { OrtEngine } from './ort.js';

/** Three layers and their gradients, in the order in which a reverse walk writes them; the weights and a bias joined as one vector. */
const step = () =>
  graphOf(`graph step (x: float32[4, 5], w1: float32[5, 5], w2: float32[5, 5], w3: float32[5, 5]) opset 18
    h1 = MatMul(x, w1)
    h2 = MatMul(h1, w2)
    h3 = MatMul(h2, w3)
    dy = Neg(h3)
    d3 = FusedMatMul(dy, w3) {transB=1} @d3
    dw3 = FusedMatMul(h2, dy) {transA=1} @dw3
    d2 = FusedMatMul(d3, w2) {transB=1} @d2
    dw2 = FusedMatMul(h1, d3) {transA=1} @dw2
    dw1 = FusedMatMul(x, d2) {transA=1} @dw1
    s = ReduceSum(d3, axes=int64[1]{0}) {keepdims=0} @db
    db = Reshape(s, five=int64[1]{5})
    r3 = Reshape(dw3, size=int64[1]{25})
    r2 = Reshape(dw2, size)
    t1 = Reshape(dw1, other=int64[2]{25, 1})
    r1 = Reshape(t1, size)
    rb = Reshape(db, five)
    g = Concat(r1, r2, rb, r3) {axis=0}
    y = Identity(g)
    loss = ReduceSum(h3)
    return loss, y`);

it('puts what serves one gradient alone in front of the Concat, first layer first', () => {
  const graph = step();
  orderGradients(graph);
  const names = linesOf(graph).map((line) => line.trim().split(/[: =]/)[0]);
  const tail = ['d2', 'dw1', 'r1', 'dw2', 'r2', 's', 'rb', 'dw3', 'r3', 'g', 'y', 'loss', 'return'];
  expect(names.slice(-tail.length)).toEqual(tail);
});

it('leaves alone what something else reads as well, and graphs that join nothing', () => {
  const shared = graphOf(`graph g (x: float32[4], z: float32[4]) opset 18
    a = Neg(x)
    b = Abs(z)
    y = Concat(b, a) {axis=0}
    c = Exp(a)
    return y, c`);
  const before = linesOf(shared);
  orderGradients(shared);
  expect(linesOf(shared)).toEqual(before);
  const plain = graphOf('graph g (x: float32[4]) opset 18\ny = Neg(x)\nreturn y');
  const lines = linesOf(plain);
  orderGradients(plain);
  expect(linesOf(plain)).toEqual(lines);
});

it('lets the runtime compute each weight gradient as soon as it can', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'octet-order-'));
  try {
    const graph = step();
    const program = await new OrtEngine().compile(graph, { threads: 1, mode: 'train', profilePrefix: join(directory, 'p') });
    await program.run(randomFeeds(graph));
    await program.dispose();
    const [file] = await readdir(directory);
    const events = JSON.parse(await readFile(join(directory, file as string), 'utf8')) as { name: string }[];
    const ran = events.flatMap(({ name }) => /^(dw?[123]|db)_kernel_time$/.exec(name)?.[1] ?? []);
    expect(ran).toEqual(['dw3', 'd3', 'db', 'dw2', 'd2', 'dw1']);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
