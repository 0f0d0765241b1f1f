import type * as Tf from '@tensorflow/tfjs-core';
import type { Node } from '../../../ir/graph.js';
import type { OpType } from '../../../ir/ops.js';
import type { TfModule } from '../backend.js';
import { each, pairwise } from './host.js';
import { type Call, type Kernel, lacking, operand, tensorAt } from './kernel.js';

/** `y = f(x)` in float32. */
const unary =
  <K extends OpType>(f: (tf: TfModule, x: Tf.Tensor, call: Call<K>) => Tf.Tensor): Kernel<K> =>
  (call) =>
    f(call.tf, tensorAt(call, 0), call);

/** `y = f(x)`; wide integers go through plain JavaScript. */
const unaryOr =
  <K extends OpType>(f: (tf: TfModule, x: Tf.Tensor) => Tf.Tensor, integers: (v: number) => number): Kernel<K> =>
  (call) => {
    const x = operand(call, 0);
    return x.isWide ? each(call.tf, x.tensor, integers) : f(call.tf, x.tensor);
  };

type Binary = (tf: TfModule, a: Tf.Tensor, b: Tf.Tensor) => Tf.Tensor;

/** A broadcasting op of two inputs; wide integers go through plain JavaScript. Narrow ones would have to overflow. */
const binary =
  <K extends OpType>(f: Binary, integers: (x: number, y: number) => number): Kernel<K> =>
  (call) => {
    const [a, b] = [operand(call, 0), operand(call, 1)];
    if (!a.isFloat && !a.isWide) throw lacking(call.node, `arithmetic on ${a.dtype}`);
    return a.isWide ? pairwise(call.tf, a.tensor, b.tensor, integers) : f(call.tf, a.tensor, b.tensor);
  };

/** One element without axes: the WASM backend compares with that twenty times as fast as with a shape of ones. */
const plainScalar = (tf: TfModule, x: Tf.Tensor): Tf.Tensor => (x.size === 1 ? tf.reshape(x, []) : x);

/** A comparison of two inputs. */
const comparison =
  <K extends OpType>(f: Binary, integers: (x: number, y: number) => boolean): Kernel<K> =>
  (call) => {
    const [a, b] = [operand(call, 0), operand(call, 1)];
    const plain = a.isWide || a.dtype === 'bool';
    const tensor = plain
      ? pairwise(call.tf, a.tensor, b.tensor, (x, y) => (integers(x, y) ? 1 : 0), 'bool')
      : f(call.tf, plainScalar(call.tf, a.tensor), plainScalar(call.tf, b.tensor));
    return [{ tensor, dtype: 'bool' }];
  };

const logical =
  <K extends OpType>(f: Binary): Kernel<K> =>
  (call) => [{ tensor: f(call.tf, tensorAt(call, 0), tensorAt(call, 1)), dtype: 'bool' }];

/** Min and Max of any number of inputs. */
const variadic =
  <K extends OpType>(f: Binary, integers: (x: number, y: number) => number): Kernel<K> =>
  (call) => {
    const all = call.inputs.map((_, port) => operand(call, port));
    return all.map((one) => one.tensor).reduce((a, b) => (all[0]?.isWide ? pairwise(call.tf, a, b, integers) : f(call.tf, a, b)));
  };

/** The remainder with the sign of the divisor; of floats, and of integers with `fmod`, with that of the dividend. */
const mod: Kernel<'Mod'> = (call) => {
  const [a, b] = [operand(call, 0), operand(call, 1)];
  const f = call.node.attr('fmod') ? (x: number, y: number) => x % y : (x: number, y: number) => ((x % y) + y) % y;
  return pairwise(call.tf, a.tensor, b.tensor, f, a.isWide ? 'int32' : 'float32');
};

/** Integer division of ONNX rounds towards zero. */
const divide = (x: number, y: number) => Math.trunc(x / y);

/** Lower and upper bound may each be left out. */
const clip: Kernel<'Clip'> = (call) => {
  const { tf } = call;
  const x = operand(call, 0);
  const [low, high] = [call.inputs[1]?.numbers[0], call.inputs[2]?.numbers[0]];
  const [least, most] = [low ?? Number.NEGATIVE_INFINITY, high ?? Number.POSITIVE_INFINITY];
  if (x.isWide) return each(tf, x.tensor, (v) => Math.min(most, Math.max(least, v)));
  return tf.clipByValue(x.tensor, least, most);
};

