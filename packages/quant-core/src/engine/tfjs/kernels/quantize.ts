import type * as Tf from '@tensorflow/tfjs-core';
import type { DType } from '../../../tensor/dtype.js';
import type { Operand } from '../operand.js';
import { axisOf, type Call, type Kernel, lacking, operand } from './kernel.js';

const ranges: Partial<Record<DType, readonly [number, number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65_535],
  int16: [-32_768, 32_767],
};

/** A scale or zero point beside a tensor of `shape`: a scalar, or one entry for each place on `axis`. */
function along(
  { tf, node }: Pick<Call<'QuantizeLinear' | 'DequantizeLinear'>, 'tf' | 'node'>,
  of: Operand,
  shape: readonly number[],
): Tf.Tensor {
  const x = of.isWide ? tf.cast(of.tensor, 'float32') : of.tensor;
  if (x.size === 1) return tf.reshape(x, []);
  const axis = axisOf(node.attr('axis'), shape.length);
  if (x.rank !== 1 || x.size !== shape[axis])
    throw lacking(node, `its scales have shape [${x.shape}], one a tensor or one a channel is known`);
  return tf.reshape(
    x,
    shape.map((_, i) => (i === axis ? x.size : 1)),
  );
}

/** `saturate(round(x / scale) + zero point)`, the quotient in float32. */
const quantize: Kernel<'QuantizeLinear'> = (call) => {
  const { tf, node, round } = call;
  const [x, zero] = [operand(call, 0), call.inputs[2]];
  const dtype = zero?.dtype ?? 'uint8';
  const range = ranges[dtype];
  if (!range || !x.isFloat) throw lacking(node, `${x.dtype} to ${dtype} is not known here`);
  const whole = round(tf.div(x.tensor, along(call, operand(call, 1), x.shape)));
  const shifted = zero ? tf.add(whole, along(call, zero, x.shape)) : whole;
  return [{ tensor: tf.clipByValue(shifted, ...range), dtype }];
};

/** `(q - zero point) · scale`. */
const dequantize: Kernel<'DequantizeLinear'> = (call) => {
  const { tf } = call;
  const [q, scale, zero] = [operand(call, 0), operand(call, 1), call.inputs[2]];
  const whole = q.isWide ? tf.cast(q.tensor, 'float32') : q.tensor;
  const shifted = zero ? tf.sub(whole, along(call, zero, q.shape)) : whole;
  return [{ tensor: tf.mul(shifted, along(call, scale, q.shape)), dtype: scale.dtype }];
};

export const quantization = { QuantizeLinear: quantize, DequantizeLinear: dequantize };
