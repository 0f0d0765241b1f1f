import { type GraphBuilder, staticShape } from '../../ir/builder.js';
import type { Node, Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import { toNumbers } from '../../tensor/tensor.js';
import { broadcast, elementwise, type GradientRule, normalised, rule, untrainable } from '../rule.js';

const mul = (b: GraphBuilder, a: Value, c: Value) => b.op('Mul', [a, c]);
const add = (b: GraphBuilder, a: Value, c: Value) => b.op('Add', [a, c]);
const oneMinus = (b: GraphBuilder, x: Value) => b.op('Sub', [b.scalar(1), x]);
const positive = (b: GraphBuilder, x: Value) => b.op('Greater', [x, b.scalar(0)]);
const where = (b: GraphBuilder, mask: Value, yes: Value, no: Value) => b.op('Where', [mask, yes, no]);

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

/** x^e: e·x^(e-1) and y·ln x. A constant exponent is one number in nearly every network. */
const pow: GradientRule<'Pow'> = broadcast((node, dy, b) => {
  const [x, exponent] = [node.input(0), node.input(1)];
  const constant = exponent.constant;
  const single = constant?.size === 1 ? Number(toNumbers(constant)[0]) : undefined;
  const floating = exponent.dtype === 'float32' ? exponent : b.toFloat(exponent);
  return [
    () => {
      if (single === 2) return mul(b, dy, mul(b, x, b.scalar(2)));
      if (single !== undefined) return mul(b, dy, mul(b, b.scalar(single), b.op('Pow', [x, b.scalar(single - 1)])));
      return mul(b, dy, mul(b, floating, b.op('Pow', [x, b.op('Sub', [floating, b.scalar(1)])])));
    },
    () => mul(b, dy, mul(b, node.output(), b.op('Log', [x]))),
  ];
});

const clip: GradientRule<'Clip'> = rule((node, dy, _wanted, b) => {
  const [x, low, high] = [node.input(0), node.inputs[1], node.inputs[2]];
  const above = low ? b.op('GreaterOrEqual', [x, low]) : undefined;
  const below = high ? b.op('LessOrEqual', [x, high]) : undefined;
  const mask = above && below ? b.op('And', [above, below]) : (above ?? below);
  return [mask ? b.masked(dy, mask) : dy, undefined, undefined];
});

const softmaxFamily = <K extends 'Softmax' | 'LogSoftmax'>(log: boolean): GradientRule<K> =>
  elementwise((b, dy, _x, y, node: Node<'Softmax' | 'LogSoftmax'>) => {
    const axis = normalised(node.attr('axis'), staticShape(y).length);
    // dx = y ⊙ (dy - Σ dy·y), and dx = dy - exp(y)·Σ dy for the logarithm.
    if (log) return b.op('Sub', [dy, mul(b, b.op('Exp', [y]), b.sum(dy, [axis], true))]);
    return mul(b, y, b.op('Sub', [dy, b.sum(mul(b, dy, y), [axis], true)]));
  });

/** The input itself where it is positive, `slope` of it elsewhere. */
const rectified = <K extends OpType>(
  slope: (b: GraphBuilder, x: Value, y: Value, node: Node<K>) => Value,
  gain?: (node: Node<K>) => number,
) => elementwise<K>((b, dy, x, y, node) => mul(b, dy, where(b, positive(b, x), b.scalar(gain ? gain(node) : 1), slope(b, x, y, node))));

const sqrt2 = Math.SQRT2;
const sqrt2OverPi = Math.sqrt(2 / Math.PI);

/** `x·Φ(x)`: Φ + x·φ; with the tanh form of Φ, its derivative. */
const gelu: GradientRule<'Gelu'> = elementwise((b, dy, x, _y, node) => {
  const square = mul(b, x, x);
  if (node.attr('approximate') === 'tanh') {
    const inner = mul(b, mul(b, x, b.scalar(sqrt2OverPi)), add(b, mul(b, square, b.scalar(0.044715)), b.scalar(1)));
    const t = b.op('Tanh', [inner]);
    const slope = mul(b, add(b, mul(b, square, b.scalar(3 * 0.044715)), b.scalar(1)), b.scalar(sqrt2OverPi));
    const rise = mul(b, mul(b, x, oneMinus(b, mul(b, t, t))), slope);
    return mul(b, dy, mul(b, add(b, add(b, t, b.scalar(1)), rise), b.scalar(0.5)));
  }
  const phi = mul(b, add(b, b.op('Erf', [mul(b, x, b.scalar(1 / sqrt2))]), b.scalar(1)), b.scalar(0.5));
  const density = mul(b, b.op('Exp', [mul(b, square, b.scalar(-0.5))]), b.scalar(1 / Math.sqrt(2 * Math.PI)));
  return mul(b, dy, add(b, phi, mul(b, x, density)));
});

/** `x·tanh(ln(1 + eˣ))`: with t for the tanh, t + x·(1 - t²)·σ(x). */
const mish: GradientRule<'Mish'> = elementwise((b, dy, x) => {
  const t = b.op('Tanh', [b.op('Softplus', [x])]);
  return mul(b, dy, add(b, t, mul(b, mul(b, x, oneMinus(b, mul(b, t, t))), b.op('Sigmoid', [x]))));
});

/** `x·σ(αx)`: σ·(1 + αx·(1 - σ)). */
const swish: GradientRule<'Swish'> = elementwise((b, dy, x, _y, node) => {
  const scaled = mul(b, x, b.scalar(node.attr('alpha')));
  const gate = b.op('Sigmoid', [scaled]);
  return mul(b, dy, mul(b, gate, add(b, b.scalar(1), mul(b, scaled, oneMinus(b, gate)))));
});

// y = x·clip(x/6 + 1/2, 0, 1): 0 below -3, 1 above 3, x/3 + 1/2 between.
const hardSwish: GradientRule<'HardSwish'> = elementwise((b, dy, x) => {
  const middle = add(b, mul(b, x, b.scalar(1 / 3)), b.scalar(0.5));
  const above = where(b, b.op('GreaterOrEqual', [x, b.scalar(3)]), b.scalar(1), middle);
  return mul(b, dy, where(b, b.op('LessOrEqual', [x, b.scalar(-3)]), b.scalar(0), above));
});

/** Remainder of a floored (or, with fmod, truncated) division: 1 for the dividend, minus the quotient for the divisor. */
const mod: GradientRule<'Mod'> = broadcast((node, dy, b) => [
  () => dy,
  () => b.op('Neg', [mul(b, dy, b.op('Round', [b.op('Div', [b.op('Sub', [node.input(0), node.output()]), node.input(1)])]))]),
]);

export const elementwiseRules = {
  Add: broadcast<'Add'>((_node, dy) => [() => dy, () => dy]),
  Sub: broadcast<'Sub'>((_node, dy, b) => [() => dy, () => b.op('Neg', [dy])]),
  Mul: broadcast<'Mul'>((node, dy, b) => [() => mul(b, dy, node.input(1)), () => mul(b, dy, node.input(0))]),
  Div: broadcast<'Div'>((node, dy, b) => [
    () => b.op('Div', [dy, node.input(1)]),
    () => b.op('Neg', [b.op('Div', [mul(b, dy, node.output()), node.input(1)])]),
  ]),
  Mod: mod,
  Pow: pow,
  Min: selection<'Min'>(),
  Max: selection<'Max'>(),
  Relu: elementwise<'Relu'>((b, dy, _x, y) => b.masked(dy, positive(b, y))),
  LeakyRelu: elementwise<'LeakyRelu'>((b, dy, x, _y, node) => where(b, positive(b, x), dy, mul(b, dy, b.scalar(node.attr('alpha'))))),
  PRelu: broadcast<'PRelu'>((node, dy, b) => {
    const mask = positive(b, node.input(0));
    return [() => where(b, mask, dy, mul(b, dy, node.input(1))), () => where(b, mask, b.scalar(0), mul(b, dy, node.input(0)))];
  }),
  // Below 0, y + α·γ is the slope of γ·α·(eˣ - 1).
  Elu: rectified<'Elu'>((b, _x, y, node) => add(b, y, b.scalar(node.attr('alpha')))),
  Selu: rectified<'Selu'>(
    (b, _x, y, node) => add(b, y, b.scalar(node.attr('alpha') * node.attr('gamma'))),
    (node) => node.attr('gamma'),
  ),
  Celu: rectified<'Celu'>((b, _x, y, node) => add(b, mul(b, y, b.scalar(1 / node.attr('alpha'))), b.scalar(1))),
  ThresholdedRelu: elementwise<'ThresholdedRelu'>((b, dy, x, _y, node) => b.masked(dy, b.op('Greater', [x, b.scalar(node.attr('alpha'))]))),
  Clip: clip,
  Sigmoid: elementwise<'Sigmoid'>((b, dy, _x, y) => mul(b, dy, mul(b, y, oneMinus(b, y)))),
  Tanh: elementwise<'Tanh'>((b, dy, _x, y) => mul(b, dy, oneMinus(b, mul(b, y, y)))),
  HardSigmoid: elementwise<'HardSigmoid'>((b, dy, _x, y, node) => {
    const inside = b.op('And', [positive(b, y), b.op('Less', [y, b.scalar(1)])]);
    return mul(b, b.masked(dy, inside), b.scalar(node.attr('alpha')));
  }),
  HardSwish: hardSwish,
  Softplus: elementwise<'Softplus'>((b, dy, x) => mul(b, dy, b.op('Sigmoid', [x]))),
  Softsign: elementwise<'Softsign'>((b, dy, x) => {
    const under = add(b, b.op('Abs', [x]), b.scalar(1));
    return b.op('Div', [dy, mul(b, under, under)]);
  }),
  Gelu: gelu,
  Mish: mish,
  Swish: swish,
  Softmax: softmaxFamily<'Softmax'>(false),
  LogSoftmax: softmaxFamily<'LogSoftmax'>(true),
  Abs: elementwise<'Abs'>((b, dy, x) => mul(b, dy, b.op('Sign', [x]))),
  Neg: elementwise<'Neg'>((b, dy) => b.op('Neg', [dy])),
  Exp: elementwise<'Exp'>((b, dy, _x, y) => mul(b, dy, y)),
  Log: elementwise<'Log'>((b, dy, x) => b.op('Div', [dy, x])),
  Sqrt: elementwise<'Sqrt'>((b, dy, _x, y) => b.op('Div', [dy, mul(b, y, b.scalar(2))])),
  Reciprocal: elementwise<'Reciprocal'>((b, dy, _x, y) => b.op('Neg', [mul(b, dy, mul(b, y, y))])),
  // Constant on either side of 0: whatever it multiplies learns, it does not.
  Sign: rule<'Sign'>(() => [undefined]),
  Sin: elementwise<'Sin'>((b, dy, x) => mul(b, dy, b.op('Cos', [x]))),
  Cos: elementwise<'Cos'>((b, dy, x) => b.op('Neg', [mul(b, dy, b.op('Sin', [x]))])),
  // d erf(x)/dx = 2/√π · exp(-x²)
  Erf: elementwise<'Erf'>((b, dy, x) => mul(b, dy, mul(b, b.scalar(2 / Math.sqrt(Math.PI)), b.op('Exp', [b.op('Neg', [mul(b, x, x)])])))),
  Where: rule<'Where'>((node, dy, wanted, b) => {
    const out = staticShape(node.output());
    const part = (port: 1 | 2) => {
      const zero = b.scalar(0);
      const chosen = where(b, node.input(0), port === 1 ? dy : zero, port === 1 ? zero : dy);
      return wanted[port] ? b.unbroadcast(chosen, out, staticShape(node.input(port))) : undefined;
    };
    return [undefined, part(1), part(2)];
  }),
  Cast: rule<'Cast'>((node, dy, _wanted, b) => {
    const from = node.input(0).dtype;
    const floating = from === 'float32' || from === 'float64' || from === 'float16';
    if (!floating && node.output().dtype === undefined) throw untrainable(node, 'the type of its input is not known');
    return [floating ? b.op('Cast', [dy], { to: from }) : undefined];
  }),
};
