import type { Pass } from '../ir/pass.js';
import { foldAffine, layerBefore, perChannel } from './layer.js';
import { bypass, constantOperand, floatConstant, sweep } from './match.js';

/** What `y op c` (or `c op y`) does to a channel of `y`, as scale and shift. */
const affine = {
  Mul: (c: number): [number, number] => [c, 0],
  Div: (c: number): [number, number] => [1 / c, 0],
  Add: (c: number): [number, number] => [1, c],
  Sub: (c: number, constantFirst: boolean): [number, number] => (constantFirst ? [-1, c] : [1, -c]),
};

const isFoldable = (op: string): op is keyof typeof affine => Object.hasOwn(affine, op);

/** Mul, Add, Sub and Div by a constant for each channel, or one for all, into the weights and bias of the layer that feeds them alone. */
export const foldMulAdd: Pass = {
  name: 'foldMulAdd',
  run: (graph) =>
    sweep(graph, (node) => {
      const { op } = node;
      if (!isFoldable(op)) return false;
      const operands = constantOperand(node);
      const tensor = floatConstant(operands?.constant);
      if (!operands || !tensor || (op === 'Div' && operands.port === 0)) return false;
      const layer = layerBefore(graph, operands.other);
      const numbers = layer && perChannel(tensor, layer.rank, layer.axis, layer.channels);
      if (!layer || !numbers) return false;
      const pairs = Array.from(numbers, (c) => affine[op](c, operands.port === 0));
      const result = foldAffine(
        graph,
        layer,
        Float64Array.from(pairs, ([scale]) => scale),
        Float64Array.from(pairs, ([, shift]) => shift),
      );
      return result !== undefined && bypass(graph, node, result);
    }),
};
