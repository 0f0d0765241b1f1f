import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GraphBuilder } from '../ir/builder.js';
import type { Value } from '../ir/graph.js';
import type { Attrs, OpType } from '../ir/ops.js';
import { Tensor } from '../tensor/tensor.js';
import { gradientRules } from './rules.js';
import { distinct, positive, spaced } from './testing/cases.js';
import { gradientError, type Leaf } from './testing/gradcheck.js';

/** What one draw of attributes and shapes is: printed when it fails, so that it can be built again. */
interface Drawn {
  op: OpType;
  attrs?: object;
  leaves: Leaf[];
  /** Constant inputs after the leaves. */
  constants?: (Tensor | undefined)[];
  opset?: number;
}

const dim = (most: number, least = 1) => fc.integer({ min: least, max: most });
const dims = (count: number, most: number, least = 1) => fc.array(dim(most, least), { minLength: count, maxLength: count });
const flag = fc.constantFrom(0, 1);
const normal = (...shape: number[]): Leaf => ({ shape });
const shapes = (rank: fc.Arbitrary<number> = dim(4)) => rank.chain((count) => dims(count, 3));
/** A shape that broadcasts with `shape`. */
const partner = (shape: readonly number[]) =>
  fc
    .tuple(fc.integer({ min: 0, max: shape.length }), fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }))
    .map(([cut, ones]) => shape.map((size, axis) => (ones[axis] ? 1 : size)).slice(cut));
const axisOf = (rank: number) => fc.integer({ min: -rank, max: rank - 1 });
const axesOf = (rank: number) =>
  fc
    .subarray(
      Array.from({ length: rank }, (_, i) => i),
      { minLength: 1 },
    )
    .chain((axes) => fc.tuple(...axes.map((axis) => fc.constantFrom(axis, axis - rank))).map((list) => list));

const unary = (
  op: OpType,
  leaf: (...shape: number[]) => Leaf,
  attrs: fc.Arbitrary<object> = fc.constant({}),
  opset = 18,
): fc.Arbitrary<Drawn> => fc.tuple(shapes(), attrs).map(([shape, drawn]) => ({ op, attrs: drawn, leaves: [leaf(...shape)], opset }));

const binary = (op: OpType, second: (...shape: number[]) => Leaf = normal, first = normal): fc.Arbitrary<Drawn> =>
  shapes().chain((shape) => partner(shape).map((other) => ({ op, leaves: [first(...shape), second(...other)] })));

const factor = fc.double({ min: 0.3, max: 2, noNaN: true }).map(Math.fround);

/** Kernel, strides, dilations and pads on `rank` axes, and an image on which they fit. */
const window = (rank: number, dilate: boolean) =>
  fc
    .record({
      kernel: dims(rank, rank === 3 ? 2 : 3),
      strides: dims(rank, 3),
      dilations: dilate ? dims(rank, 2) : fc.constant(new Array<number>(rank).fill(1)),
      more: dims(rank, rank === 3 ? 1 : 3, 0),
    })
    .chain(({ kernel, strides, dilations, more }) =>
      // A pad as large as the kernel is refused by ONNX Runtime where it pools.
      fc.tuple(...[...kernel, ...kernel].map((k) => fc.integer({ min: 0, max: Math.min(1, k - 1) }))).map((pads) => ({
        kernel,
        strides,
        dilations,
        pads: pads as number[],
        image: kernel.map((k, i) => (k - 1) * (dilations[i] as number) + 1 + (more[i] as number)),
      })),
    );

const conv: fc.Arbitrary<Drawn> = fc.tuple(dim(3), dim(2), dim(2), dim(2), fc.boolean()).chain(([rank, group, per, out, bias]) =>
  window(rank, true).map(({ kernel, strides, dilations, pads, image }) => ({
    op: 'Conv' as const,
    attrs: { strides, dilations, pads, group, kernel_shape: kernel },
    leaves: [normal(2, group * per, ...image), normal(group * out, per, ...kernel), ...(bias ? [normal(group * out)] : [])],
  })),
);

const convTranspose: fc.Arbitrary<Drawn> = fc.tuple(dim(3), dim(2), dim(2), dim(2), fc.boolean()).chain(([rank, group, per, out, bias]) =>
  fc
    .tuple(window(rank, true), dims(rank, rank === 3 ? 2 : 3, 2), dims(rank, 2, 0))
    .map(([{ kernel, strides, dilations, pads }, image, extra]) => ({
      op: 'ConvTranspose' as const,
      attrs: {
        strides,
        dilations,
        pads,
        group,
        kernel_shape: kernel,
        output_padding: extra.map((p, i) => Math.min(p, (strides[i] as number) - 1)),
      },
      leaves: [normal(1, group * per, ...image), normal(group * per, out, ...kernel), ...(bias ? [normal(group * out)] : [])],
    })),
);

