import type { Pass } from '../ir/pass.js';
import { Tensor } from '../tensor/tensor.js';
import { biasOf, layerOf, perChannel, setWeights, toGemm } from './layer.js';
import { bypass, constantOperand, floatConstant, soleProducer, sweep } from './match.js';

/** MatMul of two matrices and an Add of a constant row, as one Gemm under the name of the MatMul. */
export const matmulAddToGemm: Pass = {
  name: 'matmulAddToGemm',
  run: (graph) =>
    sweep(graph, (node) => {
      const operands = node.is('Add') ? constantOperand(node) : undefined;
      const matmul = soleProducer(graph, operands?.other, 'MatMul');
      const bias = floatConstant(operands?.constant);
      const layer = matmul && layerOf(matmul);
      if (!operands || !matmul || !bias || !layer || matmul.input(0).shape?.length !== 2 || layer.weight.shape.length !== 2) return false;
      const row = perChannel(bias, 2, 1, layer.channels);
      if (!row) return false;
      const whole = bias.shape.length === 1 && bias.size === layer.channels;
      const value = whole
        ? operands.constant
        : graph.constant(operands.constant.name, Tensor.float32([layer.channels], Float32Array.from(row)));
      return bypass(graph, node, toGemm(graph, matmul, value));
    }),
};

/** `alpha`, `beta` and a bias that is not a vector, worked into constant weights and bias. */
export const plainGemm: Pass = {
  name: 'plainGemm',
  run: (graph) =>
    sweep(graph, (node) => {
      if (!node.is('Gemm')) return false;
      const alpha = node.attr('alpha');
      const bias = node.inputs[2];
      const layer = layerOf(node);
      if (!layer || (alpha === 1 && (!bias || (node.attr('beta') === 1 && bias.shape?.length === 1 && bias.shape[0] === layer.channels))))
        return false;
      const weight = layer.weight.data.map((w) => w * alpha);
      const numbers = biasOf(layer);
      if (!numbers || !weight.every(Number.isFinite)) return false;
      setWeights(graph, layer, weight, bias ? Float32Array.from(numbers) : undefined);
      node.attrs = { ...node.attrs, alpha: 1 };
      return true;
    }),
};
