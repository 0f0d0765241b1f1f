import type { Node } from '../ir/graph.js';
import type { Pass } from '../ir/pass.js';
import { sweep } from './match.js';

/**
 * Pooling with `ceil_mode` as pooling with the padding that makes its last window whole. Padding is never the largest, and not counted. Before opset 22 ONNX
 * counts a window that starts in the padding, and the runtime does not: the two disagree on shapes. Only where sizes are known.
 */
export const explicitCeil: Pass = {
  name: 'explicitCeil',
  run: (graph) =>
    sweep(graph, (node) => (node.is('MaxPool') || (node.is('AveragePool') && !node.attr('count_include_pad'))) && explicit(node)),
};

function explicit(pool: Node<'MaxPool' | 'AveragePool'>): boolean {
  const [size, count] = [pool.input(0).shape?.slice(2), pool.output().shape?.slice(2)];
  const kernel = pool.attr('kernel_shape');
  if (pool.attr('ceil_mode') !== 1 || pool.attr('auto_pad') !== 'NOTSET' || !size || !count || !kernel) return false;
  if (![...size, ...count].every((dim) => typeof dim === 'number')) return false;
  const rank = kernel.length;
  const pads = pool.attr('pads') ?? new Array<number>(2 * rank).fill(0);
  const end = kernel.map((k, i) => {
    const reach = (k - 1) * (pool.attr('dilations')?.[i] ?? 1) + 1;
    const last = ((count[i] as number) - 1) * (pool.attr('strides')?.[i] ?? 1) + reach;
    return Math.max(0, last - (size[i] as number) - (pads[i] as number));
  });
  // ONNX Runtime refuses padding that a whole window fits into.
  if (end.some((pad, i) => pad >= (kernel[i] as number))) return false;
  pool.attrs = { ...pool.attrs, ceil_mode: undefined, pads: [...pads.slice(0, rank), ...end] };
  return true;
}
