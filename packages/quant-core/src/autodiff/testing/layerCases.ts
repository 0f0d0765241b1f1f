import type { GraphBuilder } from '../../ir/builder.js';
import type { Attrs } from '../../ir/ops.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { at, binary, type GradientCase, type GradientCases, layer, leaf, spaced, unary } from './cases.js';

const conv = (what: string, x: number[], w: number[], attrs: object, bias = true): GradientCase => ({
  what,
  leaves: [leaf(...x), leaf(...w), ...(bias ? [leaf(w[0] as number)] : [])],
  body: (b, l) => b.op('Conv', l, attrs as never),
});
const convT = (what: string, x: number[], w: number[], attrs: Attrs<'ConvTranspose'>, bias = true): GradientCase => ({
  what: `${what} ${JSON.stringify(attrs)}`,
  leaves: [leaf(...x), leaf(...w), ...(bias ? [leaf((w[1] as number) * (attrs.group ?? 1))] : [])],
  body: (b, l) => b.op('ConvTranspose', l, attrs as never),
});
const pool = (op: 'MaxPool' | 'AveragePool', what: string, x: number[], attrs: object): GradientCase => ({
  what,
  leaves: [spaced(...x)],
  body: (b, l) => b.op(op, [at(l, 0)], attrs as never),
});

/** Three steps, two samples, three features, two hidden units; the gradient of input and first states, through the outputs named. */
const recurrent = (
  op: 'RNN' | 'GRU' | 'LSTM',
  gates: number,
  direction: string,
  attrs: object = {},
  outputs: readonly number[] = [0],
): GradientCase => {
  const directions = direction === 'bidirectional' ? 2 : 1;
  const wave = (b: GraphBuilder, ...shape: number[]) =>
    b.constant(
      Tensor.float32(
        shape,
        Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + gates)),
      ),
    );
  return {
    what: `${direction}, outputs ${outputs} ${JSON.stringify(attrs)}`,
    leaves: [leaf(3, 2, 3), leaf(directions, 2, 2), ...(op === 'LSTM' ? [leaf(directions, 2, 2)] : [])],
    body: (b, [x, ...states]) => {
      const weights = [wave(b, directions, gates * 2, 3), wave(b, directions, gates * 2, 2), wave(b, directions, gates * 4)];
      const node = b.node(op, [x, ...weights, undefined, ...states], { hidden_size: 2, direction, ...attrs }, op === 'LSTM' ? 3 : 2);
      const flat = outputs.map((port) => b.op('Reshape', [node.output(port), b.ints([-1])]));
      return b.op('Concat', flat, { axis: 0 });
    },
  };
};

