import { sizeOf } from '../tensor/tensor.js';
import { elements, sameRows, type Task } from './task.js';

/** One or several numbers to predict for each sample. */
export const regression: Task = {
  label: 'regression',
  kind: 'values',
  refuses({ targetShape, targetFacts: facts }, output) {
    if (!targetShape) return 'it has no target values';
    if (output.form === 'probabilities' && facts && (facts.min < 0 || facts.max > 1) && !facts.sumsToOne)
      return `output "${output.name}" gives shares of 0 to 1, and the targets run from ${facts.min} to ${facts.max}`;
    const width = elements(output);
    return width !== undefined && sizeOf(targetShape) !== width
      ? `its targets have shape [${targetShape}], and the model has ${width} outputs`
      : undefined;
  },
  axis: () => null,
  losses: () => ['mse', 'huber'],
  metrics: () => ['mae', 'rmse', 'r2'],
  targets: sameRows,
  collects: 'values',
  blocks: [],
};
