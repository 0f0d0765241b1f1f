import { expect, it } from 'vitest';
import { Tensor } from '../../tensor/tensor.js';
import { info, modelBytes, node } from '../../testing/onnx.js';
import { readOnnx } from './read.js';
import type { NodeProto } from './schema.js';

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const read = (nodes: NodeProto[], initializers: Record<string, Tensor>) => () =>
  readOnnx(modelBytes({ nodes, initializers, inputs: [info('x', ['N', 2])] }));
const refused = (tensor: string, detail: RegExp) =>
  expect.objectContaining({ code: 'MODEL_INVALID', message: expect.stringMatching(detail), place: expect.objectContaining({ tensor }) });

const matrix = (last: number) => Tensor.float32([2, 2], [1, 2, 3, last]);
const vector = (last: number) => Tensor.float32([2], [0, last]);
const half = new Tensor('float16', [2, 2], Uint16Array.of(0, 0x3c00, 0x7c01, 0));

it.each<[string, NodeProto[], Record<string, Tensor>, string, RegExp]>([
  ['a weight', [node('MatMul', ['x', 'w'], ['y'])], { w: matrix(nan) }, 'w', /"w" of MatMul "matmul_y" hold NaN at element 3/],
  ['an infinite weight', [node('MatMul', ['x', 'w'], ['y'])], { w: matrix(-infinity) }, 'w', /infinity at element 3/],
  ['a bias', [node('Gemm', ['x', 'w', 'b'], ['y'])], { w: matrix(1), b: vector(infinity) }, 'b', /infinity at element 1/],
  [
    'a bias that is added',
    [node('MatMul', ['x', 'w'], ['h']), node('Add', ['h', 'b'], ['y'])],
    { w: matrix(1), b: vector(nan) },
    'b',
    /NaN/,
  ],
  ['a weight that is transposed', [node('Transpose', ['w'], ['t']), node('MatMul', ['x', 't'], ['y'])], { w: matrix(nan) }, 'w', /NaN/],
  [
    'a half weight that is cast',
    [node('Cast', ['w'], ['t'], [{ name: 'to', type: 2, i: 1 }]), node('MatMul', ['x', 't'], ['y'])],
    { w: half },
    'w',
    /NaN at element 2/,
  ],
  [
    'a variance',
    [node('BatchNormalization', ['x', 'one', 'one', 'one', 'v'], ['y'])],
    { one: vector(1), v: vector(nan) },
    'v',
    /BatchNormalization/,
  ],
])('refuses %s that is not finite, by its name', (_, nodes, initializers, tensor, detail) => {
  expect(read(nodes, initializers)).toThrow(refused(tensor, detail));
});

it('leaves bounds and masks infinite', () => {
  const nodes = [
    node('Add', ['x', 'mask'], ['m']),
    node('Clip', ['m', '', 'most'], ['c']),
    node('Greater', ['c', 'zero'], ['g']),
    node('Where', ['g', 'c', 'least'], ['y']),
  ];
  const scalar = Tensor.scalar;
  expect(read(nodes, { mask: vector(-infinity), most: scalar(infinity), zero: scalar(0), least: scalar(-infinity) })).not.toThrow();
});
