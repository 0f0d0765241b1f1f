import type { GraphBuilder } from '../../ir/builder.js';
import { Tensor } from '../../tensor/tensor.js';
import { at, type GradientCase, type GradientCases, leaf, spaced, unary } from './cases.js';

const ints = (b: GraphBuilder, ...values: number[]) => b.ints(values);
const matrix = (b: GraphBuilder, shape: number[], values: number[]) => b.constant(Tensor.int64(shape, values), 'indices');
const padded = (mode: string, x: number[], pads: number[]): GradientCase => ({
  what: `${mode} [${pads}]`,
  leaves: [leaf(...x)],
  body: (b, l) => b.op('Pad', [at(l, 0), b.ints(pads)], { mode }),
  opset: 19,
});
const scaled = (what: string, x: number[], scales: number[], attrs: object): GradientCase => ({
  what: `${what} ${JSON.stringify(attrs)}`,
  leaves: [leaf(...x)],
  body: (b, l) => b.op('Resize', [at(l, 0), undefined, b.constant(Tensor.float32([scales.length], scales))], attrs as never),
  opset: 19,
});
const sized = (what: string, x: number[], sizes: number[], attrs: object): GradientCase => ({
  what: `${what} ${JSON.stringify(attrs)}`,
  leaves: [leaf(...x)],
  body: (b, l) => b.op('Resize', [at(l, 0), undefined, undefined, b.ints(sizes)], attrs as never),
  opset: 19,
});

/** Ops that move, pick or repeat elements. */
export const movementCases: GradientCases = {
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
    padded('reflect', [2, 4], [0, 2, 1, 3]),
    padded('edge', [2, 3], [1, 2, 0, 1]),
    padded('wrap', [2, 3], [0, 2, 1, 1]),
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
    {
      what: 'an embedding, counted from the end',
      leaves: [leaf(5, 3)],
      body: (b, l) => b.op('Gather', [at(l, 0), matrix(b, [2, 3], [0, -1, 2, -5, 4, 4])]),
    },
  ],
  GatherElements: [
    {
      what: 'axis 1, one twice',
      leaves: [leaf(2, 4)],
      body: (b, l) => b.op('GatherElements', [at(l, 0), matrix(b, [2, 3], [3, 0, 3, 1, -1, 2])], { axis: 1 }),
    },
  ],
  GatherND: [
    { what: 'rows', leaves: [leaf(3, 4)], body: (b, l) => b.op('GatherND', [at(l, 0), matrix(b, [3, 1], [2, 0, 2])]) },
    { what: 'elements', leaves: [leaf(3, 4)], body: (b, l) => b.op('GatherND', [at(l, 0), matrix(b, [3, 2], [2, 1, 0, 3, 2, 1])]) },
    {
      what: 'a batch axis',
      leaves: [leaf(2, 3, 2)],
      body: (b, l) => b.op('GatherND', [at(l, 0), matrix(b, [2, 2, 1], [1, 0, 2, 2])], { batch_dims: 1 }),
    },
  ],
  ScatterElements: ['none', 'add'].map((reduction) => ({
    what: reduction,
    leaves: [leaf(3, 4), leaf(2, 2)],
    body: (b, l) => b.op('ScatterElements', [at(l, 0), matrix(b, [2, 2], [1, 3, 0, 2]), at(l, 1)], { axis: 1, reduction }),
  })),
  ScatterND: ['none', 'add'].map((reduction) => ({
    what: reduction,
    leaves: [leaf(4, 3), leaf(2, 3)],
    body: (b, l) => b.op('ScatterND', [at(l, 0), matrix(b, [2, 1], [3, 1]), at(l, 1)], { reduction }),
  })),
  TopK: [
    {
      what: 'two largest',
      leaves: [spaced(3, 5)],
      body: (b, l) => b.node('TopK', [at(l, 0), ints(b, 2)], { axis: 1 }, 2).output(),
    },
  ],
  Expand: [{ what: '', leaves: [leaf(2, 1, 3)], body: (b, l) => b.op('Expand', [at(l, 0), ints(b, 4, 2, 5, 3)]) }],
  Tile: [{ what: '', leaves: [leaf(2, 1, 3)], body: (b, l) => b.op('Tile', [at(l, 0), ints(b, 2, 3, 2)]) }],
  DepthToSpace: [
    unary('DepthToSpace', leaf(2, 8, 2, 3), { blocksize: 2 }),
    unary('DepthToSpace', leaf(1, 8, 2, 3), { blocksize: 2, mode: 'CRD' }),
  ],
  SpaceToDepth: [unary('SpaceToDepth', leaf(2, 2, 4, 6), { blocksize: 2 })],
  Resize: [
    scaled('twice', [1, 2, 2, 3], [1, 1, 2, 2], { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }),
    scaled('by 1.5', [1, 1, 4, 2], [1, 1, 1.5, 2.5], {}),
    scaled('shrunk', [1, 1, 5, 4], [1, 1, 0.6, 0.5], { mode: 'linear' }),
    scaled('grown', [1, 2, 3, 3], [1, 1, 2, 1.7], { mode: 'linear', coordinate_transformation_mode: 'align_corners' }),
    scaled('1-D', [2, 2, 4], [1, 1, 2], { mode: 'linear', coordinate_transformation_mode: 'pytorch_half_pixel' }),
    scaled('cubic', [1, 1, 4, 5], [1, 1, 2, 1.5], { mode: 'cubic', coordinate_transformation_mode: 'half_pixel' }),
    scaled('cubic, inside only', [1, 1, 4, 5], [1, 1, 1.5, 2], { mode: 'cubic', exclude_outside: 1, cubic_coeff_a: -0.5 }),
    sized('to a size', [1, 2, 3, 4], [1, 2, 5, 6], { mode: 'linear', coordinate_transformation_mode: 'half_pixel_symmetric' }),
    sized('two axes', [1, 2, 3, 4], [7, 2], { axes: [2, 3], nearest_mode: 'ceil' }),
  ],
  Identity: [unary('Identity', leaf(2, 3))],
  Trilu: [
    unary('Trilu', leaf(2, 3, 3)),
    {
      what: 'below the diagonal',
      leaves: [leaf(3, 4)],
      body: (b, l) => b.op('Trilu', [at(l, 0), b.constant(Tensor.int64([], [-1]))], { upper: 0 }),
    },
  ],
};
