import type { Graph } from '../../packages/quant-core/src/ir/graph.js';
import { Net } from './net.js';

/** Stages: expansion, output channels, blocks, stride of the first. Strides and depth are those of 32×32 images. */
const stages = [
  [1, 16, 1, 1],
  [6, 24, 2, 1],
  [6, 32, 2, 2],
  [6, 64, 2, 2],
  [6, 96, 1, 1],
  [6, 160, 1, 2],
] as const;

/**
 * A shallower MobileNetV2 for 32×32 images (Sandler et al. 2018), batch norm already folded, ReLU in the place of ReLU6 as in
 * torchvision's quantizable form: input `x` [N, 3, 32, 32], output `logits` [N, 10]. The same network as in bench/peers/networks.py.
 */
export function mobilenetv2(seed = 0): Graph {
  const net = new Net('mobilenetv2', seed);
  let x = net.relu('stem.relu', net.conv('stem', net.input([3, 32, 32]), { inputs: 3, outputs: 32, kernel: 3 }));
  let inputs = 32;
  for (const [stage, [expansion, outputs, blocks, firstStride]] of stages.entries()) {
    for (let block = 0; block < blocks; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = block === 0 ? firstStride : 1;
      const hidden = inputs * expansion;
      let y = x;
      if (expansion > 1) y = net.relu(`${name}.relu1`, net.conv(`${name}.expand`, y, { inputs, outputs: hidden, kernel: 1 }));
      const depthwise = { inputs: hidden, outputs: hidden, kernel: 3, stride, group: hidden };
      y = net.relu(`${name}.relu2`, net.conv(`${name}.depthwise`, y, depthwise));
      y = net.conv(`${name}.project`, y, { inputs: hidden, outputs, kernel: 1 });
      x = stride === 1 && inputs === outputs ? net.op('Add', `${name}.add`, [x, y]) : y;
      inputs = outputs;
    }
  }
  x = net.relu('head.relu', net.conv('head', x, { inputs, outputs: 320, kernel: 1 }));
  return net.finish(net.gemm('classify', net.pooled(x), 320, 10));
}
