/**
 * Networks for photographs of 224×224 in their published sizes, batch norm already folded, with ten classes: input `x` [N, 3, 224, 224],
 * output `logits` [N, 10]. Weights are drawn as He et al. (2015) have it, so that signals keep their size through any depth.
 */
import type { Graph, Value } from '../../packages/quant-core/src/ir/graph.js';
import { type ConvShape, Net } from './net.js';

const image = [3, 224, 224] as const;
const classes = 10;

/** A convolution whose weights are uniform in ±√(6/fanIn). */
function conv(net: Net, name: string, x: Value, shape: ConvShape): Value {
  const { inputs, outputs, kernel, stride = 1, group = 1 } = shape;
  const [each, pad] = [inputs / group, (kernel - 1) / 2];
  const weight = net.weights(`${name}.weight`, [outputs, each, kernel, kernel], (each * kernel * kernel) / 6);
  const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad], dilations: [1, 1], group };
  return net.op('Conv', name, [x, weight, net.filled(`${name}.bias`, [outputs], 0)], attributes);
}

/** ResNet-18 (He et al. 2016). */
export function resnet18(seed = 0): Graph {
  const net = new Net('resnet18', seed);
  const stem = net.relu('stem.relu', conv(net, 'stem', net.input(image), { inputs: 3, outputs: 64, kernel: 7, stride: 2 }));
  let x = net.op('MaxPool', 'stem.pool', [stem], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  let inputs = 64;
  for (const [stage, outputs] of [64, 128, 256, 512].entries()) {
    for (let block = 0; block < 2; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const inner = net.relu(`${name}.relu1`, conv(net, `${name}.conv1`, x, { inputs, outputs, kernel: 3, stride }));
      const branch = conv(net, `${name}.conv2`, inner, { inputs: outputs, outputs, kernel: 3 });
      const shortcut = stride === 1 ? x : conv(net, `${name}.shortcut`, x, { inputs, outputs, kernel: 1, stride });
      x = net.relu(`${name}.relu2`, net.op('Add', `${name}.add`, [branch, shortcut]));
      inputs = outputs;
    }
  }
  return net.finish(net.gemm('classify', net.pooled(x), inputs, classes));
}

/** Stages of MobileNetV2: expansion, output channels, blocks, stride of the first. */
const v2 = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

/** MobileNetV2 (Sandler et al. 2018). */
export function mobilenetv2(seed = 0): Graph {
  const net = new Net('mobilenetv2-224', seed);
  const limits = [net.filled('zero', [], 0), net.filled('six', [], 6)];
  const relu6 = (name: string, value: Value) => net.op('Clip', name, [value, ...limits]);
  let x = relu6('stem.relu', conv(net, 'stem', net.input(image), { inputs: 3, outputs: 32, kernel: 3, stride: 2 }));
  let inputs = 32;
  for (const [stage, [expansion, outputs, blocks, first]] of v2.entries()) {
    for (let block = 0; block < blocks; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = block === 0 ? first : 1;
      const hidden = inputs * expansion;
      let y = x;
      if (expansion > 1) y = relu6(`${name}.relu1`, conv(net, `${name}.expand`, y, { inputs, outputs: hidden, kernel: 1 }));
      const depthwise = { inputs: hidden, outputs: hidden, kernel: 3, stride, group: hidden };
      y = relu6(`${name}.relu2`, conv(net, `${name}.depthwise`, y, depthwise));
      y = conv(net, `${name}.project`, y, { inputs: hidden, outputs, kernel: 1 });
      x = stride === 1 && inputs === outputs ? net.op('Add', `${name}.add`, [x, y]) : y;
      inputs = outputs;
    }
  }
  x = relu6('head.relu', conv(net, 'head', x, { inputs, outputs: 1280, kernel: 1 }));
  return net.finish(net.gemm('classify', net.pooled(x), 1280, classes));
}

/** Blocks of MobileNetV3-Large: kernel, hidden channels, output channels, squeeze and excitation, hard swish, stride. */
const v3 = [
  [3, 16, 16, false, false, 1],
  [3, 64, 24, false, false, 2],
  [3, 72, 24, false, false, 1],
  [5, 72, 40, true, false, 2],
  [5, 120, 40, true, false, 1],
  [5, 120, 40, true, false, 1],
  [3, 240, 80, false, true, 2],
  [3, 200, 80, false, true, 1],
  [3, 184, 80, false, true, 1],
  [3, 184, 80, false, true, 1],
  [3, 480, 112, true, true, 1],
  [3, 672, 112, true, true, 1],
  [5, 672, 160, true, true, 2],
  [5, 960, 160, true, true, 1],
  [5, 960, 160, true, true, 1],
] as const;

/** MobileNetV3-Large (Howard et al. 2019). */
export function mobilenetv3(seed = 0): Graph {
  const net = new Net('mobilenetv3', seed);
  const swish = (name: string, value: Value) => net.op('HardSwish', name, [value]);
  const squeezed = (name: string, value: Value, channels: number): Value => {
    const fewer = Math.ceil(channels / 32) * 8;
    const pooled = net.op('GlobalAveragePool', `${name}.pool`, [value]);
    const inner = net.relu(`${name}.relu`, conv(net, `${name}.reduce`, pooled, { inputs: channels, outputs: fewer, kernel: 1 }));
    const outer = conv(net, `${name}.expand`, inner, { inputs: fewer, outputs: channels, kernel: 1 });
    return net.op('Mul', `${name}.mul`, [value, net.op('HardSigmoid', `${name}.gate`, [outer], { alpha: 1 / 6, beta: 0.5 })]);
  };
  let x = swish('stem.swish', conv(net, 'stem', net.input(image), { inputs: 3, outputs: 16, kernel: 3, stride: 2 }));
  let inputs = 16;
  for (const [block, [kernel, hidden, outputs, squeeze, hard, stride]] of v3.entries()) {
    const name = `block${block}`;
    const activation = (part: string, value: Value) => (hard ? swish(`${name}.${part}`, value) : net.relu(`${name}.${part}`, value));
    let y = x;
    if (hidden !== inputs) y = activation('act1', conv(net, `${name}.expand`, y, { inputs, outputs: hidden, kernel: 1 }));
    y = activation('act2', conv(net, `${name}.depthwise`, y, { inputs: hidden, outputs: hidden, kernel, stride, group: hidden }));
    if (squeeze) y = squeezed(`${name}.squeeze`, y, hidden);
    y = conv(net, `${name}.project`, y, { inputs: hidden, outputs, kernel: 1 });
    x = stride === 1 && inputs === outputs ? net.op('Add', `${name}.add`, [x, y]) : y;
    inputs = outputs;
  }
  x = swish('head.swish', conv(net, 'head', x, { inputs, outputs: 960, kernel: 1 }));
  x = swish('classify.swish', net.gemm('classify.hidden', net.pooled(x), 960, 1280));
  return net.finish(net.gemm('classify', x, 1280, classes));
}
