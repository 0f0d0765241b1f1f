import { type GraphBuilder, staticShape } from '../ir/builder.js';
import type { Node, Value } from '../ir/graph.js';

/** The geometry of a convolution with everything made explicit. */
export interface Window {
  kernel: number[];
  strides: number[];
  dilations: number[];
  /** Padding before and after, for each spatial axis. */
  begin: number[];
  end: number[];
}

/** Kernel, strides, dilations and explicit padding of a Conv or pooling node, `auto_pad` resolved. */
export function windowOf(
  node: Node<'Conv' | 'ConvTranspose' | 'MaxPool' | 'AveragePool'>,
  kernel: readonly number[],
  input: readonly number[],
  output: readonly number[],
): Window {
  const rank = kernel.length;
  const strides = [...(node.attr('strides') ?? new Array<number>(rank).fill(1))];
  const dilations = [...(node.attr('dilations') ?? new Array<number>(rank).fill(1))];
  const pads = node.attr('pads') ?? new Array<number>(2 * rank).fill(0);
  const begin = pads.slice(0, rank);
  const end = pads.slice(rank);
  const auto = node.attr('auto_pad');
  if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') {
    for (let axis = 0; axis < rank; axis++) {
      const reach = ((kernel[axis] as number) - 1) * (dilations[axis] as number) + 1;
      const total = Math.max(0, ((output[axis] as number) - 1) * (strides[axis] as number) + reach - (input[axis] as number));
      begin[axis] = auto === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
      end[axis] = total - (begin[axis] as number);
    }
  } else if (auto === 'VALID') {
    begin.fill(0);
    end.fill(0);
  }
  return { kernel: [...kernel], strides, dilations, begin, end };
}

/** Every offset of a kernel, last axis fastest. */
export function offsets(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>((all, size) => all.flatMap((head) => Array.from({ length: size }, (_, i) => [...head, i])), [[]]);
}

const product = (list: readonly number[]) => list.reduce((a, b) => a * b, 1);

/** Gradients of Conv: [dx, dw, db], each only when wanted. */
export function convGradient(node: Node<'Conv'>, dy: Value, wanted: readonly boolean[], b: GraphBuilder): (Value | undefined)[] {
  const x = node.input(0);
  const w = node.input(1);
  const xs = staticShape(x);
  const ws = staticShape(w);
  const ys = staticShape(node.output());
  const window = windowOf(node, ws.slice(2), xs.slice(2), ys.slice(2));
  const group = node.attr('group');
  const spatial = ys.slice(2).map((_, axis) => axis + 2);
  return [
    wanted[0] ? inputGradient(dy, w, xs, ws, ys, window, group, b) : undefined,
    wanted[1] ? weightGradient(x, dy, xs, ys, window, group, b) : undefined,
    wanted[2] ? b.sum(dy, [0, ...spatial]) : undefined,
  ];
}

/**
 * dx. Stride 1: a Conv of dy with the weights transposed and flipped, padding `(k-1)·dilation - pad`. Otherwise ConvTranspose.
 */
