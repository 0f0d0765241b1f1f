import { Tensor } from '../../tensor/tensor.js';
import { at, type GradientCase, type GradientCases, layer, leaf, positive, spaced, unary } from './cases.js';
import type { Leaf } from './gradcheck.js';

const reduced = (
  op: 'ReduceL1' | 'ReduceL2' | 'ReduceLogSum' | 'ReduceLogSumExp',
  what: string,
  x: Leaf,
  axes: number[],
  keepdims: number,
): GradientCase => ({
  what,
  leaves: [x],
  body: (b, l) => b.op(op, [at(l, 0), b.ints(axes)], { keepdims }),
});

/** Reductions and normalisation. */
export const reduceCases: GradientCases = {
  ReduceMean: [
    { what: 'kept', leaves: [leaf(2, 3, 2)], body: (b, l) => b.op('ReduceMean', [at(l, 0), b.ints([1, 2])], { keepdims: 1 }) },
    {
      what: 'dropped, negative axis',
      leaves: [leaf(2, 3, 2)],
      body: (b, l) => b.op('ReduceMean', [at(l, 0), b.ints([-1])], { keepdims: 0 }),
    },
    { what: 'all', leaves: [leaf(2, 3)], body: (b, l) => b.op('ReduceMean', [at(l, 0)], { keepdims: 0 }) },
  ],
  ReduceSum: [{ what: 'one axis', leaves: [leaf(2, 3)], body: (b, l) => b.op('ReduceSum', [at(l, 0), b.ints([0])], { keepdims: 0 }) }],
  ReduceMax: [{ what: 'one axis', leaves: [spaced(3, 4)], body: (b, l) => b.op('ReduceMax', [at(l, 0), b.ints([1])], { keepdims: 0 }) }],
  ReduceMin: [{ what: 'one axis', leaves: [spaced(3, 4)], body: (b, l) => b.op('ReduceMin', [at(l, 0), b.ints([1])], { keepdims: 1 }) }],
  ReduceSumSquare: [
    { what: 'one axis', leaves: [leaf(3, 4)], body: (b, l) => b.op('ReduceSumSquare', [at(l, 0), b.ints([1])], { keepdims: 0 }) },
  ],
  ReduceL1: [reduced('ReduceL1', 'one axis', spaced(3, 4), [1], 0), reduced('ReduceL1', 'two axes', spaced(2, 3, 2), [0, -1], 1)],
  ReduceL2: [reduced('ReduceL2', 'one axis', leaf(3, 4), [1], 1), reduced('ReduceL2', 'all', leaf(2, 3), [0, 1], 0)],
  ReduceLogSum: [reduced('ReduceLogSum', 'one axis', positive(3, 4), [0], 0)],
  ReduceLogSumExp: [reduced('ReduceLogSumExp', 'one axis', leaf(3, 4), [1], 0)],
  CumSum: [0, 1].flatMap((exclusive) =>
    [0, 1].map(
      (reverse): GradientCase => ({
        what: `exclusive ${exclusive}, reverse ${reverse}`,
        leaves: [leaf(2, 4)],
        body: (b, l) => b.op('CumSum', [at(l, 0), b.constant(Tensor.int64([], [1]))], { exclusive, reverse }),
      }),
    ),
  ),
  BatchNormalization: [
    {
      what: 'inference form',
      leaves: [leaf(2, 3, 2, 2), leaf(3), leaf(3)],
      body: (b, l) =>
        b.op('BatchNormalization', [...l, b.constant(Tensor.float32([3], [0.1, -0.2, 0.3])), b.constant(Tensor.float32([3], [0.5, 1, 2]))]),
    },
  ],
  InstanceNormalization: [
    layer('InstanceNormalization', 'images', [[2, 3, 2, 3], [3], [3]]),
    layer('InstanceNormalization', 'sequences', [[2, 2, 5], [2], [2]], { epsilon: 0.01 }),
  ],
  LayerNormalization: [
    layer('LayerNormalization', 'last axis', [[2, 3, 4], [4], [4]]),
    layer(
      'LayerNormalization',
      'two axes',
      [
        [2, 3, 4],
        [3, 4],
        [3, 4],
      ],
      { axis: 1, epsilon: 0.1 },
    ),
    layer('LayerNormalization', 'no bias, broadcast scale', [[2, 3, 4], [1]], { axis: -2 }),
  ],
  GroupNormalization: [
    layer('GroupNormalization', 'by channel', [[2, 4, 2, 3], [4], [4]], { num_groups: 2 }, 21),
    layer('GroupNormalization', 'by group', [[2, 6, 3], [3], [3]], { num_groups: 3, epsilon: 0.01 }, 18),
  ],
  RMSNormalization: [
    layer('RMSNormalization', 'last axis', [[2, 3, 4], [4]], {}, 23),
    layer(
      'RMSNormalization',
      'two axes',
      [
        [2, 3, 4],
        [3, 4],
      ],
      { axis: 1, epsilon: 0.1 },
      23,
    ),
  ],
  LRN: [
    unary('LRN', leaf(2, 6, 2, 2), { size: 3, alpha: 0.5, beta: 0.75, bias: 1.5 }),
    unary('LRN', leaf(1, 6, 2, 1), { size: 5, alpha: 0.9, beta: 0.5, bias: 1 }),
  ],
  LpNormalization: [unary('LpNormalization', leaf(3, 4), { axis: 1, p: 2 }), unary('LpNormalization', spaced(3, 4), { axis: 0, p: 1 })],
};