const pool = (op: 'MaxPool' | 'AveragePool', rank: number): fc.Arbitrary<Drawn> =>
  fc.tuple(window(rank, op === 'MaxPool'), flag, flag).map(([{ kernel, strides, dilations, pads, image }, ceil, count]) => ({
    op,
    attrs: {
      kernel_shape: kernel,
      strides,
      pads,
      ceil_mode: ceil,
      ...(op === 'MaxPool' ? { dilations } : { count_include_pad: count }),
    },
    leaves: [distinct(1, 2, ...image)],
    // Before, ONNX itself counts a window that starts in the padding where the runtime does not.
    opset: 22,
  }));

const reduce = (op: OpType, leaf: (...shape: number[]) => Leaf): fc.Arbitrary<Drawn> =>
  shapes().chain((shape) =>
    fc
      .tuple(axesOf(shape.length), flag)
      .map(([axes, keepdims]) => ({ op, attrs: { keepdims }, leaves: [leaf(...shape)], constants: [Tensor.ints(axes)] })),
  );

const alongAxis = (
  op: OpType,
  attrs: (axis: number) => fc.Arbitrary<object> = (axis) => fc.constant({ axis }),
  leaf = normal,
): fc.Arbitrary<Drawn> =>
  shapes(dim(3)).chain((shape) =>
    axisOf(shape.length)
      .chain(attrs)
      .map((drawn) => ({ op, attrs: drawn, leaves: [leaf(...shape)] })),
  );

const trailingNorm = (op: 'LayerNormalization' | 'RMSNormalization'): fc.Arbitrary<Drawn> =>
  fc.tuple(dims(3, 3, 2), fc.integer({ min: 0, max: 2 }), factor, fc.boolean()).map(([shape, axis, epsilon, bias]) => ({
    op,
    attrs: { axis, epsilon },
    leaves: [
      normal(...shape),
      normal(...shape.slice(axis)),
      ...(bias && op === 'LayerNormalization' ? [normal(...shape.slice(axis))] : []),
    ],
    opset: 23,
  }));

const resize: fc.Arbitrary<Drawn> = fc
  .record({
    image: dims(2, 4, 2),
    scales: fc.array(fc.constantFrom(0.5, 0.75, 1, 1.5, 2, 2.6, 3), { minLength: 2, maxLength: 2 }),
    mode: fc.constantFrom('nearest', 'linear', 'cubic'),
    transform: fc.constantFrom('half_pixel', 'asymmetric', 'align_corners', 'pytorch_half_pixel', 'half_pixel_symmetric'),
    nearest: fc.constantFrom('round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'),
  })
  .map(({ image, scales, mode, transform, nearest }) => ({
    op: 'Resize' as const,
    attrs: { mode, coordinate_transformation_mode: transform, nearest_mode: nearest },
    leaves: [normal(1, 2, ...image)],
    constants: [undefined, Tensor.float32([4], [1, 1, ...scales])],
    opset: 19,
  }));

const slice: fc.Arbitrary<Drawn> = fc
  .tuple(dims(2, 6, 2), fc.integer({ min: 0, max: 1 }), fc.constantFrom(-2, -1, 1, 2, 3))
  .chain(([shape, axis, step]) =>
    fc.tuple(fc.integer({ min: 0, max: (shape[axis] as number) - 1 }), dim(6)).map(([start, length]) => {
      // Backwards to the front of the axis is written as a position far before it.
      const end = step > 0 ? start + length : start - length < 0 ? -100 : start - length;
      return { op: 'Slice' as const, leaves: [normal(...shape)], constants: [start, end, axis, step].map((value) => Tensor.ints([value])) };
    }),
  );

const pad: fc.Arbitrary<Drawn> = fc
  .tuple(
    dims(2, 4, 3),
    fc.constantFrom('constant', 'reflect', 'edge', 'wrap'),
    fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 4, maxLength: 4 }),
  )
  .map(([shape, mode, pads]) => ({
    op: 'Pad' as const,
    attrs: { mode },
    leaves: [normal(...shape)],
    constants: [Tensor.ints(pads)],
    opset: 19,
  }));

