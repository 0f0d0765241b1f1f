import { windowOf } from '../autodiff/conv.js';
import type { Node } from '../ir/graph.js';
import { sizeOf, stridesOf, type Tensor } from '../tensor/tensor.js';

/**
 * A layer as a product of matrices, one for each group of a Conv: rows [group, n, inputs] by weights [group, inputs, outputs]. A row is what the
 * kernel sees at one position of the output.
 */
export interface MatrixForm {
  group: number;
  inputs: number;
  outputs: number;
  /** Channels of a result stand on axis 1, not on the last. */
  channelsFirst: boolean;
  /** Place in the matrices of element `i` of the weight. */
  place(i: number): number;
  /** Output positions of one sample (or rows of a matrix product), by the shapes of input and output. */
  positions(x: readonly number[], y: readonly number[]): number;
  /** Copy the row of `position` of sample `sample` into `into`, group after group with `stride` elements between them. */
  gather(
    x: Tensor<'float32'>,
    y: Tensor<'float32'>,
    sample: number,
    position: number,
    into: Float32Array,
    at: number,
    stride: number,
  ): void;
}

/** The matrix form of a Conv, Gemm or MatMul with a weight of `shape`. */
export function matrixForm(node: Node, shape: readonly number[]): MatrixForm {
  if (node.is('Conv')) return convolution(node, shape);
  const rows = node.is('Gemm') && node.attr('transB') === 1;
  const [inputs, outputs] = (rows ? [shape[1], shape[0]] : shape) as [number, number];
  return {
    group: 1,
    inputs,
    outputs,
    channelsFirst: false,
    place: rows ? (i) => (i % inputs) * outputs + Math.floor(i / inputs) : (i) => i,
    positions: (x) => sizeOf(x.slice(1, -1)),
    gather: (x, _y, sample, position, into, at) => {
      const row = sample * sizeOf(x.shape.slice(1, -1)) + position;
      into.set(x.data.subarray(row * inputs, (row + 1) * inputs), at);
    },
  };
}

function convolution(node: Node<'Conv'>, shape: readonly number[]): MatrixForm {
  const group = node.attr('group');
  const [filters, perGroup, ...kernel] = shape as [number, number, ...number[]];
  const area = sizeOf(kernel);
  const [inputs, outputs] = [perGroup * area, filters / group];
  const steps = stridesOf(kernel);
  return {
    group,
    inputs,
    outputs,
    channelsFirst: true,
    place: (i) => {
      const filter = Math.floor(i / inputs);
      return (Math.floor(filter / outputs) * inputs + (i % inputs)) * outputs + (filter % outputs);
    },
    positions: (_x, y) => sizeOf(y.slice(2)),
    gather: (x, y, sample, position, into, at, stride) => {
      const size = x.shape.slice(2);
      const out = y.shape.slice(2);
      const window = windowOf(node, kernel, size, out);
      const plane = sizeOf(size);
      const [within, outSteps] = [stridesOf(size), stridesOf(out)];
      const channels = group * perGroup;
      for (let point = 0; point < area; point++) {
        let from = 0;
        for (let axis = 0; axis < kernel.length; axis++) {
          const k = Math.floor(point / (steps[axis] as number)) % (kernel[axis] as number);
          const o = Math.floor(position / (outSteps[axis] as number)) % (out[axis] as number);
          const p = o * (window.strides[axis] as number) + k * (window.dilations[axis] as number) - (window.begin[axis] as number);
          from = p < 0 || p >= (size[axis] as number) ? Number.NaN : from + p * (within[axis] as number);
        }
        for (let channel = 0; channel < channels; channel++) {
          const to = at + Math.floor(channel / perGroup) * stride + (channel % perGroup) * area + point;
          // Outside the image: padding with 0.
          into[to] = Number.isNaN(from) ? 0 : (x.data[(sample * channels + channel) * plane + from] as number);
        }
      }
    },
  };
}
