import type { Graph, Value } from '../../packages/quant-core/src/ir/graph.js';
import { Net } from './net.js';

/**
 * ResNet-20 for 32×32 images (He et al. 2016, section 4.2), batch norm already folded: input `x` [N, 3, 32, 32], output `logits` [N, 10].
 * The same network as in bench/peers/networks.py.
 */
export function resnet20(seed = 0): Graph {
  const net = new Net('resnet20', seed);
  const conv = (name: string, x: Value, inputs: number, outputs: number, kernel: number, stride: number) =>
    net.conv(name, x, { inputs, outputs, kernel, stride });

  let x = net.relu('stem.relu', conv('stem', net.input([3, 32, 32]), 3, 16, 3, 1));
  let inputs = 16;
  for (const [stage, outputs] of [16, 32, 64].entries()) {
    for (let block = 0; block < 3; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const inner = net.relu(`${name}.relu1`, conv(`${name}.conv1`, x, inputs, outputs, 3, stride));
      const branch = conv(`${name}.conv2`, inner, outputs, outputs, 3, 1);
      const shortcut = inputs === outputs ? x : conv(`${name}.shortcut`, x, inputs, outputs, 1, stride);
      x = net.relu(`${name}.relu2`, net.op('Add', `${name}.add`, [branch, shortcut]));
      inputs = outputs;
    }
  }
  return net.finish(net.gemm('classify', net.pooled(x), 64, 10));
}
