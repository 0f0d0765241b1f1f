import { count, plural } from './format.js';
import type { Report } from './schema.js';

/** Samples below which a set says little. */
const wanted = { calibration: 32, holdout: 50, evaluation: 100 };
/** Samples below which a set says next to nothing. */
const handful = 10;

/** A finding on the sets of a job, and whether one of them is a handful. */
export interface SmallSets {
  text: string;
  handful: boolean;
  /** Whether more samples should come before anything else is tried: what calibrates or trains is too little. */
  starved: boolean;
}

/** Sets that are too small to mean something; null where all are large enough. */
export function smallSets({ samples, qat }: Pick<Report, 'samples' | 'qat'>): SmallSets | null {
  const { calibration, training, holdout, evaluation } = samples;
  const chosen = qat !== null;
  const trains = chosen && training < wanted.calibration;
  const parts = [
    ...(calibration < wanted.calibration ? [small(calibration, 'calibrates', 'calibrate', wanted.calibration)] : []),
    ...(trains ? [`${count(training)} ${training === 1 ? 'trains' : 'train'}`] : []),
    ...(chosen && holdout < wanted.holdout
      ? [small(holdout, 'chooses between PTQ and QAT', 'choose between PTQ and QAT', wanted.holdout)]
      : []),
    ...(evaluation < wanted.evaluation ? [small(evaluation, 'evaluates', 'evaluate', wanted.evaluation)] : []),
  ];
  if (parts.length === 0) return null;
  const sizes = [calibration, evaluation, ...(chosen ? [training, holdout] : [])];
  return {
    text: `Small sets: ${parts.join(', ')}.`,
    handful: sizes.some((size) => size < handful),
    starved: calibration < wanted.calibration || trains,
  };
}

const small = (n: number, one: string, many: string, least: number) =>
  `${plural(n, 'sample')} ${n === 1 ? one : many} (${count(least)} are wanted)`;

/** What to do about sets that calibrate or train too little. */
export const moreSamples = ({ samples, qat }: Pick<Report, 'samples' | 'qat'>): string =>
  `Send more samples: ${qat === null ? `${plural(samples.calibration, 'sample')} to calibrate` : `${plural(samples.training, 'sample')} to train and ${plural(samples.calibration, 'sample')} to calibrate`} are too few to judge anything else by.`;
