import { describe, expect, it } from 'vitest';
import type { GraphBuilder } from '../ir/builder.js';
import type { Value } from '../ir/graph.js';
import { type OpType, ops } from '../ir/ops.js';
import type { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { gradientRules } from './rules.js';
import { gradientError, type Leaf } from './testing/gradcheck.js';

interface Case {
  what: string;
  leaves: Leaf[];
  body: (b: GraphBuilder, leaves: Value[]) => Value;
}

const leaf = (...shape: number[]): Leaf => ({ shape });
/** Values at least 0.1 away from each other and from 0, in random order: no kink or tie within a finite difference. */
const spaced = (...shape: number[]): Leaf => ({
  shape,
  draw: (random: Random, i: number) => ((i * 7) % 31) * 0.2 - 3.1 + 0.02 * random.uniform(),
});
const positive = (...shape: number[]): Leaf => ({ shape, draw: (random: Random) => 0.5 + random.uniform() });

const at = (leaves: Value[], i: number) => leaves[i] as Value;
const unary = (op: OpType, make: Leaf = spaced(2, 5), attrs: object = {}): Case => ({
  what: JSON.stringify(attrs),
  leaves: [make],
  body: (b, l) => b.op(op, [at(l, 0)], attrs as never),
});
const binary = (op: OpType, a: Leaf, c: Leaf): Case => ({
  what: `[${a.shape}] with [${c.shape}]`,
  leaves: [a, c],
  body: (b, l) => b.op(op, [at(l, 0), at(l, 1)]),
});
const conv = (what: string, x: number[], w: number[], attrs: object, bias = true): Case => ({
  what,
  leaves: [leaf(...x), leaf(...w), ...(bias ? [leaf(w[0] as number)] : [])],
  body: (b, l) => b.op('Conv', l, attrs as never),
});
const pool = (op: 'MaxPool' | 'AveragePool', what: string, x: number[], attrs: object): Case => ({
  what,
  leaves: [spaced(...x)],
  body: (b, l) => b.op(op, [at(l, 0)], attrs as never),
});
const ints = (b: GraphBuilder, ...values: number[]) => b.ints(values);

const cases: Partial<Record<OpType, Case[]>> = {
  Conv: [
    conv('3x3 same', [2, 3, 5, 4], [4, 3, 3, 3], { pads: [1, 1, 1, 1] }),
    conv('1x1', [2, 3, 3, 3], [2, 3, 1, 1], {}),
    conv('1x1 stride 2', [2, 3, 5, 5], [2, 3, 1, 1], { strides: [2, 2] }),
    conv('stride 2, rows left over', [1, 2, 6, 7], [3, 2, 3, 3], { strides: [2, 2] }),
    conv('stride 3 with a kernel of 2', [1, 2, 7, 7], [3, 2, 2, 2], { strides: [3, 3] }),
    conv('stride 2, uneven pads', [2, 2, 6, 5], [3, 2, 3, 2], { strides: [2, 1], pads: [0, 1, 1, 0] }),
    conv('dilated', [1, 2, 7, 6], [2, 2, 3, 2], { dilations: [2, 2], pads: [2, 1, 2, 1] }),
    conv('pads larger than the kernel reaches', [1, 2, 3, 3], [2, 2, 2, 2], { pads: [2, 2, 2, 2] }),
    conv('groups', [2, 4, 4, 4], [6, 2, 3, 3], { group: 2, pads: [1, 1, 1, 1] }),
    conv('groups, stride 2', [2, 4, 5, 5], [4, 2, 3, 3], { group: 2, strides: [2, 2] }),
    conv('depthwise', [2, 3, 5, 5], [3, 1, 3, 3], { group: 3, pads: [1, 1, 1, 1] }),
    conv('depthwise, stride 2', [2, 3, 6, 6], [3, 1, 3, 3], { group: 3, strides: [2, 2], pads: [1, 1, 1, 1] }),
    conv('depthwise, two outputs a channel', [2, 2, 4, 4], [4, 1, 3, 3], { group: 2, pads: [1, 1, 1, 1] }),
    conv('8 channels', [2, 8, 5, 5], [16, 8, 3, 3], { pads: [1, 1, 1, 1] }, false),
    conv('8 channels, stride 2', [2, 8, 6, 6], [8, 8, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }, false),
    conv('depthwise, 8 channels', [2, 8, 5, 5], [8, 1, 3, 3], { group: 8, pads: [1, 1, 1, 1] }, false),
    conv('SAME_UPPER, stride 2', [1, 2, 6, 6], [2, 2, 3, 3], { auto_pad: 'SAME_UPPER', strides: [2, 2] }),
    conv('SAME_LOWER, stride 2', [1, 2, 6, 6], [2, 2, 3, 3], { auto_pad: 'SAME_LOWER', strides: [2, 2] }),
    conv('VALID', [1, 2, 5, 5], [2, 2, 3, 3], { auto_pad: 'VALID' }),
    conv('1-D', [2, 3, 7], [4, 3, 3], { pads: [1, 1] }),
    conv('1-D, stride 2, groups', [2, 4, 8], [4, 2, 3], { strides: [2], group: 2 }),
    conv('no bias', [2, 3, 4, 4], [2, 3, 3, 3], {}, false),
  ],
  Gemm: [
    { what: 'plain', leaves: [leaf(3, 4), leaf(4, 2), leaf(2)], body: (b, l) => b.op('Gemm', l) },
    { what: 'transposed', leaves: [leaf(4, 3), leaf(2, 4), leaf(3, 2)], body: (b, l) => b.op('Gemm', l, { transA: 1, transB: 1 }) },
    {
      what: 'transB, alpha, beta',
      leaves: [leaf(3, 4), leaf(2, 4), leaf(1, 2)],
      body: (b, l) => b.op('Gemm', l, { transB: 1, alpha: 0.5, beta: 2 }),
    },
    { what: 'transA', leaves: [leaf(4, 3), leaf(4, 2)], body: (b, l) => b.op('Gemm', l, { transA: 1 }) },
  ],
  MatMul: [
    binary('MatMul', leaf(3, 4), leaf(4, 2)),
    binary('MatMul', leaf(2, 3, 4), leaf(4, 2)),
    binary('MatMul', leaf(2, 3, 4), leaf(2, 4, 2)),
    binary('MatMul', leaf(3, 4), leaf(2, 4, 2)),
    binary('MatMul', leaf(2, 1, 3, 4), leaf(3, 4, 2)),
  ],
  Add: [
    binary('Add', leaf(2, 3), leaf(2, 3)),
    binary('Add', leaf(2, 3), leaf(3)),
    binary('Add', leaf(2, 1, 3), leaf(4, 1)),
    binary('Add', leaf(), leaf(2)),
  ],
  Sub: [binary('Sub', leaf(2, 3), leaf(1, 3)), binary('Sub', leaf(3), leaf(2, 3))],
  Mul: [binary('Mul', leaf(2, 3), leaf(2, 1)), binary('Mul', leaf(2, 3, 2, 2), leaf(3, 1, 1))],
  Div: [binary('Div', leaf(2, 3), positive(3))],
  Pow: [binary('Pow', positive(2, 3), leaf(3)), binary('Pow', positive(2, 3), leaf())],
  Min: [{ what: 'three inputs', leaves: [spaced(2, 3), { shape: [3], draw: () => 0.03 }, leaf(2, 3)], body: (b, l) => b.op('Min', l) }],
  Max: [{ what: 'two inputs', leaves: [spaced(2, 3), { shape: [1], draw: () => 0.03 }], body: (b, l) => b.op('Max', l) }],
  Relu: [unary('Relu')],
  LeakyRelu: [unary('LeakyRelu', spaced(2, 5), { alpha: 0.2 })],
  PRelu: [binary('PRelu', spaced(2, 3, 4), positive(3, 1)), binary('PRelu', spaced(2, 3), positive(1))],
  Clip: [
    { what: 'both bounds', leaves: [spaced(3, 5)], body: (b, l) => b.op('Clip', [at(l, 0), b.scalar(-1.03), b.scalar(1.53)]) },
    { what: 'upper bound', leaves: [spaced(3, 5)], body: (b, l) => b.op('Clip', [at(l, 0), undefined, b.scalar(1.53)]) },
    { what: 'no bound', leaves: [spaced(3, 5)], body: (b, l) => b.op('Clip', [at(l, 0)]) },
  ],
  Sigmoid: [unary('Sigmoid')],
  Tanh: [unary('Tanh')],
  HardSigmoid: [unary('HardSigmoid', spaced(3, 7), { alpha: 0.25, beta: 0.51 })],
  HardSwish: [unary('HardSwish', { shape: [3, 7], draw: (_r, i) => i * 0.41 - 4.05 })],
  Softmax: [unary('Softmax', leaf(2, 4)), unary('Softmax', leaf(2, 3, 2), { axis: 1 })],
  LogSoftmax: [unary('LogSoftmax', leaf(2, 4)), unary('LogSoftmax', leaf(2, 3, 2), { axis: 1 })],
  Abs: [unary('Abs')],
  Neg: [unary('Neg')],
  Exp: [unary('Exp', leaf(2, 3))],
  Log: [unary('Log', positive(2, 3))],
  Sqrt: [unary('Sqrt', positive(2, 3))],
  Reciprocal: [unary('Reciprocal', positive(2, 3))],
  Erf: [unary('Erf', leaf(2, 3))],
  MaxPool: [
    pool('MaxPool', '2x2/2', [2, 2, 4, 6], { kernel_shape: [2, 2], strides: [2, 2] }),
    pool('MaxPool', '2x2/2, rows left over', [1, 2, 5, 5], { kernel_shape: [2, 2], strides: [2, 2] }),
    pool('MaxPool', '3x3/2 overlapping, padded', [1, 2, 5, 5], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
    pool('MaxPool', 'ceil_mode', [1, 1, 5, 5], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }),
    pool('MaxPool', '1-D', [2, 2, 6], { kernel_shape: [2], strides: [2] }),
  ],
  AveragePool: [
    pool('AveragePool', '2x2/2', [1, 2, 4, 4], { kernel_shape: [2, 2], strides: [2, 2] }),
    pool('AveragePool', 'padding left out of the count', [1, 2, 5, 5], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
    pool('AveragePool', 'padding counted', [1, 2, 5, 5], {
      kernel_shape: [3, 3],
      strides: [1, 1],
      pads: [1, 1, 1, 1],
      count_include_pad: 1,
    }),
    pool('AveragePool', 'ceil_mode', [1, 1, 5, 5], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }),
    pool('AveragePool', '1-D', [2, 2, 6], { kernel_shape: [3], strides: [1] }),
  ],
  GlobalAveragePool: [unary('GlobalAveragePool', leaf(2, 3, 2, 2))],
  GlobalMaxPool: [unary('GlobalMaxPool', spaced(2, 3, 2, 2))],
  ReduceMean: [
    { what: 'kept', leaves: [leaf(2, 3, 2)], body: (b, l) => b.op('ReduceMean', [at(l, 0), ints(b, 1, 2)], { keepdims: 1 }) },
    {
      what: 'dropped, negative axis',
      leaves: [leaf(2, 3, 2)],
      body: (b, l) => b.op('ReduceMean', [at(l, 0), ints(b, -1)], { keepdims: 0 }),
    },
    { what: 'all', leaves: [leaf(2, 3)], body: (b, l) => b.op('ReduceMean', [at(l, 0)], { keepdims: 0 }) },
  ],
  ReduceSum: [{ what: 'one axis', leaves: [leaf(2, 3)], body: (b, l) => b.op('ReduceSum', [at(l, 0), ints(b, 0)], { keepdims: 0 }) }],
  ReduceMax: [{ what: 'one axis', leaves: [spaced(3, 4)], body: (b, l) => b.op('ReduceMax', [at(l, 0), ints(b, 1)], { keepdims: 0 }) }],
  ReduceMin: [{ what: 'one axis', leaves: [spaced(3, 4)], body: (b, l) => b.op('ReduceMin', [at(l, 0), ints(b, 1)], { keepdims: 1 }) }],
  ReduceSumSquare: [
    { what: 'one axis', leaves: [leaf(3, 4)], body: (b, l) => b.op('ReduceSumSquare', [at(l, 0), ints(b, 1)], { keepdims: 0 }) },
  ],
  BatchNormalization: [
    {
      what: 'inference form',
      leaves: [leaf(2, 3, 2, 2), leaf(3), leaf(3)],
      body: (b, l) =>
        b.op('BatchNormalization', [...l, b.constant(Tensor.float32([3], [0.1, -0.2, 0.3])), b.constant(Tensor.float32([3], [0.5, 1, 2]))]),
    },
  ],
  Dropout: [unary('Dropout', leaf(2, 3))],
  Flatten: [unary('Flatten', leaf(2, 3, 2))],
  Reshape: [{ what: '', leaves: [leaf(2, 6)], body: (b, l) => b.reshape(at(l, 0), [3, -1]) }],
  Transpose: [unary('Transpose', leaf(2, 3, 4), { perm: [2, 0, 1] }), unary('Transpose', leaf(2, 3))],
  Squeeze: [{ what: '', leaves: [leaf(2, 1, 3)], body: (b, l) => b.op('Squeeze', [at(l, 0), ints(b, 1)]) }],
  Unsqueeze: [{ what: '', leaves: [leaf(2, 3)], body: (b, l) => b.op('Unsqueeze', [at(l, 0), ints(b, 1)]) }],
  Concat: [{ what: 'three', leaves: [leaf(2, 1), leaf(2, 3), leaf(2, 2)], body: (b, l) => b.op('Concat', l, { axis: -1 }) }],
  Slice: [
    { what: 'inside', leaves: [leaf(4, 5)], body: (b, l) => b.slice(at(l, 0), [0, 1], [1, 1], [3, -1]) },
    { what: 'steps', leaves: [leaf(7, 5)], body: (b, l) => b.slice(at(l, 0), [0, 1], [1, 0], [7, 5], [3, 2]) },
    { what: 'backwards', leaves: [leaf(7, 5)], body: (b, l) => b.slice(at(l, 0), [0, 1], [5, -1], [0, -6], [-2, -1]) },
  ],
  Pad: [
    { what: 'all sides', leaves: [leaf(2, 3)], body: (b, l) => b.op('Pad', [at(l, 0), ints(b, 1, 0, 2, 1)]) },
    { what: 'cropping', leaves: [leaf(4, 5)], body: (b, l) => b.op('Pad', [at(l, 0), ints(b, -1, 1, 0, -2)]) },
  ],
  Split: [
    {
      what: 'both used',
      leaves: [leaf(2, 5)],
      body: (b, l) => {
        const n = b.node('Split', [at(l, 0), ints(b, 2, 3)], { axis: 1 }, 2);
        return b.op('Concat', [n.output(1), n.output(0)], { axis: 1 });
      },
    },
    { what: 'one unused', leaves: [leaf(2, 5)], body: (b, l) => b.node('Split', [at(l, 0), ints(b, 2, 3)], { axis: 1 }, 2).output(1) },
  ],
  Gather: [
    { what: 'rows, one twice', leaves: [leaf(4, 3)], body: (b, l) => b.op('Gather', [at(l, 0), ints(b, 2, 0, 2)]) },
    {
      what: 'axis 1, matrix of indices',
      leaves: [leaf(2, 4)],
      body: (b, l) => b.op('Gather', [at(l, 0), b.constant(Tensor.int64([2, 2], [3, 1, 0, 1]))], { axis: 1 }),
    },
  ],
  Expand: [{ what: '', leaves: [leaf(2, 1, 3)], body: (b, l) => b.op('Expand', [at(l, 0), ints(b, 4, 2, 5, 3)]) }],
  Identity: [unary('Identity', leaf(2, 3))],
  Cast: [
    {
      what: 'through float64',
      leaves: [leaf(2, 3)],
      body: (b, l) => b.op('Cast', [b.op('Cast', [at(l, 0)], { to: 'float64' })], { to: 'float32' }),
    },
  ],
  Where: [
    {
      what: 'broadcast',
      leaves: [leaf(2, 3), leaf(3)],
      body: (b, l) => b.op('Where', [b.constant(new Tensor('bool', [2, 1], Uint8Array.of(1, 0))), at(l, 0), at(l, 1)]),
    },
  ],
};

for (const [op, list] of Object.entries(cases)) {
  describe(`gradient of ${op}`, () => {
    it.each(list)('$what', async ({ leaves, body }) => {
      expect(await gradientError(leaves, body)).toBeLessThan(5e-3);
    });
  });
}

it('checks every op that has a gradient', () => {
  const unchecked = (Object.keys(ops) as OpType[]).filter((op) => gradientRules[op] && !cases[op]);
  expect(unchecked).toEqual([]);
});
