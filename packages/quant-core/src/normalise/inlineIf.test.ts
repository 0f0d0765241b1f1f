import { expect, it } from 'vitest';
import { readOnnx } from '../formats/onnx/read.js';
import type { NodeProto } from '../formats/onnx/schema.js';
import { writeOnnx } from '../formats/onnx/write.js';
import { print } from '../ir/text.js';
import { Tensor } from '../tensor/tensor.js';
import { graphAttribute, info, int, modelBytes, node, ramp, runModel } from '../testing/onnx.js';
import { normalise } from './index.js';
import { runGraph } from './testing/oracle.js';

/** What PyTorch writes for `squeeze(1)`: the axis goes where its size is 1. */
const squeeze = (more: NodeProto[] = []): NodeProto =>
  node(
    'If',
    ['one'],
    ['s'],
    [
      graphAttribute('then_branch', {
        name: 'then',
        node: [node('Squeeze', ['h', 'axes'], ['then_s']), ...more],
        output: [info('then_s', undefined)],
      }),
      graphAttribute('else_branch', { name: 'else', node: [node('Identity', ['h'], ['else_s'])], output: [info('else_s', undefined)] }),
    ],
  );

const model = (shape: (number | string)[], condition: NodeProto[], branch = squeeze()) =>
  modelBytes({
    nodes: [node('Relu', ['x'], ['h']), ...condition, branch, node('Exp', ['s'], ['y'])],
    inputs: [info('x', shape)],
    initializers: { axes: Tensor.ints([1]), size: Tensor.int64([1], [1]), zero: Tensor.scalar(0) },
  });

const bySize = [node('Shape', ['h'], ['d'], [int('start', 1), int('end', 2)]), node('Equal', ['d', 'size'], ['one'])];

it.each([
  ['then', [2, 1, 3], 'float32[2, 3]', ['Relu', 'Squeeze', 'Exp']],
  ['else', ['N', 1, 3], 'float32[N, 1, 3]', ['Relu', 'Exp']],
])('puts the %s branch in its place', async (taken, shape, type, ops) => {
  const before = model(shape, taken === 'then' ? bySize : bySize.slice(0, 1).concat(node('Greater', ['d', 'size'], ['one'])));
  const graph = readOnnx(before);
  await normalise(graph, { evaluate: runGraph });
  expect(graph.nodes.map((made) => made.op)).toEqual(ops);
  expect(print(graph)).toContain(`y: ${type} =`);
  const sizes = shape.map((dim) => (typeof dim === 'number' ? dim : 2));
  const feeds: Record<string, [number[], number[]]> = { x: [ramp(sizes.reduce((a, b) => a * b, 1)), sizes] };
  expect(await runModel(writeOnnx(graph), feeds)).toEqual(await runModel(before, feeds));
});

it('keeps names apart and follows an If inside a branch', async () => {
  const inner = squeeze();
  const then = graphAttribute('then_branch', {
    name: 'outer_then',
    node: [node('Neg', ['h'], ['d2'], [], { name: 'relu_h' }), { ...inner, output: ['out'] }],
    output: [info('out', undefined)],
  });
  const other = graphAttribute('else_branch', {
    name: 'outer_else',
    node: [node('Identity', ['h'], ['e'])],
    output: [info('e', undefined)],
  });
  const before = model([2, 1, 3], bySize, node('If', ['one'], ['s'], [then, other]));
  const graph = readOnnx(before);
  await normalise(graph, { evaluate: runGraph });
  expect(graph.nodes.map((made) => made.op)).toEqual(['Relu', 'Squeeze', 'Exp']);
  const feeds: Record<string, [number[], number[]]> = { x: [ramp(6), [2, 1, 3]] };
  expect(await runModel(writeOnnx(graph), feeds)).toEqual(await runModel(before, feeds));
});

it('leaves an If that the data decides', async () => {
  const condition = [node('ReduceMax', ['h'], ['m'], [int('keepdims', 0)]), node('Greater', ['m', 'zero'], ['one'])];
  const graph = readOnnx(model([2, 1, 3], condition));
  await normalise(graph, { evaluate: runGraph });
  expect(graph.nodes.map((made) => made.opName)).toContain('If');
});
