import { elements, labelOffset, type TargetSpec, type Task, type Truth } from './task.js';

/** One class for each sample. A single output is the score of a yes. */
export const classification: Task = {
  label: 'classification',
  kind: 'classes',
  refuses(targets, output) {
    const { classes } = targets;
    const width = elements(output);
    if (classes === undefined) return 'it has no class labels';
    if (output.shape?.slice(2).some((dim) => dim !== 1)) return `output "${output.name}" has more than one position a sample`;
    if (output.kind === 'values' && output.certain) return `output "${output.name}" holds values, not scores of classes`;
    if (width === undefined) return undefined;
    const most = width === 1 ? 2 : width;
    return classes - labelOffset(targets, width) > most
      ? `it has ${classes} classes (labels 0 to ${classes - 1}), and the model ${width} outputs`
      : undefined;
  },
  axis: (_, { width }) => (width === 1 ? null : 1),
  losses: ({ width }) => (width === 1 ? ['binary_cross_entropy'] : ['cross_entropy']),
  metrics: () => ['top1', 'top5', 'macro_f1', 'agreement'],
  targets: oneHot,
  collects: 'classes',
  blocks: ['classes', 'confusion', 'flips'],
};

/** [n, width] one-hot rows; for a single output the label itself. */
function oneHot({ labels }: Truth, { width }: TargetSpec, from: number, to: number): Float32Array {
  const target = new Float32Array((to - from) * width);
  for (let row = from; row < to; row++) {
    const label = (labels as Int32Array)[row] as number;
    if (width === 1) target[row - from] = label;
    else target[(row - from) * width + label] = 1;
  }
  return target;
}