function inputGradient(
  dy: Value,
  w: Value,
  xs: number[],
  ws: number[],
  ys: number[],
  window: Window,
  group: number,
  b: GraphBuilder,
): Value {
  const { kernel, strides, dilations, begin, end } = window;
  const rank = kernel.length;
  const depthwise = group > 1 && ws[1] === 1 && ws[0] === group;
  const before = kernel.map((k, i) => (k - 1) * (dilations[i] as number) - (begin[i] as number));
  const after = kernel.map((k, i) => (k - 1) * (dilations[i] as number) - (end[i] as number));
  if (strides.every((s) => s === 1) && (group === 1 || depthwise) && [...before, ...after].every((p) => p >= 0)) {
    let flipped = depthwise ? w : b.op('Transpose', [w], { perm: [1, 0, ...kernel.map((_, i) => i + 2)] });
    const axes = kernel.map((_, i) => i + 2).filter((_, i) => (kernel[i] as number) > 1);
    if (axes.length) {
      const sizes = axes.map((axis) => kernel[axis - 2] as number);
      flipped = b.slice(
        flipped,
        axes,
        sizes.map((k) => k - 1),
        sizes.map((k) => -k - 1),
        sizes.map(() => -1),
      );
    }
    return b.op('Conv', [dy, flipped], { kernel_shape: kernel, dilations, group, pads: [...before, ...after] });
  }
  const outputPadding = kernel.map(
    (k, i) =>
      (xs[i + 2] as number) -
      (((ys[i + 2] as number) - 1) * (strides[i] as number) +
        (k - 1) * (dilations[i] as number) +
        1 -
        (begin[i] as number) -
        (end[i] as number)),
  );
  // Rows of the input that no window reaches get no gradient: ConvTranspose cannot pad by a stride or more.
  const missing = outputPadding.map((p, i) => (p >= Math.max(strides[i] as number, dilations[i] as number) ? p : 0));
  const dx = b.op('ConvTranspose', [dy, w], {
    kernel_shape: kernel,
    strides,
    dilations,
    group,
    pads: [...begin, ...end],
    output_padding: outputPadding.map((p, i) => p - (missing[i] as number)),
  });
  return missing.some((m) => m > 0) ? b.pad(dx, [...new Array<number>(rank + 2).fill(0), 0, 0, ...missing]) : dx;
}

/**
 * dw. For each kernel offset: a shifted window of the padded input times dy, summed over positions and batch.
 * With stride 1 the padded image is flattened first, so that every shifted window is one contiguous slice.
 */
export function weightGradient(x: Value, dy: Value, xs: number[], ys: number[], window: Window, group: number, b: GraphBuilder): Value {
  const { kernel, strides } = window;
  const [n, c] = xs as [number, number];
  const o = ys[1] as number;
  if (c === group && o === group) return depthwiseWeightGradient(x, dy, xs, ys, window, b);
  const shifted = strides.every((s) => s === 1) ? flatWindows(x, dy, xs, ys, window, b) : stridedWindows(x, dy, xs, ys, window, b);
  const parts = shifted.windows.map((part) => {
    const positions = shifted.positions;
    const dyg = group === 1 ? shifted.dy : b.reshape(shifted.dy, [n * group, o / group, positions]);
    const xg = group === 1 ? part : b.reshape(part, [n * group, c / group, positions]);
    const dot = b.op('FusedMatMul', [dyg, xg], { transB: 1 });
    return b.sum(group === 1 ? dot : b.reshape(dot, [n, o, c / group]), [0]);
  });
  const stacked =
    parts.length === 1
      ? (parts[0] as Value)
      : b.op(
          'Concat',
          parts.map((part) => b.op('Unsqueeze', [part, b.ints([2])])),
          { axis: 2 },
        );
  return b.reshape(stacked, [o, c / group, ...kernel]);
}

/**
 * dw of a depthwise Conv as a depthwise Conv: every channel of every sample is an image of its own, and its dy is the kernel
 * (strides become dilations); summed over the batch.
 */
function depthwiseWeightGradient(x: Value, dy: Value, xs: number[], ys: number[], window: Window, b: GraphBuilder): Value {
  const { kernel, strides, dilations, begin } = window;
  const [n, c] = xs as [number, number];
  const out = ys.slice(2);
  const axes = out.map((_, i) => i + 2);
  // Padding after the image that gives exactly k positions; below 0 the image is cropped.
  const end = kernel.map(
    (k, i) =>
      (k - 1) * (dilations[i] as number) +
      ((out[i] as number) - 1) * (strides[i] as number) +
      1 -
      (xs[i + 2] as number) -
      (begin[i] as number),
  );
  const cropped = end.some((p) => p < 0)
    ? b.slice(
        x,
        axes,
        axes.map(() => 0),
        end.map((p, i) => (xs[i + 2] as number) + Math.min(p, 0)),
      )
    : x;
  const image = b.reshape(cropped, [1, n * c, ...end.map((p, i) => (xs[i + 2] as number) + Math.min(p, 0))]);
  const filter = b.reshape(dy, [n * c, 1, ...out]);
  filter.type = { dtype: 'float32', shape: [n * c, 1, ...out] };
  const each = b.op('Conv', [image, filter], {
    kernel_shape: out,
    group: n * c,
    strides: dilations,
    dilations: strides,
    pads: [...begin, ...end.map((p) => Math.max(p, 0))],
  });
  return b.reshape(b.sum(b.reshape(each, [n, c, ...kernel]), [0]), [c, 1, ...kernel]);
}

