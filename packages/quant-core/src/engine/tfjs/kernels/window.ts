import type { Node } from '../../../ir/graph.js';

/** Geometry of a sliding window over the spatial axes, everything made explicit. */
export interface Window {
  kernel: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
  begin: readonly number[];
  end: readonly number[];
  /** Positions on each axis. */
  out: readonly number[];
}

type WindowNode = Node<'Conv' | 'MaxPool' | 'AveragePool'>;

/** Size of a dilated kernel. */
export const reachOf = (kernel: number, dilation: number): number => (kernel - 1) * dilation + 1;

/**
 * Strides, dilations, padding and output sizes of a convolution or pooling over `spatial` sizes, with `auto_pad` and
 * `ceil_mode` resolved as the ONNX operators define them. A window that `ceil_mode` lets run past the padding widens `end`.
 */
export function windowOf(node: WindowNode, kernel: readonly number[], spatial: readonly number[]): Window {
  const rank = kernel.length;
  const strides = node.attr('strides') ?? new Array<number>(rank).fill(1);
  const dilations = node.attr('dilations') ?? new Array<number>(rank).fill(1);
  const pads = node.attr('pads') ?? new Array<number>(2 * rank).fill(0);
  const auto = node.attr('auto_pad');
  const ceil = node.is('MaxPool', 'AveragePool') && node.attr('ceil_mode') === 1;
  const begin: number[] = [];
  const end: number[] = [];
  const out: number[] = [];
  spatial.forEach((size, i) => {
    const stride = strides[i] as number;
    const reach = reachOf(kernel[i] as number, dilations[i] as number);
    if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') {
      const count = Math.ceil(size / stride);
      const total = Math.max(0, (count - 1) * stride + reach - size);
      const before = auto === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
      begin.push(before);
      end.push(total - before);
      out.push(count);
      return;
    }
    const [before, after] = auto === 'VALID' ? [0, 0] : [pads[i] as number, pads[i + rank] as number];
    const room = (size + before + after - reach) / stride;
    let count = (ceil ? Math.ceil(room) : Math.floor(room)) + 1;
    if (ceil && (count - 1) * stride >= size + before) count -= 1;
    begin.push(before);
    end.push(Math.max(after, (count - 1) * stride + reach - size - before));
    out.push(count);
  });
  return { kernel, strides, dilations, begin, end, out };
}
