import { OctetError } from '../errors.js';
import { classTargets, type Targets } from './targets.js';

/**
 * The number that the first class has in a dataset: 1 where labels run from 1 to the number of outputs and no 0 is present (MATLAB, R and some
 * public sets count so), else 0. One-hot labels with a first column that is never used say the same.
 * @param counts samples of each label from 0
 * @param outputs classes that the model tells apart; `undefined` where it leaves them open
 */
export function labelOffsetOf(counts: readonly number[] | undefined, outputs: number | undefined): 0 | 1 {
  return counts !== undefined && outputs !== undefined && counts.length === classesOf(outputs) + 1 && counts[0] === 0 ? 1 : 0;
}

/** Classes that outputs tell apart: a single one is the score of a yes. */
const classesOf = (outputs: number) => Math.max(outputs, 2);

/** What is said of labels that start at 1. */
export function offsetAssumption(outputs: number): string {
  return `Labels run from 1 to ${classesOf(outputs)} and the model has ${outputs === 1 ? '1 output' : `${outputs} outputs`}: label 1 is taken for the first class.`;
}

/**
 * Labels that start at `offset`, brought to start at 0. Named classes are left as they are: they have been looked up.
 * @throws OctetError DATASET_LABELS for a label below the offset
 */
export function shiftLabels(targets: Targets, offset: 0 | 1, file: string): Targets {
  if (offset === 0 || targets.task !== 'classification' || targets.names) return targets;
  const sample = targets.labels.indexOf(0);
  if (sample >= 0) {
    throw new OctetError(
      'DATASET_LABELS',
      `The label of sample ${sample} in "${file}" is 0, but labels start at 1.`,
      { sample, file },
      { hint: 'Say {"labelOffset": 0} in the config of the dataset when 0 is a class.' },
    );
  }
  return classTargets(
    targets.labels.map((label) => label - offset),
    targets.classes - offset,
  );
}
