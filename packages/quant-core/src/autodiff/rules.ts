import { type GraphBuilder, staticShape } from '../ir/builder.js';
import { type Node, Value } from '../ir/graph.js';
import type { OpType } from '../ir/ops.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { convGradient, offsets, windowOf } from './conv.js';

/**
 * Gradient of one op as graph: `dy[port]` is the gradient of each output (absent where nothing depends on it),
 * `wanted[port]` says which inputs need one. Returns one entry for each input.
 */
export type GradientRule<K extends OpType> = (
  node: Node<K>,
  dy: readonly (Value | undefined)[],
  wanted: readonly boolean[],
  b: GraphBuilder,
) => (Value | undefined)[];

/** A rule where only the gradient of the first output is of interest. */
const rule =
  <K extends OpType>(
    body: (node: Node<K>, dy: Value, wanted: readonly boolean[], b: GraphBuilder) => (Value | undefined)[],
  ): GradientRule<K> =>
  (node, dy, wanted, b) =>
    body(node, dy[0] as Value, wanted, b);

/** A rule for `y = f(x)`: given dy, x, y. */
const elementwise = <K extends OpType>(body: (b: GraphBuilder, dy: Value, x: Value, y: Value, node: Node<K>) => Value): GradientRule<K> =>
  rule((node, dy, _wanted, b) => [body(b, dy, node.input(0), node.output(), node)]);

/** A rule for a broadcasting op of two inputs: the gradients in the shape of the output. */
const broadcast = <K extends OpType>(body: (node: Node<K>, dy: Value, b: GraphBuilder) => [() => Value, () => Value]): GradientRule<K> =>
  rule((node, dy, wanted, b) =>
    body(node, dy, b).map((part, port) =>
      wanted[port] ? b.unbroadcast(part(), staticShape(node.output()), staticShape(node.input(port))) : undefined,
    ),
  );

/** The gradient goes back to where the elements came from. */
const restored = <K extends OpType>(): GradientRule<K> => rule((node, dy, _wanted, b) => [b.reshape(dy, staticShape(node.input(0)))]);

const constantInts = (value: Value | undefined): number[] | undefined =>
  value?.constant ? Array.from(value.constant.data as BigInt64Array, Number) : undefined;

const normalised = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);

/** Axes of a Reduce op, none given meaning all. */
function reducedAxes(
  node: Node<'ReduceMean'> | Node<'ReduceSum'> | Node<'ReduceMax'> | Node<'ReduceMin'> | Node<'ReduceSumSquare'>,
): number[] {
  const rank = staticShape(node.input(0)).length;
  const axes = constantInts(node.inputs[1]);
  if (!axes?.length) return node.attr('noop_with_empty_axes') ? [] : Array.from({ length: rank }, (_, i) => i);
  return axes.map((axis) => normalised(axis, rank));
}

const kept = (shape: readonly number[], axes: readonly number[]) => shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));

/** dy (or y) of a reduction, expanded to the shape of the input. */
function expanded(b: GraphBuilder, value: Value, shape: readonly number[], axes: readonly number[]): Value {
  return b.op('Expand', [b.reshape(value, kept(shape, axes)), b.ints(shape)]);
}

const reduction = <K extends 'ReduceMean' | 'ReduceSum'>(mean: boolean): GradientRule<K> =>
  rule((node, dy, _wanted, b) => {
    const shape = staticShape(node.input(0));
    const axes = reducedAxes(node as Node<'ReduceSum'>);
    const count = sizeOf(axes.map((axis) => shape[axis] as number));
    return [expanded(b, mean ? b.op('Mul', [dy, b.scalar(1 / count)]) : dy, shape, axes), undefined];
  });

/** Ties share the gradient equally. */
const extremum = <K extends 'ReduceMax' | 'ReduceMin'>(): GradientRule<K> =>
  rule((node, dy, _wanted, b) => {
    const x = node.input(0);
    const shape = staticShape(x);
    const axes = reducedAxes(node as Node<'ReduceMax'>);
    const hit = b.toFloat(b.op('Equal', [x, expanded(b, node.output(), shape, axes)]));
    const share = b.op('Div', [b.reshape(dy, kept(shape, axes)), b.sum(hit, axes, true)]);
    return [b.op('Mul', [hit, share]), undefined];
  });

