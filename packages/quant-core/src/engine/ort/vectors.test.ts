import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../ir/builder.js';
import { Graph } from '../../ir/graph.js';
import { inferShapes } from '../../ir/infer.js';
import { verify } from '../../ir/verify.js';
import { Random } from '../../tensor/random.js';
import { Tensor } from '../../tensor/tensor.js';
import { OrtEngine } from './ort.js';
import { bindVectors } from './vectors.js';

function randomTensor(shape: readonly number[], seed: number): Tensor<'float32'> {
  const random = new Random(seed);
  return Tensor.float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
  );
}

const [rows, columns] = [128, 130];

/** y = x·W + b with W and b from one vector, and a vector of W·2, b·3, and zeros for what has no gradient. */
function step(wish: { alsoReadVector?: boolean; sameTwice?: boolean; columns?: number } = {}): Graph {
  const width = wish.columns ?? columns;
  const graph = new Graph();
  const b = new GraphBuilder(graph);
  const x = graph.input('x', { dtype: 'float32', shape: [4, rows] });
  const flat = graph.input('flat', { dtype: 'float32', shape: [rows * width + width] });
  const split = b.node('Split', [flat, b.ints([rows * width, width])], { axis: 0 }, 2, 'parts');
  const weight = b.reshape(split.output(0), [rows, width]);
  const bias = split.output(1);
  const y = b.op('Add', [b.op('MatMul', [x, weight]), bias]);
  const [first, second] = [b.op('Mul', [weight, b.scalar(2)]), b.op('Mul', [bias, b.scalar(3)])];
  inferShapes(graph);
  const parts = [b.reshape(first, [rows * width]), wish.sameTwice ? b.reshape(first, [rows * width]) : second];
  const zeros = b.constant(Tensor.zeros('float32', [7]), 'zeros');
  const joined = b.op('Concat', [...parts, zeros], { axis: 0 });
  graph.outputs.push(y, graph.node('Identity', [joined], {}, { outputNames: ['joined'] }).output());
  if (wish.alsoReadVector) graph.outputs.push(b.op('ReduceMax', [flat]));
  inferShapes(graph);
  return graph;
}

const names = (values: readonly { name: string }[]) => values.map(({ name }) => name);

describe('vectors of a graph', () => {
  it('become inputs and outputs for their pieces, in the shapes that are read and written', () => {
    const graph = step();
    const { feeds, results } = bindVectors(graph);
    verify(graph);
    const size = rows * columns;
    expect(feeds.flat).toEqual([
      { name: 'flat_0', shape: [rows, columns], offset: 0, size },
      { name: 'flat_1', shape: [columns], offset: size, size: columns },
    ]);
    expect(names(graph.inputs)).toEqual(['x', 'flat_0', 'flat_1']);
    expect(results.joined?.size).toBe(size + columns + 7);
    expect(results.joined?.pieces.map(({ shape, offset }) => ({ shape, offset }))).toEqual([
      { shape: [rows, columns], offset: 0 },
      { shape: [columns], offset: size },
    ]);
    expect(graph.nodes.map(({ op }) => op).sort()).toEqual(['Add', 'MatMul', 'Mul', 'Mul']);
  });

  it.each([
    ['that something else reads stay whole', { alsoReadVector: true }, { feeds: 0, results: 1 }],
    ['that hold one tensor twice stay whole', { sameTwice: true }, { feeds: 1, results: 0 }],
    ['that are short stay whole', { columns: 3 }, { feeds: 0, results: 0 }],
  ] as const)('%s', (_what, wish, count) => {
    const graph = step(wish);
    const { feeds, results } = bindVectors(graph);
    verify(graph);
    expect([Object.keys(feeds).length, Object.keys(results).length]).toEqual([count.feeds, count.results]);
  });

  it('are what they were outside, on one thread and on two, run after run', async () => {
    const engine = new OrtEngine();
    const graph = step();
    const single = await engine.compile(graph, { threads: 1, mode: 'train' });
    const sharded = await engine.compileSharded(graph, { threads: 2, shards: 2 });
    for (let run = 0; run < 3; run++) {
      const flat = randomTensor([rows * columns + columns], run);
      const feeds = [1, 2].map((seed) => ({ x: randomTensor([4, rows], 10 * run + seed), flat }));
      const results = await sharded.run(feeds);
      for (const [shard, result] of results.entries()) {
        const alone = await single.run(feeds[shard] as (typeof feeds)[number]);
        const factor = (i: number) => (i < rows * columns ? 2 : 3);
        const wanted = [...flat.data.map((value, i) => factor(i) * value), ...new Float32Array(7)];
        expect(result.joined?.data).toEqual(Float32Array.from(wanted));
        expect(result.joined?.data).toEqual(alone.joined?.data);
        expect(result.y?.data).toEqual(alone.y?.data);
      }
    }
    await single.dispose();
    await sharded.dispose();
  });
});
