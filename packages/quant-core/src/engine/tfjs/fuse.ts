import type * as Tf from '@tensorflow/tfjs-core';
import type { Node, Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import { sizeOf } from '../../tensor/tensor.js';
import { type Kernel, tensorAt } from './kernels/kernel.js';

/** A kernel with what it reads, and the node whose outputs it writes. */
export interface Step {
  node: Node;
  kernel: Kernel<never>;
  inputs: readonly (Value | undefined)[];
}

/**
 * Gradients of convolution weights come as one batched product for each place of the kernel (`autodiff/conv.ts`), which is what
 * ONNX Runtime does best. TF.js has no fast batched product, and runs the same sums as one convolution or one product. A graph in
 * another form runs node by node.
 */
export function fusedStep(node: Node): Step | undefined {
  return weightGradient(node) ?? batchSum(node);
}

/** The node of type `op` that writes a value, if there is one and it has no other reader. */
function only<K extends OpType>(value: Value | undefined, op: K): Node<K> | undefined {
  const node = value?.readers.length === 1 ? value.producer : undefined;
  return node?.is(op) ? node : undefined;
}

const numbers = (value: Value | undefined): number[] | undefined =>
  value?.constant && Array.from(value.constant.data as BigInt64Array, Number);

const equal = (a: readonly number[] | undefined, b: readonly number[]): boolean =>
  a !== undefined && a.length === b.length && a.every((v, i) => v === b[i]);

const staticShape = (value: Value | undefined): number[] | undefined =>
  value?.shape?.every((dim) => typeof dim === 'number') ? (value.shape as number[]) : undefined;

/** The factors of `Σ_n a[n]·b[n]ᵀ`: a FusedMatMul summed over its batch. */
function summedProduct(value: Value | undefined): { a: Value; b: Value } | undefined {
  const sum = only(value, 'ReduceSum');
  return sum && factorsOf(sum);
}

function factorsOf(sum: Node<'ReduceSum'>): { a: Value; b: Value } | undefined {
  if (sum.attr('keepdims') !== 0 || !equal(numbers(sum.inputs[1]), [0])) return undefined;
  const product = only(sum.input(0), 'FusedMatMul');
  if (!product || product.attr('transA') || !product.attr('transB') || product.attr('alpha') !== 1) return undefined;
  const [a, b] = [product.input(0), product.input(1)];
  return a.shape?.length === 3 && b.shape?.length === 3 ? { a, b } : undefined;
}

/** a [N, O, P], b [N, C, P] → Σ_n a[n]·b[n]ᵀ [O, C], as one product over N·P. */
const batchSumKernel: Kernel<'ReduceSum'> = (call) => {
  const { tf } = call;
  const [a, b] = [tensorAt(call, 0), tensorAt(call, 1)];
  const [n, o, p] = a.shape as [number, number, number];
  const c = b.shape[1] as number;
  return tf.matMul(tf.reshape(tf.transpose(a, [1, 0, 2]), [o, n * p]), tf.reshape(tf.transpose(b, [0, 2, 1]), [n * p, c]));
};

function batchSum(node: Node): Step | undefined {
  const factors = node.is('ReduceSum') ? factorsOf(node) : undefined;
  return factors && { node, kernel: batchSumKernel as unknown as Kernel<never>, inputs: [factors.a, factors.b] };
}

/** One shifted window of an image: the image [N, C, H, W], where it starts, its steps. */
interface Shifted {
  image: Value;
  start: readonly [number, number];
  steps: readonly [number, number];
}

/** A window cut from the flattened image, all rows of it, or from the image itself with the strides as steps. */
function shiftedWindow(value: Value): Shifted | undefined {
  const flat = value.producer?.is('Slice') ? value.producer : undefined;
  if (flat) {
    const whole = flat.input(0).producer;
    const image = whole?.is('Reshape') ? whole.input(0) : undefined;
    const width = staticShape(image)?.[3];
    const [start] = numbers(flat.inputs[1]) ?? [];
    if (image?.shape?.length !== 4 || width === undefined || start === undefined) return undefined;
    if (!equal(numbers(flat.inputs[3]), [2]) || flat.inputs[4]) return undefined;
    return { image, start: [Math.floor(start / width), start % width], steps: [1, 1] };
  }
  const slice = value.producer?.is('Reshape') ? value.producer.input(0).producer : undefined;
  if (!slice?.is('Slice') || slice.input(0).shape?.length !== 4 || !equal(numbers(slice.inputs[3]), [2, 3])) return undefined;
  const [start, steps] = [numbers(slice.inputs[1]), numbers(slice.inputs[4])];
  if (!start || !steps) return undefined;
  return { image: slice.input(0), start: [start[0] as number, start[1] as number], steps: [steps[0] as number, steps[1] as number] };
}

/** The gradient of the output [N, O, oh, ow] after its flattened form, without the columns that were added after it. */
function outputGradient(flat: Value): Value | undefined {
  const image = flat.producer?.is('Reshape') ? flat.producer.input(0) : undefined;
  if (image?.shape?.length !== 4) return undefined;
  const pad = image.producer?.is('Pad') ? image.producer : undefined;
  const pads = pad && numbers(pad.inputs[1]);
  return pad && pads && !pad.inputs[2] && pads.slice(0, 6).every((p) => p === 0) ? pad.input(0) : image;
}

/** The whole gradient of the weights of one convolution in two dimensions, without groups. */
function weightGradient(node: Node): Step | undefined {
  const concat = node.is('Reshape') ? only(node.input(0), 'Concat') : undefined;
  const shape = staticShape(node.outputs[0]);
  if (concat?.attr('axis') !== 2 || shape?.length !== 4) return undefined;
  const [kh, kw] = shape.slice(2) as [number, number];
  const parts = concat.inputs.map((value) => summedProduct(only(value, 'Unsqueeze')?.input(0)));
  const windows = parts.map((part) => part && shiftedWindow(part.b));
  const [first] = windows;
  const flat = parts[0]?.a;
  const dy = flat && outputGradient(flat);
  const out = staticShape(dy);
  if (!first || !dy || !out || parts.length !== kh * kw) return undefined;
  const dilations = [kh > 1 ? (windows[kw]?.start[0] ?? 0) : 1, kw > 1 ? (windows[1]?.start[1] ?? 0) : 1] as const;
  const regular = windows.every((window, i) => {
    const place = [Math.floor(i / kw) * dilations[0], (i % kw) * dilations[1]];
    return parts[i]?.a === flat && window?.image === first.image && equal(window.start, place) && equal(window.steps, first.steps);
  });
  const spread = dilations.some((d) => d > 1) && first.steps.some((s) => s > 1);
  if (!regular || spread || sizeOf(out) === 0) return undefined;
  return { node, kernel: weightGradientKernel(kh, kw, dilations, first.steps) as unknown as Kernel<never>, inputs: [first.image, dy] };
}

/**
 * dw [O, C, kh, kw] of x [N, C, H, W] (padded) and dy [N, O, oh, ow]: a convolution of x by dy with the batch in the place of the
 * channels; strides and dilations change places.
 */
const weightGradientKernel =
  (kh: number, kw: number, dilations: readonly [number, number], strides: readonly [number, number]): Kernel<'Reshape'> =>
  (call) => {
    const { tf } = call;
    const [x, dy] = [tensorAt(call, 0), tensorAt(call, 1)];
    const images = tf.transpose<Tf.Tensor4D>(x as never, [1, 2, 3, 0]);
    const filter = tf.transpose<Tf.Tensor4D>(dy as never, [2, 3, 0, 1]);
    const dw = tf.conv2d(images, filter, [...dilations], 'valid', 'NHWC', [...strides]);
    return tf.transpose(tf.slice(dw, [0, 0, 0, 0], [dw.shape[0], kh, kw, dw.shape[3]]), [3, 0, 1, 2]);
  };
