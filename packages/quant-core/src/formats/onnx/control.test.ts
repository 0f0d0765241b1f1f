import { expect, it } from 'vitest';
import { inferShapes } from '../../ir/infer.js';
import { verify } from '../../ir/verify.js';
import { Tensor } from '../../tensor/tensor.js';
import { graphAttribute, info, int, modelBytes, node, ramp, runModel } from '../../testing/onnx.js';
import { readOnnx } from './read.js';
import type { AttributeProto, NodeProto } from './schema.js';
import { attributeTypes } from './schema.js';
import { writeOnnx } from './write.js';

const strings = (name: string, values: string[]): AttributeProto => ({
  name,
  type: attributeTypes.strings,
  strings: values.map((value) => Buffer.from(value)),
});

const square: AttributeProto = graphAttribute('body', {
  name: 'body',
  node: [node('Identity', ['c'], ['c_out']), node('Mul', ['v', 'half'], ['v_out']), node('Abs', ['v_out'], ['seen'])],
  input: [info('i', [], 7), info('c', [], 9), info('v', [2, 3])],
  output: [info('c_out', [], 9), info('v_out', [2, 3]), info('seen', [2, 3])],
});

const sum: AttributeProto = graphAttribute('body', {
  name: 'body',
  node: [node('Add', ['state', 'row'], ['next']), node('Neg', ['next'], ['out'])],
  input: [info('state', [3]), info('row', [3])],
  output: [info('next', [3]), info('out', [3])],
});

const branch = (name: string, op: string): AttributeProto =>
  graphAttribute(name, { name, node: [node(op, ['x'], [`${name}_y`])], output: [info(`${name}_y`, [2, 3])] });

const weights = (gates: number, directions = 1): Record<string, Tensor> => ({
  w: Tensor.float32([directions, gates * 2, 3], ramp(directions * gates * 6)),
  r: Tensor.float32([directions, gates * 2, 2], ramp(directions * gates * 4)),
  b: Tensor.float32([directions, gates * 4], ramp(directions * gates * 4)),
});

interface Case {
  what: string;
  nodes: NodeProto[];
  outputs: string[];
  shape?: (number | string)[];
  initializers?: Record<string, Tensor>;
  /** Types of the outputs as they are inferred. */
  types: string[];
}

const cases: Case[] = [
  {
    what: 'If',
    nodes: [
      node('ReduceMax', ['x'], ['m'], [int('keepdims', 0)]),
      node('Greater', ['m', 'zero'], ['c']),
      node('If', ['c'], ['y'], [branch('then_branch', 'Exp'), branch('else_branch', 'Neg')]),
    ],
    outputs: ['y'],
    initializers: { zero: Tensor.scalar(0) },
    types: ['float32[2,3]'],
  },
  {
    what: 'Loop',
    nodes: [node('Loop', ['count', 'go', 'x'], ['y', 'all'], [square])],
    outputs: ['y', 'all'],
    initializers: { count: Tensor.int64([], [3]), go: new Tensor('bool', [], Uint8Array.of(1)), half: Tensor.scalar(0.5) },
    types: ['float32[2,3]', 'float32[all_d0,2,3]'],
  },
  {
    what: 'Scan',
    nodes: [node('Scan', ['start', 'x'], ['last', 'y'], [sum, int('num_scan_inputs', 1)])],
    outputs: ['last', 'y'],
    initializers: { start: Tensor.float32([3], [1, 2, 3]) },
    types: ['float32[3]', 'float32[y_d0,3]'],
  },
  {
    what: 'LSTM, both ways',
    shape: [4, 'N', 3],
    nodes: [
      node(
        'LSTM',
        ['x', 'w', 'r', 'b'],
        ['y', 'h', 'c'],
        [
          int('hidden_size', 2),
          { name: 'direction', type: attributeTypes.string, s: Buffer.from('bidirectional') },
          strings('activations', ['Sigmoid', 'Tanh', 'Tanh', 'Sigmoid', 'Relu', 'Tanh']),
        ],
      ),
    ],
    outputs: ['y', 'h', 'c'],
    initializers: weights(4, 2),
    types: ['float32[4,2,N,2]', 'float32[2,N,2]', 'float32[2,N,2]'],
  },
  {
    what: 'GRU, last state only',
    shape: [4, 'N', 3],
    nodes: [node('GRU', ['x', 'w', 'r', 'b'], ['', 'y'], [int('hidden_size', 2), int('linear_before_reset', 1)])],
    outputs: ['y'],
    initializers: weights(3),
    types: ['float32[1,N,2]'],
  },
  {
    what: 'RNN',
    shape: ['T', 2, 3],
    nodes: [node('RNN', ['x', 'w', 'r', 'b'], ['y'], [int('hidden_size', 2)])],
    outputs: ['y'],
    initializers: weights(1),
    types: ['float32[T,1,2,2]'],
  },
];

it.each(cases)('$what is read, typed, and computes what it did', async ({ nodes, outputs, shape = [2, 3], initializers = {}, types }) => {
  const before = modelBytes({
    nodes,
    inputs: [info('x', shape)],
    outputs: outputs.map((name) => info(name, undefined)),
    initializers,
  });
  const graph = readOnnx(before);
  inferShapes(graph);
  verify(graph);
  expect(graph.outputs.map((value) => `${value.dtype}[${value.shape}]`)).toEqual(types);
  const sizes = shape.map((dim) => (typeof dim === 'number' ? dim : 2));
  const feeds: Record<string, [number[], number[]]> = { x: [ramp(sizes.reduce((a, b) => a * b, 1)), sizes] };
  expect(await runModel(writeOnnx(graph), feeds)).toEqual(await runModel(before, feeds));
});