const indices = (shape: readonly number[], size: number) =>
  fc
    .array(fc.integer({ min: -size, max: size - 1 }), {
      minLength: shape.reduce((a, b) => a * b, 1),
      maxLength: shape.reduce((a, b) => a * b, 1),
    })
    .map((values) => Tensor.int64(shape, values));

const gather: fc.Arbitrary<Drawn> = fc.tuple(dims(3, 3), axisOf(3), shapes(dim(2))).chain(([shape, axis, picked]) =>
  indices(picked, shape.at(axis) as number).map((constant) => ({
    op: 'Gather' as const,
    attrs: { axis },
    leaves: [normal(...shape)],
    constants: [constant],
  })),
);

const gatherElements: fc.Arbitrary<Drawn> = fc.tuple(dims(2, 3), fc.integer({ min: 0, max: 1 }), dim(3)).chain(([shape, axis, count]) => {
  const out = shape.map((size, at) => (at === axis ? count : size));
  return indices(out, shape[axis] as number).map((constant) => ({
    op: 'GatherElements' as const,
    attrs: { axis },
    leaves: [normal(...shape)],
    constants: [constant],
  }));
});

const matmul: fc.Arbitrary<Drawn> = fc
  .tuple(dim(3), dim(3), dim(3), shapes(dim(2)), fc.boolean(), fc.boolean())
  .chain(([m, k, n, batch, left, right]) =>
    partner(batch).map((other) => ({
      op: 'MatMul' as const,
      leaves: [left ? normal(k) : normal(...batch, m, k), right ? normal(k) : normal(...other, k, n)],
    })),
  );

const gemm: fc.Arbitrary<Drawn> = fc
  .tuple(dim(3), dim(3), dim(3), flag, flag, factor, factor, fc.boolean())
  .map(([m, k, n, transA, transB, alpha, beta, bias]) => ({
    op: 'Gemm' as const,
    attrs: { transA, transB, alpha, beta },
    leaves: [transA ? normal(k, m) : normal(m, k), transB ? normal(n, k) : normal(k, n), ...(bias ? [normal(n)] : [])],
  }));

/** Two operands with letters of their own, shared by both, and summed. */
const einsum: fc.Arbitrary<Drawn> = fc
  .tuple(
    dims(5, 3),
    fc.subarray(['a', 'b', 'c', 'd', 'e'], { minLength: 1 }),
    fc.subarray(['a', 'b', 'c', 'd', 'e'], { minLength: 1 }),
    fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    fc.boolean(),
  )
  .map(([sizes, left, right, keep, turned]) => {
    const size = (letter: string) => sizes[letter.charCodeAt(0) - 97] as number;
    const known = [...new Set([...left, ...right])].filter((_, i) => keep[i]);
    const first = turned ? [...left].reverse() : left;
    return {
      op: 'Einsum' as const,
      attrs: { equation: `${first.join('')},${right.join('')}->${known.join('')}` },
      leaves: [normal(...first.map(size)), normal(...right.map(size))],
    };
  });

