import type * as Tf from '@tensorflow/tfjs-core';
import type { Node } from '../../../ir/graph.js';
import { sizeOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';
import { type Kernel, lacking, tensorAt } from './kernel.js';
import { padded, taken } from './movement.js';
import { reachOf, type Window, windowOf } from './window.js';

/** A convolution: its window, its groups, and by what the image is spread with zeros first. */
interface Geometry extends Omit<Window, 'out'> {
  group: number;
  spread?: readonly number[];
  /** Whether depthwise kernels take neither dilations nor strides that differ, as those of TensorFlow. */
  limitedDepthwise: boolean;
}

/** x [N, C, H, W] and w [M, C/group, kh, kw] → [N, M, oh, ow]. TF.js has images with the channels last. */
function conv2d(tf: TfModule, x: Tf.Tensor, w: Tf.Tensor, g: Geometry): Tf.Tensor {
  const [strides, dilations] = [g.strides as [number, number], g.dilations as [number, number]];
  const limited = g.limitedDepthwise && g.group > 1 && w.shape[1] === 1;
  // TF.js takes strides or dilations, not both: a kernel spread with zeros needs no dilation.
  if (dilations.some((d) => d > 1) && (limited || strides.some((s) => s > 1)))
    return conv2d(tf, x, spread(tf, w, [2, 3], dilations), {
      ...g,
      kernel: g.kernel.map((k, i) => reachOf(k, dilations[i] as number)),
      dilations: [1, 1],
    });
  if (limited && strides[0] !== strides[1]) {
    const dense = conv2d(tf, x, w, { ...g, strides: [1, 1] });
    const every = (axis: 0 | 1) =>
      Array.from({ length: Math.ceil((dense.shape[axis + 2] as number) / strides[axis]) }, (_, i) => i * strides[axis]);
    return taken(tf, taken(tf, dense, every(0), 2), every(1), 3);
  }
  const wide = spread(tf, tf.transpose(x, [0, 2, 3, 1]), [1, 2], g.spread ?? [1, 1]);
  const image = padded(tf, wide, [0, ...g.begin, 0], [0, ...g.end, 0]) as Tf.Tensor4D;
  return tf.transpose(channelsLast(tf, image, w, g, strides, dilations), [0, 3, 1, 2]);
}

function channelsLast(
  tf: TfModule,
  image: Tf.Tensor4D,
  w: Tf.Tensor,
  g: Geometry,
  strides: [number, number],
  dilations: [number, number],
): Tf.Tensor {
  const [out, perGroup] = w.shape as [number, number];
  const { group } = g;
  if (group === 1) return tf.conv2d(image, tf.transpose(w as Tf.Tensor4D, [2, 3, 1, 0]), strides, 'valid', 'NHWC', dilations);
  if (perGroup === 1) {
    const filter = tf.transpose(
      tf.reshape<Tf.Rank.R4>(w, [group, out / group, g.kernel[0] as number, g.kernel[1] as number]),
      [2, 3, 0, 1],
    );
    return tf.depthwiseConv2d(image, filter, strides, 'valid', 'NHWC', dilations);
  }
  const images = tf.split(image, group, 3);
  const filters = tf.split(w, group, 0);
  return tf.concat(
    images.map((part, i) => channelsLast(tf, part as Tf.Tensor4D, filters[i] as Tf.Tensor, { ...g, group: 1 }, strides, dilations)),
    3,
  );
}

/** Zeros between the elements on each of `axes`: `(size - 1) · step + 1` of them. */
function spread(tf: TfModule, x: Tf.Tensor, axes: readonly number[], steps: readonly number[]): Tf.Tensor {
  return axes.reduce((out, axis, i) => {
    const step = steps[i] as number;
    const { shape } = out;
    const size = shape[axis] as number;
    if (step === 1 || size === 1) return out;
    const [lead, inner] = [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis + 1))];
    const wide = tf.reshape(
      tf.pad(tf.reshape(out, [lead * size, 1, inner]), [
        [0, 0],
        [0, step - 1],
        [0, 0],
      ]),
      [lead, size * step, inner],
    );
    const length = (size - 1) * step + 1;
    return tf.reshape(tf.slice(wide, [0, 0, 0], [lead, length, inner]), [...shape.slice(0, axis), length, ...shape.slice(axis + 1)]);
  }, x);
}

/**
 * A convolution over any number of spatial axes: one becomes two by an axis of size 1, three and more are a sum of convolutions
 * over one axis less, one for each place of the kernel on the first.
 */
