import { sizeOf } from '../tensor/tensor.js';
import { elements, sameRows, type Task } from './task.js';

/** One or several numbers to predict for each sample. */
export const regression: Task = {
  label: 'regression',
  kind: 'values',
  refuses({ targetShape }, output) {
    if (!targetShape) return 'it has no target values';
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
