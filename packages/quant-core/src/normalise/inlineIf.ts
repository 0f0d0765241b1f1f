import { inlineBranch } from '../formats/onnx/branch.js';
import type { Pass } from '../ir/pass.js';
import { toNumbers } from '../tensor/tensor.js';
import { sweep } from './match.js';

/** An If whose condition is known before the model runs (exporters write one where a size decides) becomes the branch that is taken. */
export const inlineIf: Pass = {
  name: 'inlineIf',
  run: (graph, known) =>
    sweep(graph, (node) => {
      const condition = node.opaque?.opType === 'If' ? node.inputs[0] : undefined;
      if (!condition) return false;
      const value = condition.constant ? toNumbers(condition.constant)[0] : known.get(condition)?.[0];
      return typeof value === 'number' && inlineBranch(graph, node, value !== 0);
    }),
};