function convolve(tf: TfModule, x: Tf.Tensor, w: Tf.Tensor, g: Geometry): Tf.Tensor {
  const rank = g.kernel.length;
  if (rank === 2) return conv2d(tf, x, w, g);
  if (rank === 1) {
    const [one, none] = [(list: readonly number[]) => [1, ...list], (list: readonly number[]) => [0, ...list]];
    const wide = (t: Tf.Tensor) => tf.expandDims(t, 2);
    const flat = {
      ...g,
      kernel: one(g.kernel),
      strides: one(g.strides),
      dilations: one(g.dilations),
      begin: none(g.begin),
      end: none(g.end),
    };
    return tf.squeeze(conv2d(tf, wide(x), wide(w), flat), [2]);
  }
  const [n, c, , ...inner] = x.shape as [number, number, number, ...number[]];
  const [stride, dilation] = [g.strides[0] as number, g.dilations[0] as number];
  const rest = (list: readonly number[]) => list.slice(1);
  const below = {
    ...g,
    kernel: rest(g.kernel),
    strides: rest(g.strides),
    dilations: rest(g.dilations),
    begin: rest(g.begin),
    end: rest(g.end),
  };
  const image = padded(tf, x, [0, 0, g.begin[0] as number, ...inner.map(() => 0)], [0, 0, g.end[0] as number, ...inner.map(() => 0)]);
  const out = Math.floor(((image.shape[2] as number) - reachOf(g.kernel[0] as number, dilation)) / stride) + 1;
  const swap = [0, 2, 1, ...inner.map((_, i) => i + 3)];
  const parts = Array.from({ length: g.kernel[0] as number }, (_, k) => {
    const rows = Array.from({ length: out }, (_, o) => o * stride + k * dilation);
    const folded = tf.reshape(tf.transpose(taken(tf, image, rows, 2), swap), [n * out, c, ...inner]);
    return convolve(tf, folded, tf.squeeze(taken(tf, w, [k], 2), [2]), below);
  });
  const sum = parts.reduce((a, b) => tf.add(a, b));
  return tf.transpose(tf.reshape(sum, [n, out, ...sum.shape.slice(1)]), swap);
}

/** Adds a bias [M] to [N, M, …]. */
function biased(tf: TfModule, y: Tf.Tensor, bias: Tf.Tensor | undefined): Tf.Tensor {
  return bias ? tf.add(y, tf.reshape(bias, [1, bias.size, ...y.shape.slice(2).map(() => 1)])) : y;
}

const conv: Kernel<'Conv'> = (call) => {
  const { tf, node, backend } = call;
  const [x, w] = [tensorAt(call, 0), tensorAt(call, 1)];
  const window = windowOf(node, w.shape.slice(2), x.shape.slice(2));
  return biased(
    tf,
    convolve(tf, x, w, { ...window, group: node.attr('group'), limitedDepthwise: backend === 'native' }),
    call.inputs[2]?.tensor,
  );
};

/** Padding before and after, and zeros added at the end, of a ConvTranspose, as the operator defines them. */
function transposedPads(
  node: Node<'ConvTranspose'>,
  spatial: readonly number[],
  kernel: readonly number[],
  strides: readonly number[],
  dilations: readonly number[],
) {
  const rank = kernel.length;
  const extra = node.attr('output_padding') ?? new Array<number>(rank).fill(0);
  const pads = node.attr('pads') ?? new Array<number>(2 * rank).fill(0);
  const auto = node.attr('auto_pad');
  const stated = node.attr('output_shape');
  const same = auto === 'SAME_UPPER' || auto === 'SAME_LOWER';
  return kernel.map((k, i) => {
    const added = extra[i] ?? 0;
    if (!stated?.length && !same)
      return auto === 'VALID' ? { begin: 0, end: 0, added } : { begin: pads[i] as number, end: pads[i + rank] as number, added };
    const size = stated?.length ? (stated[i] as number) : (spatial[i] as number) * (strides[i] as number);
    const total = ((spatial[i] as number) - 1) * (strides[i] as number) + added + reachOf(k, dilations[i] as number) - size;
    const begin = auto === 'SAME_UPPER' ? Math.floor(total / 2) : total - Math.floor(total / 2);
    return { begin, end: total - begin, added };
  });
}

/**
 * x [N, C, …], w [C, M/group, k…] → [N, M, …]: a convolution of x spread with zeros by the strides, with the kernel turned
 * round and its channels swapped.
 */
const convTranspose: Kernel<'ConvTranspose'> = (call) => {
  const { tf, node, backend } = call;
  const [x, w] = [tensorAt(call, 0), tensorAt(call, 1)];
  const group = node.attr('group');
  const [channels, perGroup, ...kernel] = w.shape as [number, number, ...number[]];
  const axes = kernel.map((_, i) => i + 2);
  const ones = kernel.map(() => 1);
  const [strides, dilations] = [node.attr('strides') ?? ones, node.attr('dilations') ?? ones];
  if (x.shape[1] !== channels) throw lacking(node, `${x.shape[1]} channels do not fit weights [${w.shape}]`);
  const pads = transposedPads(node, x.shape.slice(2), kernel, strides, dilations);
  // With the channels last, where TF.js wants them, rows of zeros are long.
  const late = kernel.length === 2;
  const image = late ? x : spread(tf, x, axes, strides);
  const before = pads.map(({ begin }, i) => reachOf(kernel[i] as number, dilations[i] as number) - 1 - begin);
  const after = pads.map(({ end, added }, i) => reachOf(kernel[i] as number, dilations[i] as number) - 1 - end + added);
  const grouped = tf.reshape(w, [group, channels / group, perGroup, ...kernel]);
  const turned = tf.reverse(
    tf.reshape(tf.transpose(grouped, [0, 2, 1, ...kernel.map((_, i) => i + 3)]), [group * perGroup, channels / group, ...kernel]),
    axes,
  );
  return biased(
    tf,
    convolve(tf, image, turned, {
      kernel,
      strides: ones,
      dilations,
      begin: before,
      end: after,
      group,
      limitedDepthwise: backend === 'native',
      ...(late ? { spread: strides } : {}),
    }),
    call.inputs[2]?.tensor,
  );
};

export const convolution = { Conv: conv, ConvTranspose: convTranspose };
