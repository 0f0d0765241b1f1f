import { sizeOf } from '../tensor/tensor.js';
import { elements, sameRows, type Task } from './task.js';

/** Any number of independent yes/no answers for each sample: 0/1 for every output. */
export const multiLabel: Task = {
  label: 'multi-label classification',
  kind: 'binary',
  refuses({ targetShape, targetFacts }, output) {
    if (!targetShape || !targetFacts?.whole || targetFacts.min < 0 || targetFacts.max > 1) return 'its targets are not all 0 or 1';
    if (output.kind === 'classes' && output.certain && output.form !== 'logits')
      return `output "${output.name}" ends in a softmax: one of its classes is right`;
    const width = elements(output);
    if (width !== undefined && sizeOf(targetShape) !== width)
      return `its targets have shape [${targetShape}], and the model has ${width} outputs`;
    return undefined;
  },
  axis: () => null,
  losses: () => ['binary_cross_entropy'],
  metrics: () => ['auc', 'average_precision', 'binary_accuracy', 'agreement'],
  targets: sameRows,
  collects: 'binary',
  blocks: [],
};