/** Softmax and its logarithm over one axis: `x - max` first, so that nothing overflows. */
const softmax =
  <K extends 'Softmax' | 'LogSoftmax'>(log: boolean): Kernel<K> =>
  (call) => {
    const { tf } = call;
    const node: Node<'Softmax' | 'LogSoftmax'> = call.node;
    const x = tensorAt(call, 0);
    const axis = node.attr('axis');
    const shifted = tf.sub(x, tf.max(x, axis, true));
    const exponents = tf.exp(shifted);
    const sum = tf.sum(exponents, axis, true);
    return log ? tf.sub(shifted, tf.log(sum)) : tf.div(exponents, sum);
  };

const hard = (tf: TfModule, x: Tf.Tensor, alpha: number, beta: number) => tf.clipByValue(tf.add(tf.mul(x, alpha), beta), 0, 1);

export const elementwise = {
  Add: binary(
    (tf, a, b) => tf.add(a, b),
    (x, y) => x + y,
  ),
  Sub: binary(
    (tf, a, b) => tf.sub(a, b),
    (x, y) => x - y,
  ),
  Mul: binary(
    (tf, a, b) => tf.mul(a, b),
    (x, y) => x * y,
  ),
  Div: binary((tf, a, b) => tf.div(a, b), divide),
  Pow: binary(
    (tf, a, b) => tf.pow(a, b),
    (x, y) => x ** y,
  ),
  Mod: mod,
  Min: variadic((tf, a, b) => tf.minimum(a, b), Math.min),
  Max: variadic((tf, a, b) => tf.maximum(a, b), Math.max),
  Relu: unaryOr(
    (tf, x) => tf.relu(x),
    (v) => Math.max(0, v),
  ),
  LeakyRelu: unary((tf, x, { node }) => tf.leakyRelu(x, node.attr('alpha'))),
  PRelu: (call) => {
    const { tf } = call;
    const [x, slope] = [tensorAt(call, 0), tensorAt(call, 1)];
    return tf.add(tf.relu(x), tf.mul(slope, tf.minimum(x, 0)));
  },
  Clip: clip,
  Sigmoid: unary((tf, x) => tf.sigmoid(x)),
  Tanh: unary((tf, x) => tf.tanh(x)),
  HardSigmoid: unary((tf, x, { node }) => hard(tf, x, node.attr('alpha'), node.attr('beta'))),
  HardSwish: unary((tf, x) => tf.mul(x, hard(tf, x, 1 / 6, 0.5))),
  Softmax: softmax(false),
  LogSoftmax: softmax(true),
  Abs: unaryOr((tf, x) => tf.abs(x), Math.abs),
  Neg: unaryOr(
    (tf, x) => tf.neg(x),
    (v) => -v,
  ),
  Exp: unary((tf, x) => tf.exp(x)),
  Log: unary((tf, x) => tf.log(x)),
  Sqrt: unary((tf, x) => tf.sqrt(x)),
  Reciprocal: unary((tf, x) => tf.reciprocal(x)),
  Floor: unary((tf, x) => tf.floor(x)),
  Ceil: unary((tf, x) => tf.ceil(x)),
  Round: unary((_tf, x, { round }) => round(x)),
  Sign: unaryOr((tf, x) => tf.sign(x), Math.sign),
  Erf: unary((tf, x) => tf.erf(x)),
  Equal: comparison(
    (tf, a, b) => tf.equal(a, b),
    (x, y) => x === y,
  ),
  Greater: comparison(
    (tf, a, b) => tf.greater(a, b),
    (x, y) => x > y,
  ),
  GreaterOrEqual: comparison(
    (tf, a, b) => tf.greaterEqual(a, b),
    (x, y) => x >= y,
  ),
  Less: comparison(
    (tf, a, b) => tf.less(a, b),
    (x, y) => x < y,
  ),
  LessOrEqual: comparison(
    (tf, a, b) => tf.lessEqual(a, b),
    (x, y) => x <= y,
  ),
  And: logical((tf, a, b) => tf.logicalAnd(a, b)),
  Or: logical((tf, a, b) => tf.logicalOr(a, b)),
  Xor: logical((tf, a, b) => tf.logicalXor(a, b)),
  Not: (call) => [{ tensor: call.tf.logicalNot(tensorAt(call, 0)), dtype: 'bool' }],
  Where: (call) => {
    const [condition, a, b] = [tensorAt(call, 0), operand(call, 1), tensorAt(call, 2)];
    return [{ tensor: call.tf.where(condition, a.tensor, b), dtype: a.dtype }];
  },
  Dropout: (call) => {
    const x = operand(call, 0);
    if (call.inputs[2]?.numbers[0]) throw lacking(call.node, 'it is in training mode');
    return [{ tensor: x.tensor }, { tensor: call.tf.ones(x.shape, 'bool'), dtype: 'bool' }].slice(0, call.node.outputs.length) as {
      tensor: Tf.Tensor;
    }[];
  },
} satisfies { [K in OpType]?: Kernel<K> };
