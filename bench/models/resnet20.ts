import { Graph, type Value } from '../../packages/quant-core/src/ir/graph.js';
import { inferShapes } from '../../packages/quant-core/src/ir/infer.js';
import { Random } from '../../packages/quant-core/src/tensor/random.js';
import { sizeOf, Tensor } from '../../packages/quant-core/src/tensor/tensor.js';

/** Name of the batch dimension. */
export const batchSymbol = 'N';

/**
 * ResNet-20 for 32×32 images (He et al. 2016, section 4.2), batch norm already folded: input `x` [N, 3, 32, 32], output `logits` [N, 10].
 * Weights are uniform in ±1/√fanIn, PyTorch's default, from a seed. The same network as bench/peers/resnet20.py.
 */
export function resnet20(seed = 0): Graph {
  const graph = new Graph('resnet20');
  const random = Random.for(seed, 'resnet20 weights');
  const weights = (name: string, shape: readonly number[], fanIn: number): Value => {
    const bound = 1 / Math.sqrt(fanIn);
    return graph.constant(
      name,
      Tensor.float32(
        shape,
        Float32Array.from({ length: sizeOf(shape) }, () => (2 * random.uniform() - 1) * bound),
      ),
    );
  };
  const bias = (name: string, width: number): Value => graph.constant(name, Tensor.zeros('float32', [width]));

  const conv = (name: string, x: Value, inputs: number, outputs: number, kernel: number, stride: number): Value => {
    const pad = (kernel - 1) / 2;
    const w = weights(`${name}.weight`, [outputs, inputs, kernel, kernel], inputs * kernel * kernel);
    const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad], dilations: [1, 1] };
    return graph.node('Conv', [x, w, bias(`${name}.bias`, outputs)], attributes, { name }).output();
  };
  const relu = (name: string, x: Value): Value => graph.node('Relu', [x], {}, { name }).output();

  let x = graph.input('x', { dtype: 'float32', shape: [batchSymbol, 3, 32, 32] });
  x = relu('stem.relu', conv('stem', x, 3, 16, 3, 1));
  let inputs = 16;
  for (const [stage, outputs] of [16, 32, 64].entries()) {
    for (let block = 0; block < 3; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const inner = relu(`${name}.relu1`, conv(`${name}.conv1`, x, inputs, outputs, 3, stride));
      const branch = conv(`${name}.conv2`, inner, outputs, outputs, 3, 1);
      const shortcut = inputs === outputs ? x : conv(`${name}.shortcut`, x, inputs, outputs, 1, stride);
      x = relu(`${name}.relu2`, graph.node('Add', [branch, shortcut], {}, { name: `${name}.add` }).output());
      inputs = outputs;
    }
  }
  const pooled = graph.node('GlobalAveragePool', [x], {}, { name: 'pool' }).output();
  const flat = graph.node('Flatten', [pooled], { axis: 1 }, { name: 'flatten' }).output();
  const operands = [flat, weights('classify.weight', [10, 64], 64), bias('classify.bias', 10)];
  graph.outputs.push(graph.node('Gemm', operands, { transB: 1 }, { name: 'classify', outputNames: ['logits'] }).output());
  inferShapes(graph);
  return graph;
}
