import type { Graph } from '../../packages/quant-core/src/ir/graph.js';
import { Net } from '../models/net.js';

/** Output channels and stride of each layer. */
const layers = [
  [32, 1],
  [64, 2],
  [128, 2],
  [256, 2],
  [256, 1],
] as const;

/** A plain CNN with a million parameters for 32×32 images: input `x` [N, 3, 32, 32], output `logits` [N, 10]. */
export function millionParameters(): Graph {
  const net = new Net('million', 0);
  let x = net.input([3, 32, 32]);
  let inputs = 3;
  for (const [layer, [outputs, stride]] of layers.entries()) {
    x = net.relu(`relu${layer}`, net.conv(`conv${layer}`, x, { inputs, outputs, kernel: 3, stride }));
    inputs = outputs;
  }
  return net.finish(net.gemm('classify', net.pooled(x), inputs, 10));
}
