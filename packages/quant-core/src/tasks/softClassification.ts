import { sizeOf } from '../tensor/tensor.js';
import { elements, sameRows, type Task } from './task.js';

/** A distribution over the classes for each sample: rows of shares that add up to 1. */
export const softClassification: Task = {
  label: 'soft classification',
  kind: 'classes',
  refuses({ targetShape, targetFacts }, output) {
    if (!targetShape || !targetFacts?.sumsToOne) return 'its targets are not rows of shares that add up to 1';
    const width = elements(output);
    if (width !== undefined && sizeOf(targetShape) !== width)
      return `its targets have shape [${targetShape}], and the model has ${width} outputs`;
    return undefined;
  },
  axis: () => 1,
  losses: () => ['cross_entropy'],
  metrics: () => ['top1', 'top5', 'kl', 'agreement'],
  targets: sameRows,
  collects: 'soft',
  blocks: ['classes', 'confusion', 'flips'],
};