/** Variadic Min/Max: the gradient goes to the first input that attains the value. */
const selection = <K extends 'Min' | 'Max'>(): GradientRule<K> =>
  rule((node, dy, wanted, b) => {
    const out = staticShape(node.output());
    let left: Value | undefined;
    return node.inputs.map((value, port) => {
      const hit = b.op('Equal', [value as Value, node.output()]);
      const mine = left ? b.op('And', [hit, left]) : hit;
      const missed = b.op('Not', [hit]);
      left = left ? b.op('And', [left, missed]) : missed;
      return wanted[port] ? b.unbroadcast(b.masked(dy, mine), out, staticShape(value as Value)) : undefined;
    });
  });

/** Rows of a matrix product: dA = dY·Bᵀ, dB = Aᵀ·dY, with batch dimensions broadcast. */
const matmul: GradientRule<'MatMul'> = rule((node, dy, wanted, b) => {
  const [a, w] = [node.input(0), node.input(1)];
  const [as, ws] = [staticShape(a), staticShape(w)];
  const ys = staticShape(node.output());
  if (as.length < 2 || ws.length < 2) throw new Error(`MatMul ${node.name}: vectors have no gradient rule`);
  if (ws.length === 2) {
    const [k, n] = ws as [number, number];
    const m = sizeOf(as) / k;
    const flat = b.reshape(dy, [m, n]);
    return [
      wanted[0] ? b.reshape(b.op('Gemm', [flat, w], { transB: 1 }), as) : undefined,
      wanted[1] ? b.op('Gemm', [as.length === 2 ? a : b.reshape(a, [m, k]), flat], { transA: 1 }) : undefined,
    ];
  }
  return [
    wanted[0]
      ? b.unbroadcast(b.op('FusedMatMul', [dy, w], { transB: 1 }), [...ys.slice(0, -2), as.at(-2) as number, as.at(-1) as number], as)
      : undefined,
    wanted[1]
      ? b.unbroadcast(b.op('FusedMatMul', [a, dy], { transA: 1 }), [...ys.slice(0, -2), ws.at(-2) as number, ws.at(-1) as number], ws)
      : undefined,
  ];
});

const gemm: GradientRule<'Gemm'> = rule((node, dy, wanted, b) => {
  const [a, w, c] = [node.input(0), node.input(1), node.inputs[2]];
  const [transA, transB, alpha, beta] = [node.attr('transA'), node.attr('transB'), node.attr('alpha'), node.attr('beta') as number];
  const da = transA
    ? b.op('Gemm', [w, dy], { transA: transB, transB: 1, alpha })
    : b.op('Gemm', [dy, w], { transB: transB ? 0 : 1, alpha });
  const dw = () =>
    transB ? b.op('Gemm', [dy, a], { transA: 1, transB: transA, alpha }) : b.op('Gemm', [a, dy], { transA: transA ? 0 : 1, alpha });
  const dc = () => {
    const summed = b.unbroadcast(dy, staticShape(node.output()), staticShape(c as Value));
    return beta === 1 ? summed : b.op('Mul', [summed, b.scalar(beta)]);
  };
  return [wanted[0] ? da : undefined, wanted[1] ? dw() : undefined, wanted[2] && c ? dc() : undefined];
});

const softmaxFamily = <K extends 'Softmax' | 'LogSoftmax'>(log: boolean): GradientRule<K> =>
  elementwise((b, dy, _x, y, node) => {
    const axis = normalised((node as Node<'Softmax'>).attr('axis') as number, staticShape(y).length);
    // dx = y ⊙ (dy - Σ dy·y), and dx = dy - exp(y)·Σ dy for the logarithm.
    if (log) return b.op('Sub', [dy, b.op('Mul', [b.op('Exp', [y]), b.sum(dy, [axis], true)])]);
    return b.op('Mul', [y, b.op('Sub', [dy, b.sum(b.op('Mul', [dy, y]), [axis], true)])]);
  });

/** The gradient goes to the first largest element of each window: ONNX Runtime names it in the second output. */
const maxPool: GradientRule<'MaxPool'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  if (!node.outputs[1]) {
    const indices = new Value(b.graph.freshName(`${node.name}_indices`), { dtype: 'int64', shape: staticShape(node.output()) });
    indices.producer = node as unknown as Node;
    indices.port = 1;
    node.outputs.push(indices);
  }
  const size = sizeOf(shape);
  const count = sizeOf(staticShape(node.output()));
  const zeros = b.op('ConstantOfShape', [b.ints([size])], { value: Tensor.float32([1], [0]) });
  const scattered = b.op('ScatterElements', [zeros, b.reshape(node.output(1), [count]), b.reshape(dy, [count])], {
    axis: 0,
    reduction: 'add',
  });
  return [b.reshape(scattered, shape)];
});