/** Layers, matrix products and pooling. */
export const layerCases: GradientCases = {
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
    conv('3-D', [1, 2, 3, 4, 3], [3, 2, 2, 3, 2], { pads: [0, 1, 0, 1, 1, 1] }),
    conv('3-D, stride 2, groups', [1, 4, 4, 4, 3], [2, 2, 2, 2, 2], { strides: [2, 1, 2], group: 2 }),
    conv('3-D, depthwise', [2, 2, 3, 3, 3], [2, 1, 2, 2, 2], { group: 2, strides: [1, 1, 2] }),
  ],
  ConvTranspose: [
    convT('plain', [2, 3, 3, 4], [3, 2, 3, 3], {}),
    convT('stride 2', [1, 2, 3, 3], [2, 3, 2, 2], { strides: [2, 2] }),
    convT('stride 2, padded', [2, 2, 4, 3], [2, 2, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] }),
    convT('uneven pads, dilated', [1, 2, 4, 3], [2, 2, 2, 3], { strides: [1, 2], pads: [1, 0, 0, 2], dilations: [2, 1] }),
    convT('groups', [2, 4, 3, 3], [4, 3, 3, 3], { group: 2, strides: [2, 2], pads: [1, 1, 1, 1] }),
    convT('depthwise', [1, 3, 3, 3], [3, 1, 3, 3], { group: 3, strides: [2, 2] }),
    convT('1-D', [2, 3, 5], [3, 2, 4], { strides: [3], pads: [1, 1] }, false),
    convT('3-D', [1, 2, 2, 3, 2], [2, 2, 2, 2, 3], { strides: [2, 1, 2] }),
    convT('SAME_UPPER', [1, 2, 3, 3], [2, 2, 3, 4], { strides: [2, 2], auto_pad: 'SAME_UPPER' }),
    convT('SAME_LOWER', [1, 2, 3, 3], [2, 2, 3, 4], { strides: [2, 2], auto_pad: 'SAME_LOWER' }),
    convT('size stated', [1, 2, 3, 3], [2, 2, 3, 3], { strides: [2, 2], output_shape: [6, 5] }),
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
    binary('MatMul', leaf(4), leaf(4, 2)),
    binary('MatMul', leaf(2, 3, 4), leaf(4)),
    binary('MatMul', leaf(4), leaf(4)),
    binary('MatMul', leaf(4), leaf(2, 4, 3)),
  ],
  FusedMatMul: [
    binary('FusedMatMul', leaf(2, 3, 4), leaf(2, 5, 4), { transB: 1, alpha: 0.5 }),
    binary('FusedMatMul', leaf(2, 4, 3), leaf(2, 4, 5), { transA: 1 }),
    binary('FusedMatMul', leaf(2, 4, 3), leaf(1, 5, 4), { transA: 1, transB: 1 }),
    binary('FusedMatMul', leaf(3, 4), leaf(2, 4, 5), { alpha: 2 }),
  ],
  Attention: [
    layer(
      'Attention',
      'heads apart',
      [
        [2, 2, 3, 4],
        [2, 2, 5, 4],
        [2, 2, 5, 3],
      ],
      {},
      23,
    ),
    layer(
      'Attention',
      'heads in one axis, mask',
      [
        [2, 3, 8],
        [2, 4, 8],
        [2, 4, 6],
        [3, 4],
      ],
      { q_num_heads: 2, kv_num_heads: 2, scale: 0.7 },
      23,
    ),
    layer(
      'Attention',
      'shared keys, causal',
      [
        [1, 4, 3, 2],
        [1, 2, 3, 2],
        [1, 2, 3, 2],
      ],
      { is_causal: 1 },
      23,
    ),
    {
      what: 'a mask of truth values',
      leaves: [leaf(1, 2, 3, 2), leaf(1, 2, 3, 2), leaf(1, 2, 3, 2)],
      body: (b, l) => b.op('Attention', [...l, b.constant(new Tensor('bool', [3, 3], Uint8Array.of(1, 0, 1, 1, 1, 0, 0, 1, 1)))]),
      opset: 23,
    },
  ],
  RotaryEmbedding: [0, 1].map((interleaved) => ({
    what: `interleaved ${interleaved}`,
    leaves: [leaf(1, 2, 3, 4)],
    body: (b, l) =>
      b.op(
        'RotaryEmbedding',
        [at(l, 0), ...[0.3, 0.8].map((value) => b.constant(Tensor.float32([1, 3, 2], [value, 0.5, 0.9, 0.1, 0.2, 0.7])))],
        { interleaved },
      ),
    opset: 23,
  })),
  RNN: [recurrent('RNN', 1, 'forward'), recurrent('RNN', 1, 'bidirectional', {}, [0, 1])],
  GRU: [
    recurrent('GRU', 3, 'forward'),
    recurrent('GRU', 3, 'bidirectional', { linear_before_reset: 1 }),
    recurrent('GRU', 3, 'reverse', {}, [1]),
  ],
  LSTM: [recurrent('LSTM', 4, 'forward'), recurrent('LSTM', 4, 'bidirectional', {}, [0, 1, 2]), recurrent('LSTM', 4, 'reverse', {}, [2])],
  Einsum: [
    layer(
      'Einsum',
      'matrix product',
      [
        [3, 4],
        [4, 2],
      ],
      { equation: 'ij,jk->ik' },
    ),
    layer(
      'Einsum',
      'attention scores',
      [
        [2, 3, 2, 4],
        [2, 5, 2, 4],
      ],
      { equation: 'bqhd,bkhd->bhqk' },
    ),
    layer(
      'Einsum',
      'no arrow',
      [
        [3, 4],
        [4, 2],
      ],
      { equation: 'ij, jk' },
    ),
    layer(
      'Einsum',
      'ellipsis',
      [
        [2, 3, 4],
        [4, 5],
      ],
      { equation: '...j,jk->...k' },
    ),
    layer(
      'Einsum',
      'ellipsis that broadcasts',
      [
        [1, 3, 4],
        [2, 4, 5],
      ],
      { equation: '...ij,...jk->...ik' },
    ),
    layer('Einsum', 'sum of one', [[3, 4, 2]], { equation: 'ijk->j' }),
    layer('Einsum', 'transposition', [[3, 4, 2]], { equation: 'ijk->kij' }),
    layer(
      'Einsum',
      'an axis that only one has',
      [
        [3, 4],
        [3, 2],
      ],
      { equation: 'ij,ik->i' },
    ),
    layer(
      'Einsum',
      'three operands',
      [
        [3, 2],
        [2, 4],
        [4, 3],
      ],
      { equation: 'ij,jk,kl->il' },
    ),
  ],
  MaxPool: [
    pool('MaxPool', '2x2/2', [2, 2, 4, 6], { kernel_shape: [2, 2], strides: [2, 2] }),
    pool('MaxPool', '2x2/2, rows left over', [1, 2, 5, 5], { kernel_shape: [2, 2], strides: [2, 2] }),
    pool('MaxPool', '3x3/2 overlapping, padded', [1, 2, 5, 5], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
    pool('MaxPool', 'ceil_mode', [1, 1, 5, 5], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }),
    pool('MaxPool', '1-D', [2, 2, 6], { kernel_shape: [2], strides: [2] }),
    pool('MaxPool', '3-D', [1, 2, 3, 4, 4], { kernel_shape: [2, 2, 2], strides: [1, 2, 2] }),
    pool('MaxPool', 'dilated', [1, 2, 6, 6], { kernel_shape: [2, 3], dilations: [2, 1] }),
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
    pool('AveragePool', '3-D', [1, 2, 3, 4, 4], { kernel_shape: [2, 2, 2], strides: [1, 2, 2], pads: [0, 1, 1, 0, 1, 1] }),
    pool('AveragePool', 'SAME_UPPER', [1, 2, 5, 5], { kernel_shape: [2, 3], strides: [2, 2], auto_pad: 'SAME_UPPER' }),
  ],
  GlobalAveragePool: [unary('GlobalAveragePool', leaf(2, 3, 2, 2))],
  GlobalMaxPool: [unary('GlobalMaxPool', spaced(2, 3, 2, 2))],
};
