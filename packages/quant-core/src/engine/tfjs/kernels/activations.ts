import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import type { TfModule } from '../backend.js';
import { type Call, type Kernel, tensorAt } from './kernel.js';

/** Activations that are put together of others; formulas as in the ONNX specification. */
const of =
  <K extends OpType>(f: (tf: TfModule, x: Tf.Tensor, node: Call<K>['node']) => Tf.Tensor): Kernel<K> =>
  (call) =>
    f(call.tf, tensorAt(call, 0), call.node);

/** `max(x, 0) + factor · (exp(min(x, 0) / by) - 1)` */
const elu = (tf: TfModule, x: Tf.Tensor, factor: number, by = 1) =>
  tf.add(tf.relu(x), tf.mul(tf.expm1(tf.div(tf.minimum(x, 0), by)), factor));

/** `log(1 + exp(x))` without overflow. */
const softplus = (tf: TfModule, x: Tf.Tensor) => tf.add(tf.relu(x), tf.log1p(tf.exp(tf.neg(tf.abs(x)))));

const gelu = (tf: TfModule, x: Tf.Tensor, tanh: boolean) => {
  const inner = tanh
    ? tf.tanh(tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), Math.sqrt(2 / Math.PI)))
    : tf.erf(tf.mul(x, Math.SQRT1_2));
  return tf.mul(tf.mul(x, 0.5), tf.add(inner, 1));
};

export const activations = {
  Elu: of((tf, x, node) => elu(tf, x, node.attr('alpha'))),
  Selu: of((tf, x, node) => tf.mul(elu(tf, x, node.attr('alpha')), node.attr('gamma'))),
  Celu: of((tf, x, node) => elu(tf, x, node.attr('alpha'), node.attr('alpha'))),
  ThresholdedRelu: of((tf, x, node) => tf.mul(x, tf.cast(tf.greater(x, node.attr('alpha')), 'float32'))),
  Softplus: of(softplus),
  Softsign: of((tf, x) => tf.div(x, tf.add(tf.abs(x), 1))),
  Gelu: of((tf, x, node) => gelu(tf, x, node.attr('approximate') === 'tanh')),
  Mish: of((tf, x) => tf.mul(x, tf.tanh(softplus(tf, x)))),
  Swish: of((tf, x, node) => tf.mul(x, tf.sigmoid(tf.mul(x, node.attr('alpha'))))),
  Sin: of((tf, x) => tf.sin(x)),
  Cos: of((tf, x) => tf.cos(x)),
} satisfies { [K in OpType]?: Kernel<K> };