/** Each element of a window gets dy over the number of elements that were averaged. */
const averagePool: GradientRule<'AveragePool'> = rule((node, dy, _wanted, b) => {
  const xs = staticShape(node.input(0));
  const ys = staticShape(node.output());
  const w = windowOf(node, node.attr('kernel_shape') as readonly number[], xs.slice(2), ys.slice(2));
  const out = ys.slice(2);
  const count = new Float32Array(sizeOf(out));
  const taps = offsets(w.kernel);
  offsets(out).forEach((position, index) => {
    // A window that ceil_mode pushes past the padded image counts only what lies inside the padding.
    const inside = taps.filter((tap) =>
      tap.every((k, axis) => {
        const at = (position[axis] as number) * (w.strides[axis] as number) + k * (w.dilations[axis] as number) - (w.begin[axis] as number);
        const size = xs[axis + 2] as number;
        return node.attr('count_include_pad') ? at < size + (w.end[axis] as number) : at >= 0 && at < size;
      }),
    );
    count[index] = 1 / Math.max(1, inside.length);
  });
  const even = count.every((v) => v === count[0]);
  const scaled = b.op('Mul', [dy, even ? b.scalar(count[0] as number) : b.constant(Tensor.float32([1, 1, ...out], count), 'pool_share')]);
  // Scatter by adding: for every offset, place the scaled gradient at its strided positions.
  const padded = xs
    .slice(2)
    .map((size, i) =>
      Math.max(
        size + (w.begin[i] as number) + (w.end[i] as number),
        ((out[i] as number) - 1) * (w.strides[i] as number) + ((w.kernel[i] as number) - 1) * (w.dilations[i] as number) + 1,
      ),
    );
  const channels = xs[1] as number;
  const flat = b.reshape(scaled, [(xs[0] as number) * channels, 1, ...out]);
  const ones = b.constant(Tensor.float32([1, 1, ...w.kernel], new Float32Array(sizeOf(w.kernel)).fill(1)), 'pool_ones');
  const spread = b.op('ConvTranspose', [flat, ones], { kernel_shape: w.kernel, strides: w.strides, dilations: w.dilations });
  const reach = out.map(
    (size, i) => (size - 1) * (w.strides[i] as number) + ((w.kernel[i] as number) - 1) * (w.dilations[i] as number) + 1,
  );
  const full = b.pad(spread, [...new Array<number>(out.length + 2).fill(0), 0, 0, ...reach.map((size, i) => (padded[i] as number) - size)]);
  const axes = out.map((_, i) => i + 2);
  const cropped = b.slice(
    full,
    axes,
    w.begin,
    w.begin.map((begin, i) => begin + (xs[i + 2] as number)),
  );
  return [b.reshape(cropped, xs)];
});

const globalAverage: GradientRule<'GlobalAveragePool'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  return [b.op('Expand', [b.op('Mul', [dy, b.scalar(1 / sizeOf(shape.slice(2)))]), b.ints(shape)])];
});

const globalMax: GradientRule<'GlobalMaxPool'> = rule((node, dy, _wanted, b) => {
  const x = node.input(0);
  const axes = staticShape(x)
    .map((_, i) => i)
    .slice(2);
  const hit = b.toFloat(b.op('Equal', [x, node.output()]));
  return [b.op('Mul', [hit, b.op('Div', [dy, b.sum(hit, axes, true)])])];
});

/** Inference form: y = (x - mean)·γ/√(σ²+ε) + β with constant statistics. */
const batchNormalization: GradientRule<'BatchNormalization'> = rule((node, dy, wanted, b) => {
  const rank = staticShape(node.input(0)).length;
  const axes = staticShape(node.input(0))
    .map((_, i) => i)
    .filter((i) => i !== 1);
  const channel = (value: Value) => b.reshape(value, [-1, ...new Array<number>(rank - 2).fill(1)]);
  const inverse = b.op('Reciprocal', [b.op('Sqrt', [b.op('Add', [node.input(4), b.scalar(node.attr('epsilon') as number)])])]);
  const centred = () => b.op('Mul', [b.op('Sub', [node.input(0), channel(node.input(3))]), channel(inverse)]);
  return [
    wanted[0] ? b.op('Mul', [dy, channel(b.op('Mul', [node.input(1), inverse]))]) : undefined,
    wanted[1] ? b.sum(b.op('Mul', [dy, centred()]), axes) : undefined,
    wanted[2] ? b.sum(dy, axes) : undefined,
    undefined,
    undefined,
  ];
});