interface ShiftedWindows {
  /** One [N, C, positions] value an offset. */
  windows: Value[];
  /** [N, O, positions] */
  dy: Value;
  positions: number;
}

function stridedWindows(x: Value, dy: Value, xs: number[], ys: number[], window: Window, b: GraphBuilder): ShiftedWindows {
  const { kernel, strides, dilations, begin } = window;
  const [n, c] = xs as [number, number];
  const out = ys.slice(2);
  const positions = product(out);
  const axes = out.map((_, i) => i + 2);
  // Far enough after the image for the last window; what no window reaches needs no padding.
  const after = kernel.map((k, i) =>
    Math.max(
      0,
      (k - 1) * (dilations[i] as number) +
        ((out[i] as number) - 1) * (strides[i] as number) +
        1 -
        (xs[i + 2] as number) -
        (begin[i] as number),
    ),
  );
  const padded = b.pad(x, [0, 0, ...begin, 0, 0, ...after]);
  const windows = offsets(kernel).map((offset) => {
    const starts = offset.map((k, i) => k * (dilations[i] as number));
    const ends = starts.map((s, i) => s + ((out[i] as number) - 1) * (strides[i] as number) + 1);
    return b.reshape(b.slice(padded, axes, starts, ends, strides), [n, c, positions]);
  });
  return { windows, dy: b.reshape(dy, [n, ys[1] as number, positions]), positions };
}

/** Stride 1. dy is padded to the row width of the padded image; its extra columns are 0 and add nothing. */
function flatWindows(x: Value, dy: Value, xs: number[], ys: number[], window: Window, b: GraphBuilder): ShiftedWindows {
  const { kernel, dilations, begin, end } = window;
  const [n, c] = xs as [number, number];
  const out = ys.slice(2);
  const rank = out.length;
  if (kernel.every((k) => k === 1) && [...begin, ...end].every((p) => p === 0)) {
    const positions = product(out);
    return { windows: [b.reshape(x, [n, c, positions])], dy: b.reshape(dy, [n, ys[1] as number, positions]), positions };
  }
  const padded = xs.slice(2).map((size, i) => size + (begin[i] as number) + (end[i] as number));
  const inner = padded.slice(1);
  // Rows of dy as wide as the padded image on every axis but the first.
  const dyPads = [...new Array<number>(rank + 2).fill(0), 0, 0, 0, ...inner.map((size, i) => size - (out[i + 1] as number))];
  const positions = (out[0] as number) * product(inner);
  const strides = padded.map((_, i) => product(padded.slice(i + 1)));
  const reach = kernel.reduce((sum, k, i) => sum + (k - 1) * (dilations[i] as number) * (strides[i] as number), 0);
  // One further row along the first axis where the last window runs past the end of the flattened image.
  const extra = Math.ceil(Math.max(0, reach + positions - product(padded)) / (strides[0] as number));
  const flatX = b.reshape(b.pad(x, [0, 0, ...begin, 0, 0, (end[0] as number) + extra, ...end.slice(1)]), [
    n,
    c,
    ((padded[0] as number) + extra) * (strides[0] as number),
  ]);
  const flatDy = b.reshape(b.pad(dy, dyPads), [n, ys[1] as number, positions]);
  const windows = offsets(kernel).map((offset) => {
    const start = offset.reduce((sum, k, i) => sum + k * (dilations[i] as number) * (strides[i] as number), 0);
    return b.slice(flatX, [2], [start], [start + positions]);
  });
  return { windows, dy: flatDy, positions };
}
