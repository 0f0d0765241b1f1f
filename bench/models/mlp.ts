import type { Graph } from '../../packages/quant-core/src/ir/graph.js';
import { Net } from './net.js';

/** Widths of the layers, input to output: 1.9 million parameters. */
const widths = [784, 1024, 1024, 10] as const;

/** Fully connected layers with ReLU between: input `x` [N, 784], output `logits` [N, 10]. The same network as in bench/peers/networks.py. */
export function mlp(seed = 0): Graph {
  const net = new Net('mlp', seed);
  let x = net.input([widths[0]]);
  for (let layer = 0; layer + 1 < widths.length; layer++) {
    x = net.gemm(`layer${layer}`, x, widths[layer] as number, widths[layer + 1] as number);
    if (layer + 2 < widths.length) x = net.relu(`relu${layer}`, x);
  }
  return net.finish(x);
}