const transpose: GradientRule<'Transpose'> = rule((node, dy, _wanted, b) => {
  const rank = staticShape(node.input(0)).length;
  const perm = node.attr('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  const inverse = new Array<number>(rank);
  perm.forEach((from, to) => {
    inverse[from] = to;
  });
  return [b.op('Transpose', [dy], { perm: inverse })];
});

const concat: GradientRule<'Concat'> = rule((node, dy, wanted, b) => {
  const axis = normalised(node.attr('axis') as number, staticShape(node.output()).length);
  let start = 0;
  return node.inputs.map((value, port) => {
    const size = staticShape(value as Value)[axis] as number;
    start += size;
    return wanted[port] ? b.slice(dy, [axis], [start - size], [start]) : undefined;
  });
});

/** The gradient padded with zeros to where the slice was taken; steps other than 1 spread it first. */
const slice: GradientRule<'Slice'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const out = staticShape(node.output());
  const starts = constantInts(node.inputs[1]);
  const axes = constantInts(node.inputs[3]) ?? starts?.map((_, i) => i);
  const steps = constantInts(node.inputs[4]) ?? axes?.map(() => 1);
  if (!starts || !axes || !steps) throw new Error(`Slice ${node.name}: bounds are not constant`);
  let grad = dy;
  const begin = new Array<number>(shape.length).fill(0);
  const current = [...out];
  axes.forEach((raw, i) => {
    const axis = normalised(raw, shape.length);
    const dim = shape[axis] as number;
    const step = steps[i] as number;
    const size = out[axis] as number;
    let start = starts[i] as number;
    if (start < 0) start += dim;
    start = step > 0 ? Math.min(Math.max(start, 0), dim) : Math.min(Math.max(start, 0), dim - 1);
    const stride = Math.abs(step);
    if (step < 0) {
      grad = b.slice(grad, [axis], [size - 1], [-size - 1], [-1]);
      start += (size - 1) * step;
    }
    if (stride > 1) {
      const spread = [...current.slice(0, axis + 1), 1, ...current.slice(axis + 1)];
      const pads = new Array<number>(spread.length * 2).fill(0);
      pads[spread.length + axis + 1] = stride - 1;
      grad = b.pad(b.reshape(grad, spread), pads);
      current[axis] = size * stride;
      grad = b.slice(b.reshape(grad, current), [axis], [0], [(size - 1) * stride + 1]);
      current[axis] = (size - 1) * stride + 1;
    }
    begin[axis] = start;
  });
  const end = shape.map((dim, axis) => dim - (begin[axis] as number) - (current[axis] as number));
  return [b.pad(grad, [...begin, ...end]), undefined, undefined, undefined, undefined];
});

const pad: GradientRule<'Pad'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const pads = constantInts(node.inputs[1]);
  if (node.attr('mode') !== 'constant' || !pads) throw new Error(`Pad ${node.name}: only constant padding has a gradient`);
  const axes = (constantInts(node.inputs[3]) ?? shape.map((_, i) => i)).map((axis) => normalised(axis, shape.length));
  const begin = axes.map((_, i) => pads[i] as number);
  const sliced = b.slice(
    dy,
    axes,
    begin.map((p) => Math.max(p, 0)),
    axes.map(
      (axis, i) =>
        Math.max(begin[i] as number, 0) +
        (shape[axis] as number) +
        Math.min(begin[i] as number, 0) +
        Math.min(pads[axes.length + i] as number, 0),
    ),
  );
  const back = new Array<number>(shape.length * 2).fill(0);
  axes.forEach((axis, i) => {
    back[axis] = Math.max(0, -(begin[i] as number));
    back[shape.length + axis] = Math.max(0, -(pads[axes.length + i] as number));
  });
  return [b.pad(sliced, back), undefined, undefined, undefined];
});

const split: GradientRule<'Split'> = (node, dy, _wanted, b) => {
  const axis = normalised(node.attr('axis') as number, staticShape(node.input(0)).length);
  const parts = node.outputs.map(
    (value, port) => dy[port] ?? b.op('ConstantOfShape', [b.ints(staticShape(value))], { value: Tensor.float32([1], [0]) }),
  );
  return [b.op('Concat', parts, { axis }), undefined];
};

