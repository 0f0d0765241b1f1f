import { expect, it } from 'vitest';
import { GraphBuilder } from '../ir/builder.js';
import { Graph, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { differentiate } from './build.js';

/** sum(f(g(x)·w)): the gradient of w does not pass through g, that of x does. */
function net(body: (b: GraphBuilder, x: Value, w: Value) => Value): { graph: Graph; loss: Value; x: Value; w: Value } {
  const graph = new Graph('g');
  const b = new GraphBuilder(graph);
  const x = graph.input('x', { dtype: 'float32', shape: [2, 3] });
  const w = graph.input('w', { dtype: 'float32', shape: [3, 2] });
  const loss = b.op('ReduceSum', [body(b, x, w)], { keepdims: 0 });
  graph.outputs.push(loss);
  inferShapes(graph);
  return { graph, loss, x, w };
}

it('stops at an operator without gradient, and goes on elsewhere', () => {
  const { graph, loss, x, w } = net((b, x, w) => b.op('MatMul', [b.op('Floor', [x], {}, 'steps'), w]));
  expect([...differentiate(graph, loss, [x, w]).keys()]).toEqual([w]);
});

it('adds up what comes by several ways, without the one that is blocked', () => {
  const { graph, loss, x } = net((b, x) => b.op('Add', [b.op('Floor', [x]), b.op('Mul', [x, x])]));
  expect(differentiate(graph, loss, [x]).has(x)).toBe(true);
});

it('refuses when nothing is left, naming the operator nearest to the loss', () => {
  const { graph, loss, x, w } = net((b, x, w) => b.op('Floor', [b.op('MatMul', [b.op('Ceil', [x], {}, 'first'), w])], {}, 'last'));
  expect(() => differentiate(graph, loss, [x, w])).toThrow(
    expect.objectContaining({ code: 'MODEL_NOT_TRAINABLE', place: { node: 'last', op: 'Floor' } }),
  );
});

it('takes a form that has no gradient like an operator that has none', () => {
  const { graph, loss, x } = net((b, x) =>
    b.op('Einsum', [b.op('MatMul', [x, b.op('Transpose', [x])])], { equation: 'ii->i' }, 'diagonal'),
  );
  expect(() => differentiate(graph, loss, [x])).toThrow(expect.objectContaining({ place: { node: 'diagonal', op: 'Einsum' } }));
});
