import { describe, expect, it } from 'vitest';
import { OctetError } from '../errors.js';
import { Tensor } from '../tensor/tensor.js';
import { type Dim, Graph, type Value } from './graph.js';
import { bindDims, inferShapes } from './infer.js';

const float = (graph: Graph, ...shape: Dim[]): Value => graph.input('x', { dtype: 'float32', shape });
const weights = (graph: Graph, ...shape: number[]): Value => graph.constant('w', Tensor.zeros('float32', shape));
const ints = (graph: Graph, ...values: number[]): Value => graph.constant('i', Tensor.ints(values));

function shapeAfter(build: (graph: Graph) => Value): readonly Dim[] | undefined {
  const graph = new Graph();
  const out = build(graph);
  graph.outputs.push(out);
  inferShapes(graph);
  return out.shape;
}

function failure(build: (graph: Graph) => Value): OctetError {
  try {
    shapeAfter(build);
  } catch (error) {
    if (error instanceof OctetError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('sliding windows', () => {
  const conv = (attrs: Record<string, unknown>, x: Dim[], w: number[]) =>
    shapeAfter((g) => g.node('Conv', [float(g, ...x), weights(g, ...w)], attrs).output());
  it.each([
    [{ pads: [1, 1, 1, 1] }, ['N', 3, 32, 32], [16, 3, 3, 3], ['N', 16, 32, 32]],
    [{ strides: [2, 2], pads: [0, 0, 1, 1] }, ['N', 3, 32, 32], [16, 3, 3, 3], ['N', 16, 16, 16]],
    [{ dilations: [2, 3] }, [1, 3, 32, 32], [16, 3, 3, 3], [1, 16, 28, 26]],
    [{ auto_pad: 'SAME_UPPER', strides: [2, 2] }, ['N', 3, 31, 32], [8, 3, 3, 3], ['N', 8, 16, 16]],
    [{ auto_pad: 'VALID', strides: [2] }, ['N', 3, 31], [8, 3, 4], ['N', 8, 14]],
    [{ group: 3 }, ['N', 3, 8, 8, 8], [6, 1, 3, 3, 3], ['N', 6, 6, 6, 6]],
    [{ pads: [1, 1, 1, 1], strides: [2, 2] }, ['N', 3, 'H', 'W'], [16, 3, 3, 3], ['N', 16, 'floor(H + 1 / 2)', 'floor(W + 1 / 2)']],
  ] as [Record<string, unknown>, Dim[], number[], Dim[]][])('Conv %j on %j with %j', (attrs, x, w, expected) => {
    expect(conv(attrs, x, w)).toEqual(expected);
  });

  it.each([
    [{ kernel_shape: [2, 2], strides: [2, 2] }, ['N', 4, 7, 7], ['N', 4, 3, 3]],
    [{ kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }, ['N', 4, 7, 7], ['N', 4, 4, 4]],
    // The last window would start in the padding.
    [{ kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1, pads: [1, 1, 1, 1] }, [1, 4, 4, 5], [1, 4, 3, 3]],
    [{ kernel_shape: [1], strides: [3], ceil_mode: 1 }, [1, 4, 5], [1, 4, 2]],
    [{ kernel_shape: [3], dilations: [3] }, [1, 4, 10], [1, 4, 4]],
  ] as [Record<string, unknown>, Dim[], Dim[]][])('MaxPool %j on %j', (attrs, x, expected) => {
    expect(shapeAfter((g) => g.node('MaxPool', [float(g, ...x)], attrs).output())).toEqual(expected);
  });

  it.each([
    [{ strides: [2, 2] }, [4, 8, 3, 3], ['N', 8, 15, 15]],
    [{ strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] }, [4, 8, 3, 3], ['N', 8, 14, 14]],
    [{ strides: [2, 2], auto_pad: 'SAME_UPPER' }, [4, 8, 3, 3], ['N', 8, 14, 14]],
    [{ output_shape: [13, 15], strides: [2, 2] }, [4, 8, 3, 3], ['N', 8, 13, 15]],
    [{ group: 2 }, [4, 8, 1, 1], ['N', 16, 7, 7]],
  ] as [Record<string, unknown>, number[], Dim[]][])('ConvTranspose %j with %j', (attrs, w, expected) => {
    expect(shapeAfter((g) => g.node('ConvTranspose', [float(g, 'N', 4, 7, 7), weights(g, ...w)], attrs).output())).toEqual(expected);
  });

  it('refuses channels that do not fit, naming node and tensor', () => {
    const error = failure((g) => g.node('Conv', [float(g, 'N', 4, 8, 8), weights(g, 16, 3, 3, 3)], {}, { name: 'conv1' }).output());
    expect(error.code).toBe('MODEL_SHAPE');
    expect(error.place).toEqual({ node: 'conv1', op: 'Conv', tensor: 'x' });
    expect(error.message).toContain('4 channels');
  });

  it.each([
    ['a window larger than the input', {}, [1, 3, 2, 8], [4, 3, 3, 3]],
    ['a zero stride', { strides: [0, 1] }, [1, 3, 8, 8], [4, 3, 3, 3]],
    ['pads of the wrong length', { pads: [1, 1] }, [1, 3, 8, 8], [4, 3, 3, 3]],
    ['a rank that does not fit', {}, [1, 3, 8], [4, 3, 3, 3]],
    ['a kernel_shape that is not that of the weights', { kernel_shape: [5, 5] }, [1, 3, 8, 8], [4, 3, 3, 3]],
    ['group 0', { group: 0 }, [1, 3, 8, 8], [4, 3, 3, 3]],
    ['sizes beyond reason', { pads: [2 ** 40, 2 ** 40, 0, 0] }, [1, 3, 8, 8], [4, 3, 3, 3]],
    ['an input of size zero', {}, [1, 3, 0, 8], [4, 3, 3, 3]],
  ] as [string, Record<string, unknown>, Dim[], number[]][])('refuses %s', (_, attrs, x, w) => {
    expect(failure((g) => g.node('Conv', [float(g, ...x), weights(g, ...w)], attrs).output()).code).toBe('MODEL_SHAPE');
  });
});

describe('products and broadcasting', () => {
  const pair = (op: 'MatMul' | 'Add' | 'Gemm' | 'FusedMatMul', a: Dim[], b: Dim[], attrs = {}) =>
    shapeAfter((g) => g.node(op, [float(g, ...a), g.input('y', { dtype: 'float32', shape: b })], attrs as Record<never, never>).output());
  it('multiplies', () => {
    expect(pair('Gemm', ['N', 64], [64, 10])).toEqual(['N', 10]);
    expect(pair('Gemm', ['N', 64], [10, 64], { transB: 1 })).toEqual(['N', 10]);
    expect(pair('MatMul', ['N', 4, 7, 64], [64, 10])).toEqual(['N', 4, 7, 10]);
    expect(pair('MatMul', [64], [64, 10])).toEqual([10]);
    expect(pair('MatMul', ['N', 1, 5, 6], [3, 6, 2])).toEqual(['N', 3, 5, 2]);
    expect(pair('FusedMatMul', ['N', 6, 5], ['N', 6, 2], { transA: 1 })).toEqual(['N', 5, 2]);
    expect(() => pair('MatMul', ['N', 64], [32, 10])).toThrow(/inner dimensions/);
    expect(() => pair('Gemm', ['N', 64], [64, 10], { transB: 1 })).toThrow(/inner dimensions/);
  });
  it('broadcasts', () => {
    expect(pair('Add', ['N', 3, 8, 8], [3, 1, 1])).toEqual(['N', 3, 8, 8]);
    expect(pair('Add', ['N', 1], [1, 5])).toEqual(['N', 5]);
    expect(pair('Add', [1], ['N'])).toEqual(['N']);
    expect(pair('Add', ['N'], ['M'])).toEqual(['max(M, N)']);
    expect(() => pair('Add', ['N', 3], [4])).toThrow(/do not broadcast/);
  });
});

describe('moving data', () => {
  const reshape = (x: Dim[], ...target: number[]) => shapeAfter((g) => g.node('Reshape', [float(g, ...x), ints(g, ...target)]).output());
  it('divides symbols out of a reshape', () => {
    expect(reshape(['N', 16, 7, 7], -1, 784)).toEqual(['N', 784]);
    expect(reshape(['N', 16, 7, 7], 0, -1)).toEqual(['N', 784]);
    expect(reshape(['N', 16, 7, 7], -1, 49)).toEqual(['16*N', 49]);
    expect(reshape(['N', 'H', 'W', 4], 0, -1)).toEqual(['N', '4*H*W']);
    expect(reshape(['N', 12], -1)).toEqual(['12*N']);
    expect(reshape([2, 12], 3, -1)).toEqual([3, 8]);
    expect(() => reshape([2, 12], 5, -1)).toThrow(/cannot be reshaped/);
    expect(() => reshape(['N', 12], 0, 13)).toThrow(/cannot be reshaped/);
    expect(() => reshape(['N', 12], -1, -1)).toThrow(/two open/);
    expect(() => reshape([2, 12], 0, 0, 0)).toThrow(/copies dimension 2/);
  });
  it('flattens', () => {
    const flatten = (axis: number) => shapeAfter((g) => g.node('Flatten', [float(g, 'N', 16, 7, 'W')], { axis }).output());
    expect([flatten(1), flatten(0), flatten(-1), flatten(4)]).toEqual([
      ['N', '112*W'],
      [1, '112*N*W'],
      ['112*N', 'W'],
      ['112*N*W', 1],
    ]);
  });
  const slice = (x: Dim[], start: number, end: number, axis: number, step: number) =>
    shapeAfter((g) => g.node('Slice', [float(g, ...x), ints(g, start), ints(g, end), ints(g, axis), ints(g, step)]).output());
  const far = Number.MAX_SAFE_INTEGER;
  it.each([
    [['N', 8], 1, far, 1, 1, ['N', 7]],
    [['N', 8], -3, far, 1, 1, ['N', 3]],
    [['N', 8], 0, -1, 1, 2, ['N', 4]],
    [['N', 8], -1, -far, 1, -1, ['N', 8]],
    [['N', 8], 6, 1, 1, -2, ['N', 3]],
    [['N', 8], 0, far, 0, 1, ['N', 8]],
    [['N', 8], 0, 1, 0, 1, [1, 8]],
    [['N', 8], 1, far, 0, 1, ['N - 1', 8]],
    [['N', 'W'], -1, -far, 1, -1, ['N', 'W']],
    [['N', 'W'], 0, far, 1, 2, ['N', 'floor(W + 1 / 2)']],
  ] as [Dim[], number, number, number, number, Dim[]][])('Slice of %j from %i to %i on %i by %i', (x, start, end, axis, step, expected) => {
    expect(slice(x, start, end, axis, step)).toEqual(expected);
  });
  it('refuses an empty slice', () => expect(() => slice(['N', 8], 5, 3, 1, 1)).toThrow(/empty/));
  it('pads, crops, splits, joins and gathers', () => {
    expect(shapeAfter((g) => g.node('Pad', [float(g, 'N', 3, 8), ints(g, 0, 0, 1, 0, 0, -2)]).output())).toEqual(['N', 3, 7]);
    expect(shapeAfter((g) => g.node('Split', [float(g, 'N', 8), ints(g, 3, 5)], { axis: 1 }, { outputs: 2 }).output(1))).toEqual(['N', 5]);
    expect(shapeAfter((g) => g.node('Split', [float(g, 'N', 7)], { axis: 1, num_outputs: 3 }, { outputs: 3 }).output(2))).toEqual(['N', 1]);
    expect(
      shapeAfter((g) => g.node('Concat', [float(g, 'N', 3), g.input('y', { dtype: 'float32', shape: ['N', 4] })], { axis: 1 }).output()),
    ).toEqual(['N', 7]);
    expect(
      shapeAfter((g) => g.node('Gather', [float(g, 'N', 8, 5), g.constant('i', Tensor.int64([], [2]))], { axis: 1 }).output()),
    ).toEqual(['N', 5]);
    expect(shapeAfter((g) => g.node('ReduceMean', [float(g, 'N', 8, 5), ints(g, -1, 1)], { keepdims: 0 }).output())).toEqual(['N']);
    expect(shapeAfter((g) => g.node('Transpose', [float(g, 'N', 8, 5)], { perm: [2, 0, 1] }).output())).toEqual([5, 'N', 8]);
    expect(() => shapeAfter((g) => g.node('Gather', [float(g, 'N', 8), ints(g, 9)], { axis: 1 }).output())).toThrow(/index 9/);
  });
});

describe('shape arithmetic', () => {
  it('follows Shape → Gather → Concat → Reshape', () => {
    const out = shapeAfter((g) => {
      const x = float(g, 'N', 16, 7, 7);
      const n = g.node('Gather', [g.node('Shape', [x]).output(), g.constant('zero', Tensor.int64([], [0]))]).output();
      const target = g
        .node('Concat', [g.node('Unsqueeze', [n, ints(g, 0)]).output(), g.constant('rest', Tensor.ints([-1]))], { axis: 0 })
        .output();
      return g.node('Reshape', [x, target]).output();
    });
    expect(out).toEqual(['N', 784]);
  });
  it('follows arithmetic, slices and Expand guarded by Where', () => {
    const out = shapeAfter((g) => {
      const x = float(g, 'N', 1, 7, 7);
      const last = g.node('Slice', [g.node('Shape', [x]).output(), ints(g, 2), ints(g, 99)]).output();
      const doubled = g.node('Div', [g.node('Mul', [last, ints(g, 4)]).output(), ints(g, 2)]).output();
      const y = g.node('ConstantOfShape', [g.node('Concat', [ints(g, 5), doubled], { axis: 0 }).output()]).output();
      const wish = g.node('Concat', [g.node('Shape', [x], { end: 1 }).output(), ints(g, -1, 14, 14)], { axis: 0 }).output();
      const ones = g.node('ConstantOfShape', [ints(g, 4)], { value: Tensor.int64([1], [1]) }).output();
      const minusOne = ints(g, -1);
      return g.node('Expand', [y, g.node('Where', [g.node('Equal', [wish, minusOne]).output(), ones, wish]).output()]).output();
    });
    expect(out).toEqual(['N', 5, 14, 14]);
  });
  it('returns what is known', () => {
    const g = new Graph();
    const shape = g.node('Shape', [float(g, 'N', 3)]).output();
    expect(inferShapes(g).get(shape)).toEqual(['N', 3]);
  });
});

describe('element types', () => {
  it('follows them', () => {
    const g = new Graph();
    const x = float(g, 'N', 4);
    const scale = g.constant('s', Tensor.scalar(1));
    const signed = g.constant('z', Tensor.zeros('int8', []));
    const q = g.node('QuantizeLinear', [x, scale]).output();
    const s = g.node('QuantizeLinear', [x, scale, signed]).output();
    const clipped = g.node('Clip', [q, g.constant('l', Tensor.zeros('uint8', []))]).output();
    const d = g.node('DequantizeLinear', [s, scale, signed]).output();
    const more = g.node('Greater', [x, scale]).output();
    const cast = g.node('Cast', [x], { to: 'int32' }).output();
    inferShapes(g, { strict: true });
    expect([q, s, clipped, d, more, cast].map((v) => v.dtype)).toEqual(['uint8', 'int8', 'uint8', 'float32', 'bool', 'int32']);
  });
  it('refuses types that do not go together', () => {
    expect(failure((g) => g.node('Add', [float(g, 'N'), ints(g, 1)]).output()).code).toBe('MODEL_DTYPE');
    expect(failure((g) => g.node('Sigmoid', [ints(g, 1)]).output()).code).toBe('MODEL_DTYPE');
  });
});

describe('opaque nodes and binding', () => {
  function withOpaque(): Graph {
    const g = new Graph();
    const opaque = g.node('Opaque', [float(g, 'N', 4)], {}, { name: 'custom' });
    g.outputs.push(g.node('Relu', [opaque.output()]).output());
    return g;
  }
  it('keeps the noted type of an opaque node, and knows nothing after one without', () => {
    const g = withOpaque();
    inferShapes(g);
    expect(g.outputs[0]?.type).toBeUndefined();
    expect(() => inferShapes(g, { strict: true })).toThrow(/custom/);
    (g.nodes[0]?.outputs[0] as Value).type = { dtype: 'float32', shape: ['N', 9] };
    bindDims(g, { N: 6 });
    expect(g.outputs[0]?.shape).toEqual([6, 9]);
  });
  it('makes every shape static', () => {
    const g = new Graph();
    const x = float(g, 'N', 2, 'H');
    const flat = g.node('Flatten', [x], { axis: 0 }).output();
    bindDims(g, { N: 3, H: 5 });
    expect(flat.shape).toEqual([1, 30]);
  });
  it('names what stays open', () => {
    const g = new Graph();
    float(g, 'N', 'H');
    expect(() => bindDims(g, { N: 3 })).toThrow(/"x".*H/);
    const h = new Graph();
    const n = h.input('n', { dtype: 'int64', shape: [1] });
    h.node('ConstantOfShape', [n], {}, { name: 'filled' });
    expect(() => bindDims(h, {})).toThrow(/filled/);
  });
});

it.each([
  ['axis', (g: Graph) => g.node('Concat', [float(g, 2, 3)])],
  ['size', (g: Graph) => g.node('LRN', [float(g, 1, 3, 4, 4)])],
  ['kernel_shape', (g: Graph) => g.node('MaxPool', [float(g, 1, 3, 4, 4)])],
  ['equation', (g: Graph) => g.node('Einsum', [float(g, 2, 3)])],
  ['to', (g: Graph) => g.node('Cast', [float(g, 2)])],
] as const)('refuses a node without the required attribute %s', (name, make) => {
  const error = failure((g) => make(g).output());
  expect(error.code).toBe('MODEL_INVALID');
  expect(error.message).toContain(`${name} is missing`);
});