/** Rows are added up where an index occurs more than once. */
const gather: GradientRule<'Gather'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const axis = normalised(node.attr('axis') as number, shape.length);
  const indexShape = staticShape(node.input(1));
  const count = sizeOf(indexShape);
  const flat = [...shape.slice(0, axis), count, ...shape.slice(axis + 1)];
  const spread = b.op('Expand', [
    b.reshape(
      node.input(1),
      flat.map((dim, i) => (i === axis ? dim : 1)),
    ),
    b.ints(flat),
  ]);
  const zeros = b.op('ConstantOfShape', [b.ints(shape)], { value: Tensor.float32([1], [0]) });
  return [b.op('ScatterElements', [zeros, spread, b.reshape(dy, flat)], { axis, reduction: 'add' }), undefined];
});

const clip: GradientRule<'Clip'> = rule((node, dy, _wanted, b) => {
  const [x, low, high] = [node.input(0), node.inputs[1], node.inputs[2]];
  const above = low ? b.op('GreaterOrEqual', [x, low]) : undefined;
  const below = high ? b.op('LessOrEqual', [x, high]) : undefined;
  const mask = above && below ? b.op('And', [above, below]) : (above ?? below);
  return [mask ? b.masked(dy, mask) : dy, undefined, undefined];
});

const identity = <K extends OpType>(): GradientRule<K> =>
  rule((node, dy) => [dy, ...new Array<undefined>(Math.max(0, node.inputs.length - 1)).fill(undefined)]);

/**
 * One row an op; `null` says that there is no gradient. Formulas follow the definition of each operator in the ONNX
 * specification; every row meets finite differences in `rules.test.ts`.
 */
