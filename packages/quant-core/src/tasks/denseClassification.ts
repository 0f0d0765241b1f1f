import type { ModelOutput } from './output.js';
import { isIgnored, type TargetFacts, type TargetSpec, type Task, type Truth } from './task.js';

/** A class for every position of a sample: a pixel, a token. */
export const denseClassification: Task = {
  label: 'classification of every position',
  kind: 'classes',
  refuses(targets, output) {
    const { targetShape, targetFacts } = targets;
    if (!targetShape || !targetFacts?.whole) return 'its targets are not whole numbers, one for each position';
    if (!output.shape) return undefined;
    const axis = classAxis(targets, output);
    if (axis === null)
      return `its targets have a class for each of [${targetShape}] positions, and output "${output.name}" has shape [${output.shape}]`;
    const classes = output.shape[axis];
    if (classes === 1) return `output "${output.name}" has one score a position, a yes or no: its targets are 0 and 1`;
    const labels = targetFacts.max === 255 ? 255 : targetFacts.max + 1;
    return typeof classes === 'number' && targetFacts.max !== 255 && labels > classes
      ? `it has ${labels} classes (labels 0 to ${targetFacts.max}), and output "${output.name}" has ${classes}`
      : undefined;
  },
  axis: classAxis,
  losses: () => ['cross_entropy'],
  metrics: () => ['mean_iou', 'position_accuracy', 'agreement'],
  targets: weightedOneHot,
  collects: 'positions',
  blocks: ['classes'],
};

/** Positions of [1, …] and […, 1] targets, as masks are stored that kept their one channel. */
function withoutChannel(targetShape: readonly number[], rank: number): readonly number[] {
  if (targetShape.length !== rank + 1) return targetShape;
  return targetShape[0] === 1 ? targetShape.slice(1) : targetShape.at(-1) === 1 ? targetShape.slice(0, -1) : targetShape;
}

/** The axis of the output that is left when those of the positions are taken away: axis 1, or the last one. */
function classAxis({ targetShape }: TargetFacts, { shape, axis, certain, kind }: ModelOutput): number | null {
  if (!shape || !targetShape) return axis;
  const wanted = withoutChannel(targetShape, shape.length - 2);
  if (shape.length !== wanted.length + 2) return null;
  const fits = (at: number) => {
    const positions = shape.slice(1).filter((_, i) => i !== at - 1);
    return positions.every((dim, i) => typeof dim !== 'number' || dim === wanted[i]);
  };
  if (kind === 'classes' && certain && axis !== null) return fits(axis) ? axis : null;
  const candidates = [...new Set([1, shape.length - 1])].filter(fits);
  return candidates[0] ?? null;
}

/**
 * One-hot along the class axis at every position; ignored positions are all 0, and the others weigh more by as much, so that the mean over all
 * positions of the batch is the mean over those that count.
 */
function weightedOneHot({ values }: Truth, { width, layout, ignoreIndex }: TargetSpec, from: number, to: number): Float32Array {
  const labels = (values as { data: Float32Array }).data;
  const { outer, classes, inner } = layout;
  const positions = outer * inner;
  let counted = 0;
  for (const label of labels) if (!isIgnored(label, classes, ignoreIndex)) counted++;
  const weight = counted ? labels.length / counted : 0;
  const target = new Float32Array((to - from) * width);
  for (let row = from; row < to; row++) {
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const label = labels[row * positions + o * inner + i] as number;
        if (isIgnored(label, classes, ignoreIndex)) continue;
        target[(row - from) * width + (o * classes + label) * inner + i] = weight;
      }
    }
  }
  return target;
}