/** One draw an op; what has no attributes and one shape is in the table of rules.test.ts. */
const drawn: Partial<Record<OpType, fc.Arbitrary<Drawn>>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
  Gemm: gemm,
  MatMul: matmul,
  Einsum: einsum,
  Add: binary('Add'),
  Sub: binary('Sub'),
  Mul: binary('Mul'),
  Div: binary('Div', positive),
  Pow: binary('Pow', normal, positive),
  LeakyRelu: unary('LeakyRelu', spaced, fc.record({ alpha: factor })),
  Elu: unary('Elu', spaced, fc.record({ alpha: factor })),
  Selu: unary('Selu', spaced, fc.record({ alpha: factor, gamma: factor })),
  Celu: unary('Celu', spaced, fc.record({ alpha: factor })),
  Swish: unary('Swish', normal, fc.record({ alpha: factor }), 24),
  Gelu: unary('Gelu', normal, fc.record({ approximate: fc.constantFrom('none', 'tanh') }), 20),
  Softmax: alongAxis('Softmax'),
  LogSoftmax: alongAxis('LogSoftmax'),
  MaxPool: dim(3).chain((rank) => pool('MaxPool', rank)),
  AveragePool: dim(3).chain((rank) => pool('AveragePool', rank)),
  ReduceMean: reduce('ReduceMean', normal),
  ReduceSum: reduce('ReduceSum', normal),
  ReduceMax: reduce('ReduceMax', distinct),
  ReduceMin: reduce('ReduceMin', distinct),
  ReduceSumSquare: reduce('ReduceSumSquare', normal),
  ReduceL1: reduce('ReduceL1', distinct),
  ReduceL2: reduce('ReduceL2', positive),
  ReduceLogSum: reduce('ReduceLogSum', positive),
  ReduceLogSumExp: reduce('ReduceLogSumExp', normal),
  LayerNormalization: trailingNorm('LayerNormalization'),
  RMSNormalization: trailingNorm('RMSNormalization'),
  InstanceNormalization: fc.tuple(dims(3, 4, 2), factor).map(([shape, epsilon]) => ({
    op: 'InstanceNormalization' as const,
    attrs: { epsilon },
    leaves: [normal(2, ...shape), normal(shape[0] as number), normal(shape[0] as number)],
  })),
  GroupNormalization: fc.tuple(dim(2), dim(3), dims(2, 3, 2), factor).map(([groups, per, image, epsilon]) => ({
    op: 'GroupNormalization' as const,
    attrs: { num_groups: groups, epsilon },
    leaves: [normal(2, groups * per, ...image), normal(groups * per), normal(groups * per)],
    opset: 21,
  })),
  LRN: fc.tuple(fc.constantFrom(1, 3, 5), factor, factor, dim(6)).map(([size, alpha, beta, channels]) => ({
    op: 'LRN' as const,
    attrs: { size, alpha, beta, bias: 1 },
    leaves: [normal(1, channels, 2, 2)],
  })),
  LpNormalization: alongAxis('LpNormalization', (axis) => fc.constantFrom({ axis, p: 1 }, { axis, p: 2 }), positive),
  Concat: fc.tuple(dims(2, 3), axisOf(2), dims(3, 3)).map(([shape, axis, sizes]) => ({
    op: 'Concat' as const,
    attrs: { axis },
    leaves: sizes.map((size) => normal(...shape.map((own, at) => (at === (axis + 2) % 2 ? size : own)))),
  })),
  Slice: slice,
  Pad: pad,
  Gather: gather,
  GatherElements: gatherElements,
  Resize: resize,
  Transpose: shapes().chain((shape) =>
    fc
      .shuffledSubarray(
        shape.map((_, axis) => axis),
        { minLength: shape.length },
      )
      .map((perm) => ({
        op: 'Transpose' as const,
        attrs: { perm },
        leaves: [normal(...shape)],
      })),
  ),
  Tile: shapes(dim(3)).chain((shape) =>
    dims(shape.length, 3).map((repeats) => ({ op: 'Tile' as const, leaves: [normal(...shape)], constants: [Tensor.ints(repeats)] })),
  ),
  Expand: shapes(dim(3)).chain((shape) =>
    partner(shape).map((from) => ({ op: 'Expand' as const, leaves: [normal(...from)], constants: [Tensor.ints(shape)] })),
  ),
  DepthToSpace: fc.tuple(dim(2), dims(2, 3), fc.constantFrom('DCR', 'CRD')).map(([channels, image, mode]) => ({
    op: 'DepthToSpace' as const,
    attrs: { blocksize: 2, mode },
    leaves: [normal(1, channels * 4, ...image)],
  })),
  CumSum: fc.tuple(dims(2, 3), fc.integer({ min: -2, max: 1 }), flag, flag).map(([shape, axis, exclusive, reverse]) => ({
    op: 'CumSum' as const,
    attrs: { exclusive, reverse },
    leaves: [normal(...shape)],
    constants: [Tensor.int64([], [axis])],
  })),
  Trilu: fc.tuple(dims(3, 3), fc.integer({ min: -2, max: 2 }), flag).map(([shape, k, upper]) => ({
    op: 'Trilu' as const,
    attrs: { upper },
    leaves: [normal(...shape)],
    constants: [Tensor.int64([], [k])],
  })),
};

const body =
  ({ op, attrs = {}, constants = [] }: Drawn) =>
  (b: GraphBuilder, leaves: Value[]): Value =>
    b.op(op, [...leaves, ...constants.map((tensor) => tensor && b.constant(tensor))], attrs as Attrs<OpType>);

describe('gradients over attributes and shapes drawn at random', () => {
  it.each(Object.entries(drawn))('%s', async (op, arbitrary) => {
    expect(gradientRules[op as OpType]).not.toBeNull();
    await fc.assert(
      fc.asyncProperty(arbitrary, async (one) => {
        expect(await gradientError(one.leaves, body(one), { opset: one.opset })).toBeLessThan(1e-2);
      }),
      { numRuns: 8, seed: 7 },
    );
  });
});
