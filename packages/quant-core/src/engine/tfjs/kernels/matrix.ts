import type * as Tf from '@tensorflow/tfjs-core';
import { sizeOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';
import { einsum } from './einsum.js';
import { broadcastShape } from './host.js';
import { type Kernel, lacking, tensorAt } from './kernel.js';

/** The last two axes swapped. */
function swapped(tf: TfModule, x: Tf.Tensor): Tf.Tensor {
  const lead = x.shape.slice(0, -2).map((_, i) => i);
  return tf.transpose(x, [...lead, x.rank - 1, x.rank - 2]);
}

/** Matrix product with NumPy's broadcasting; vectors get an axis and lose it again. */
function product(tf: TfModule, a: Tf.Tensor, b: Tf.Tensor): Tf.Tensor {
  if (a.rank === 1) return tf.squeeze(product(tf, tf.expandDims(a, 0), b), [b.rank === 1 ? 0 : Math.max(b.rank, 2) - 2]);
  if (b.rank === 1) return tf.squeeze(product(tf, a, tf.expandDims(b, 1)), [a.rank - 1]);
  if (b.rank > 2) {
    // TF.js repeats a batch that is 1 as a whole, and not axis by axis.
    const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
    const full = (x: Tf.Tensor) => tf.broadcastTo(x, [...batch, ...x.shape.slice(-2)]);
    return tf.matMul(full(a), full(b));
  }
  // One matrix for all rows is one product.
  const [k, n] = b.shape as [number, number];
  return tf.reshape(tf.matMul(tf.reshape(a, [sizeOf(a.shape) / k, k]), b), [...a.shape.slice(0, -1), n]);
}

const scaled = (tf: TfModule, x: Tf.Tensor, factor: number | undefined) => (factor === undefined || factor === 1 ? x : tf.mul(x, factor));

const gemm: Kernel<'Gemm'> = (call) => {
  const { tf, node } = call;
  const [a, b, c] = [tensorAt(call, 0), tensorAt(call, 1), call.inputs[2]?.tensor];
  const y = scaled(tf, tf.matMul(node.attr('transA') ? swapped(tf, a) : a, node.attr('transB') ? swapped(tf, b) : b), node.attr('alpha'));
  return c ? tf.add(y, scaled(tf, c, node.attr('beta'))) : y;
};

const fused: Kernel<'FusedMatMul'> = (call) => {
  const { tf, node } = call;
  if (node.attr('transBatchA') || node.attr('transBatchB')) throw lacking(node, 'transBatchA and transBatchB are not known here');
  const [a, b] = [tensorAt(call, 0), tensorAt(call, 1)];
  return scaled(tf, product(tf, node.attr('transA') ? swapped(tf, a) : a, node.attr('transB') ? swapped(tf, b) : b), node.attr('alpha'));
};

export const matrix = {
  MatMul: (call) => product(call.tf, tensorAt(call, 0), tensorAt(call, 1)),
  Gemm: gemm,
  FusedMatMul: fused,
  Einsum: einsum,
} satisfies { MatMul: Kernel<'MatMul'>; Gemm: Kernel<'Gemm'>; FusedMatMul: Kernel<'FusedMatMul'>; Einsum: Kernel<'Einsum'> };