export const gradientRules: { readonly [K in OpType]: GradientRule<K> | null } = {
  Conv: rule(convGradient),
  ConvTranspose: null,
  Gemm: gemm,
  MatMul: matmul,
  Add: broadcast((_node, dy) => [() => dy, () => dy]),
  Sub: broadcast((_node, dy, b) => [() => dy, () => b.op('Neg', [dy])]),
  Mul: broadcast((node, dy, b) => [() => b.op('Mul', [dy, node.input(1)]), () => b.op('Mul', [dy, node.input(0)])]),
  Div: broadcast((node, dy, b) => [
    () => b.op('Div', [dy, node.input(1)]),
    () => b.op('Neg', [b.op('Div', [b.op('Mul', [dy, node.output()]), node.input(1)])]),
  ]),
  Pow: broadcast((node, dy, b) => [
    () => b.op('Mul', [dy, b.op('Mul', [node.input(1), b.op('Pow', [node.input(0), b.op('Sub', [node.input(1), b.scalar(1)])])])]),
    () => b.op('Mul', [dy, b.op('Mul', [node.output(), b.op('Log', [node.input(0)])])]),
  ]),
  Min: selection(),
  Max: selection(),
  Relu: elementwise((b, dy, _x, y) => b.masked(dy, b.op('Greater', [y, b.scalar(0)]))),
  LeakyRelu: elementwise((b, dy, x, _y, node) =>
    b.op('Where', [
      b.op('Greater', [x, b.scalar(0)]),
      dy,
      b.op('Mul', [dy, b.scalar((node as Node<'LeakyRelu'>).attr('alpha') as number)]),
    ]),
  ),
  PRelu: broadcast((node, dy, b) => {
    const positive = b.op('Greater', [node.input(0), b.scalar(0)]);
    return [
      () => b.op('Where', [positive, dy, b.op('Mul', [dy, node.input(1)])]),
      () => b.op('Where', [positive, b.scalar(0), b.op('Mul', [dy, node.input(0)])]),
    ];
  }),
  Clip: clip,
  Sigmoid: elementwise((b, dy, _x, y) => b.op('Mul', [dy, b.op('Mul', [y, b.op('Sub', [b.scalar(1), y])])])),
  Tanh: elementwise((b, dy, _x, y) => b.op('Mul', [dy, b.op('Sub', [b.scalar(1), b.op('Mul', [y, y])])])),
  HardSigmoid: elementwise((b, dy, _x, y, node) => {
    const inside = b.op('And', [b.op('Greater', [y, b.scalar(0)]), b.op('Less', [y, b.scalar(1)])]);
    return b.op('Mul', [b.masked(dy, inside), b.scalar((node as Node<'HardSigmoid'>).attr('alpha') as number)]);
  }),
  // y = x·clip(x/6 + 1/2, 0, 1): 0 below -3, 1 above 3, x/3 + 1/2 between.
  HardSwish: elementwise((b, dy, x) => {
    const middle = b.op('Add', [b.op('Mul', [x, b.scalar(1 / 3)]), b.scalar(0.5)]);
    const slope = b.op('Where', [
      b.op('LessOrEqual', [x, b.scalar(-3)]),
      b.scalar(0),
      b.op('Where', [b.op('GreaterOrEqual', [x, b.scalar(3)]), b.scalar(1), middle]),
    ]);
    return b.op('Mul', [dy, slope]);
  }),
  Softmax: softmaxFamily(false),
  LogSoftmax: softmaxFamily(true),
  Abs: elementwise((b, dy, x) => b.op('Mul', [dy, b.op('Sign', [x])])),
  Neg: elementwise((b, dy) => b.op('Neg', [dy])),
  Exp: elementwise((b, dy, _x, y) => b.op('Mul', [dy, y])),
  Log: elementwise((b, dy, x) => b.op('Div', [dy, x])),
  Sqrt: elementwise((b, dy, _x, y) => b.op('Div', [dy, b.op('Mul', [y, b.scalar(2)])])),
  Reciprocal: elementwise((b, dy, _x, y) => b.op('Neg', [b.op('Mul', [dy, b.op('Mul', [y, y])])])),
  Floor: null,
  Ceil: null,
  Round: null,
  Sign: null,
  // d erf(x)/dx = 2/√π · exp(-x²)
  Erf: elementwise((b, dy, x) =>
    b.op('Mul', [dy, b.op('Mul', [b.scalar(2 / Math.sqrt(Math.PI)), b.op('Exp', [b.op('Neg', [b.op('Mul', [x, x])])])])]),
  ),
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: globalAverage,
  GlobalMaxPool: globalMax,
  ReduceMean: reduction(true),
  ReduceSum: reduction(false),
  ReduceMax: extremum(),
  ReduceMin: extremum(),
  ReduceSumSquare: rule((node, dy, _wanted, b) => {
    const shape = staticShape(node.input(0));
    return [b.op('Mul', [b.op('Mul', [node.input(0), b.scalar(2)]), expanded(b, dy, shape, reducedAxes(node))]), undefined];
  }),
  ArgMax: null,
  BatchNormalization: batchNormalization,
  Dropout: identity(),
  Flatten: restored(),
  Reshape: rule((node, dy, _wanted, b) => [b.reshape(dy, staticShape(node.input(0))), undefined]),
  Transpose: transpose,
  Squeeze: rule((node, dy, _wanted, b) => [b.reshape(dy, staticShape(node.input(0))), undefined]),
  Unsqueeze: rule((node, dy, _wanted, b) => [b.reshape(dy, staticShape(node.input(0))), undefined]),
  Concat: concat,
  Slice: slice,
  Pad: pad,
  Split: split,
  Gather: gather,
  Expand: rule((node, dy, _wanted, b) => [b.unbroadcast(dy, staticShape(node.output()), staticShape(node.input(0))), undefined]),
  Identity: identity(),
  Cast: rule((node, dy, _wanted, b) => {
    const from = node.input(0).dtype;
    const floating = from === 'float32' || from === 'float64' || from === 'float16';
    return [floating ? b.op('Cast', [dy], { to: from }) : undefined];
  }),
  Shape: null,
  Constant: null,
  ConstantOfShape: null,
  Equal: null,
  Greater: null,
  GreaterOrEqual: null,
  Less: null,
  LessOrEqual: null,
  And: null,
  Or: null,
  Not: null,
  Where: rule((node, dy, wanted, b) => {
    const out = staticShape(node.output());
    const part = (port: 1 | 2) => {
      const zero = b.scalar(0);
      const chosen = b.op('Where', [node.input(0), port === 1 ? dy : zero, port === 1 ? zero : dy]);
      return wanted[port] ? b.unbroadcast(chosen, out, staticShape(node.input(port))) : undefined;
    };
    return [undefined, part(1), part(2)];
  }),
  ScatterElements: null,
  QuantizeLinear: null,
  DequantizeLinear: null,
  FusedMatMul: null,
  Opaque: null,
};
