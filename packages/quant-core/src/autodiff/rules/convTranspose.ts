import { staticShape } from '../../ir/builder.js';
import type { Node } from '../../ir/graph.js';
import { type Window, weightGradient } from '../conv.js';
import { type GradientRule, rule } from '../rule.js';

/** The geometry of the convolution that this op is the adjoint of. */
function windowOf(node: Node<'ConvTranspose'>, kernel: readonly number[], input: readonly number[], output: readonly number[]): Window {
  const rank = kernel.length;
  const strides = [...(node.attr('strides') ?? new Array<number>(rank).fill(1))];
  const dilations = [...(node.attr('dilations') ?? new Array<number>(rank).fill(1))];
  const pads = node.attr('pads') ?? new Array<number>(2 * rank).fill(0);
  const [begin, end] = [pads.slice(0, rank), pads.slice(rank)];
  const auto = node.attr('auto_pad');
  if (node.attr('output_shape') || auto?.startsWith('SAME')) {
    const extra = node.attr('output_padding') ?? new Array<number>(rank).fill(0);
    for (let i = 0; i < rank; i++) {
      const reach = ((kernel[i] as number) - 1) * (dilations[i] as number) + 1;
      const full = ((input[i] as number) - 1) * (strides[i] as number) + (extra[i] as number) + reach;
      const total = Math.max(0, full - (output[i] as number));
      begin[i] = auto === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
      end[i] = total - (begin[i] as number);
    }
  } else if (auto === 'VALID') {
    begin.fill(0);
    end.fill(0);
  }
  return { kernel: [...kernel], strides, dilations, begin, end };
}

/** y = adjoint of a convolution: dx is that convolution of dy, and dw its weight gradient with dy as image and x as gradient. */
export const convTranspose: GradientRule<'ConvTranspose'> = rule((node, dy, wanted, b) => {
  const [x, w] = [node.input(0), node.input(1)];
  const [xs, ws, ys] = [staticShape(x), staticShape(w), staticShape(node.output())];
  const window = windowOf(node, ws.slice(2), xs.slice(2), ys.slice(2));
  const { kernel, strides, dilations, begin, end } = window;
  const group = node.attr('group');
  const dx = () => b.op('Conv', [dy, w], { kernel_shape: kernel, strides, dilations, group, pads: [...begin, ...end] });
  return [
    wanted[0] ? dx() : undefined,
    wanted[1] ? weightGradient(dy, x, ys, xs, window, group, b) : undefined,
    wanted[2] ? b.sum(dy, [0, ...kernel.map((_, i) => i + 2)]) : undefined,
  ];
});
