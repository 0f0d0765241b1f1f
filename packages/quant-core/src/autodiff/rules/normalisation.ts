import { type GraphBuilder, staticShape } from '../../ir/builder.js';
import type { Node, Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import { type GradientRule, meanOver, normalised, optionalOutput, rule } from '../rule.js';

/** Inference form: y = (x - mean)·γ/√(σ²+ε) + β with constant statistics. */
const batchNormalization: GradientRule<'BatchNormalization'> = rule((node, dy, wanted, b) => {
  const rank = staticShape(node.input(0)).length;
  const axes = staticShape(node.input(0))
    .map((_, i) => i)
    .filter((i) => i !== 1);
  const channel = (value: Value) => b.reshape(value, [-1, ...new Array<number>(rank - 2).fill(1)]);
  const inverse = b.op('Reciprocal', [b.op('Sqrt', [b.op('Add', [node.input(4), b.scalar(node.attr('epsilon'))])])]);
  const centred = () => b.op('Mul', [b.op('Sub', [node.input(0), channel(node.input(3))]), channel(inverse)]);
  return [
    wanted[0] ? b.op('Mul', [dy, channel(b.op('Mul', [node.input(1), inverse]))]) : undefined,
    wanted[1] ? b.sum(b.op('Mul', [dy, centred()]), axes) : undefined,
    wanted[2] ? b.sum(dy, axes) : undefined,
    undefined,
    undefined,
  ];
});

/** 1/√(v + ε) */
const inverseRoot = (b: GraphBuilder, variance: Value, epsilon: number): Value =>
  b.op('Reciprocal', [b.op('Sqrt', [b.op('Add', [variance, b.scalar(epsilon)])])]);

/**
 * dx of x̂ = (x - mean)·r over `axes`, where r is 1/σ: r·(g - mean(g) - x̂·mean(g·x̂)) for the gradient g of x̂. Without centring, mean(g) falls away.
 */
function normGradient(b: GraphBuilder, g: Value, hat: Value, inverse: Value, axes: readonly number[], centred: boolean): Value {
  const along = b.op('Mul', [hat, meanOver(b, b.op('Mul', [g, hat]), axes)]);
  const across = centred ? b.op('Sub', [g, meanOver(b, g, axes)]) : g;
  return b.op('Mul', [inverse, b.op('Sub', [across, along])]);
}

/** Gradients of `x̂·scale + bias` where both broadcast to it. */
function affine(
  b: GraphBuilder,
  node: Node<OpType>,
  dy: Value,
  wanted: readonly boolean[],
  hat: Value,
  dx: (g: Value) => Value,
): (Value | undefined)[] {
  const shape = staticShape(node.input(0));
  const to = (port: number, value: Value) => b.unbroadcast(value, shape, staticShape(node.input(port)));
  return node.inputs.map((_, port) => {
    if (!wanted[port]) return undefined;
    if (port === 0) return dx(b.op('Mul', [dy, node.input(1)]));
    return to(port, port === 1 ? b.op('Mul', [dy, hat]) : dy);
  });
}

const trailing = (node: Node<'LayerNormalization' | 'RMSNormalization'>): number[] => {
  const rank = staticShape(node.input(0)).length;
  const first = normalised(node.attr('axis'), rank);
  return Array.from({ length: rank - first }, (_, i) => first + i);
};

/** Mean and 1/σ are outputs that the runtime computes anyway. */
const layerNorm: GradientRule<'LayerNormalization'> = rule((node, dy, wanted, b) => {
  const axes = trailing(node);
  const shape = staticShape(node.input(0));
  const reduced = shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
  const inverse = optionalOutput(b, node, 2, 'float32', reduced);
  const hat = b.op('Mul', [b.op('Sub', [node.input(0), node.output(1)]), inverse]);
  return affine(b, node, dy, wanted, hat, (g) => normGradient(b, g, hat, inverse, axes, true));
});

const rmsNorm: GradientRule<'RMSNormalization'> = rule((node, dy, wanted, b) => {
  const axes = trailing(node);
  const x = node.input(0);
  const inverse = inverseRoot(b, meanOver(b, b.op('Mul', [x, x]), axes), node.attr('epsilon'));
  const hat = b.op('Mul', [x, inverse]);
  return affine(b, node, dy, wanted, hat, (g) => normGradient(b, g, hat, inverse, axes, false));
});

/** Statistics of each sample over the channels of a group and all positions; scale and bias by channel (before opset 21 by group). */
function grouped(
  node: Node<OpType>,
  groups: number,
  epsilon: number,
  dy: Value,
  wanted: readonly boolean[],
  b: GraphBuilder,
): (Value | undefined)[] {
  const shape = staticShape(node.input(0));
  const [samples, channels] = shape as [number, number];
  const byGroup = [samples, groups, -1];
  const [x, g] = [b.reshape(node.input(0), byGroup), (value: Value) => b.reshape(value, byGroup)];
  const centred = b.op('Sub', [x, meanOver(b, x, [2])]);
  const inverse = inverseRoot(b, meanOver(b, b.op('Mul', [centred, centred]), [2]), epsilon);
  const hat = b.op('Mul', [centred, inverse]);
  const perChannel = [samples, channels, -1];
  const length = staticShape(node.input(1))[0] as number;
  const scale = b.op('Expand', [b.reshape(node.input(1), [length, 1]), b.ints([length, channels / length])]);
  const dyc = b.reshape(dy, perChannel);
  const dx = () => normGradient(b, g(b.op('Mul', [dyc, b.reshape(scale, [1, channels, 1])])), hat, inverse, [2], true);
  const summed = (value: Value) => b.sum(b.reshape(b.sum(value, [0, 2]), [length, channels / length]), [1]);
  return [
    wanted[0] ? b.reshape(dx(), shape) : undefined,
    wanted[1] ? summed(b.op('Mul', [dyc, b.reshape(hat, perChannel)])) : undefined,
    wanted[2] ? summed(dyc) : undefined,
  ];
}

/** y = x·s^-β with s = bias + α/size · Σ x² over neighbouring channels: dx = dy·s^-β - 2αβ/size · x·Σ dy·y/s over the same window. */
const lrn: GradientRule<'LRN'> = rule((node, dy, _wanted, b) => {
  const [x, y] = [node.input(0), node.output()];
  const shape = staticShape(x);
  const [samples, channels] = shape as [number, number];
  const size = node.attr('size');
  // ONNX Runtime takes windows of an odd size only.
  const reach = (size - 1) / 2;
  const [alpha, beta] = [node.attr('alpha'), node.attr('beta')];
  // The mean over a window of channels, zeros counted beyond the ends.
  const mean = (value: Value) =>
    b.reshape(
      b.op('AveragePool', [b.reshape(value, [samples, 1, channels, -1])], {
        kernel_shape: [size, 1],
        pads: [reach, 0, reach, 0],
        count_include_pad: 1,
      }),
      shape,
    );
  const s = b.op('Add', [b.op('Mul', [mean(b.op('Mul', [x, x])), b.scalar(alpha)]), b.scalar(node.attr('bias'))]);
  const share = mean(b.op('Div', [b.op('Mul', [dy, y]), s]));
  const direct = b.op('Mul', [dy, b.op('Pow', [s, b.scalar(-beta)])]);
  return [b.op('Sub', [direct, b.op('Mul', [b.op('Mul', [x, share]), b.scalar(2 * alpha * beta)])])];
});

/** y = x/n with n = ‖x‖ₚ: (dy - n'(x)·Σ dy·y) / n, where n' is y for p = 2 and sign x for p = 1. */
const lpNorm: GradientRule<'LpNormalization'> = rule((node, dy, _wanted, b) => {
  const [x, y] = [node.input(0), node.output()];
  const axis = b.ints([node.attr('axis')]);
  const l1 = node.attr('p') === 1;
  const norm = b.op(l1 ? 'ReduceL1' : 'ReduceL2', [x, axis], { keepdims: 1 });
  const dot = b.op('ReduceSum', [b.op('Mul', [dy, y]), axis], { keepdims: 1 });
  return [b.op('Div', [b.op('Sub', [dy, b.op('Mul', [l1 ? b.op('Sign', [x]) : y, dot])]), norm])];
});

export const normalisationRules = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: rule<'InstanceNormalization'>((node, dy, wanted, b) =>
    grouped(node, staticShape(node.input(0))[1] as number, node.attr('epsilon'), dy, wanted, b),
  ),
  GroupNormalization: rule<'GroupNormalization'>((node, dy, wanted, b) =>
    grouped(node, node.attr('num_groups'), node.attr('epsilon'), dy, wanted, b),
  ),
  LayerNormalization: layerNorm,
  RMSNormalization: rmsNorm,
  LRN: lrn,
  LpNormalization: lpNorm,
};
