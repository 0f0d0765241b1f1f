import { count, decibels, percent, plural } from './format.js';
import type { OutputReport, Report } from './schema.js';

/** How far an output may be from the float model's: RMS error over the spread of the float output (5.6 % is 25 dB, 17.8 % is 15 dB). */
const errorLimits = { inspect: 10 ** (-25 / 20), refuse: 10 ** (-15 / 20) };
/** Share of samples or positions that keep their class. */
const agreementLimits = { inspect: 0.99, refuse: 0.95 };
/** Error below which a change of class means that the float model itself hardly prefers one (35 dB). */
const indifferent = 10 ** (-35 / 20);

type Fidelity = NonNullable<OutputReport['fidelity']>;
type Judged = OutputReport & { fidelity: Fidelity };

/** What the verdict says against an output without labels; null where it says nothing. */
export interface FidelityProblem {
  severity: 'inspect' | 'do_not_ship';
  text: string;
}

const isJudged = (output: OutputReport): output is Judged => output.fidelity !== null;

/**
 * Whether a report is judged by the distance from the float model alone: without labels, or with a metric that asks the float model
 * and not the labels.
 */
export const judgedByFidelity = ({ task, metric }: Pick<Report, 'task' | 'metric'>): boolean =>
  task === 'unlabelled' || ['agreement', 'relative_error', 'cosine'].includes(metric.name);

/** Outputs that are told of one by one; the others are counted. */
const mostTold = 3;

/**
 * What the verdict says against outputs by their distance from the float model's: class outputs are judged by the share of samples or positions that keep
 * their class, all others by the error in units of the spread of the float output. The worst come first.
 */
export function judgeOutputs(outputs: readonly OutputReport[]): FidelityProblem[] {
  const alone = outputs.filter(isJudged).length === 1;
  const found = outputs.flatMap((output) => {
    const problem = judgeOutput(output);
    if (!problem) return [];
    const subject = alone || !isJudged(output) ? 'That is' : `Output "${output.name}" ${differenceText(output)}:`;
    return [{ severity: problem.severity, text: `${subject} ${problem.text}` }];
  });
  found.sort((x, y) => Number(y.severity === 'do_not_ship') - Number(x.severity === 'do_not_ship'));
  const told = found.slice(0, mostTold);
  const last = told.at(-1);
  if (last && found.length > mostTold) last.text += ` So are ${found.length - mostTold} more outputs.`;
  return told;
}

function judgeOutput(output: OutputReport): FidelityProblem | null {
  if (!isJudged(output)) return null;
  const { relativeError: error, agreement } = output.fidelity;
  const far = (severity: FidelityProblem['severity'], limit: number) => ({
    severity,
    text: `an error of more than ${percent(limit, 0)} of the spread.`,
  });
  const unkept = (severity: FidelityProblem['severity'], limit: number) => ({
    severity,
    text: `less than ${percent(limit, 0)} keep their class.`,
  });
  if (agreement === null) {
    if (error > errorLimits.refuse) return far('do_not_ship', errorLimits.refuse);
    return error > errorLimits.inspect ? far('inspect', errorLimits.inspect) : null;
  }
  if (error > indifferent && agreement < agreementLimits.refuse) return unkept('do_not_ship', agreementLimits.refuse);
  if (error > indifferent && agreement < agreementLimits.inspect) return unkept('inspect', agreementLimits.inspect);
  return error > errorLimits.refuse ? far('inspect', errorLimits.refuse) : null;
}

/** Outputs whose class changes though their scores hardly do: the float model itself does not prefer one. */
export function indifferenceNote(outputs: readonly OutputReport[]): string | null {
  const found = outputs.filter(
    ({ fidelity }) =>
      fidelity !== null &&
      fidelity.agreement !== null &&
      fidelity.agreement < agreementLimits.inspect &&
      fidelity.relativeError <= indifferent,
  );
  if (found.length === 0) return null;
  const names = found.map(({ name, fidelity }) => `"${name}" (${percent(fidelity?.agreement ?? 0)} keep their class)`);
  return `The scores of ${names.join(', ')} hardly change: where the class does, the float model itself hardly prefers one.`;
}

/** "differs from float by 0.87 % of its spread (SQNR 41.2 dB), agreement of positions 99.90 %". */
export function differenceText({ fidelity, kind }: Judged, of = 'its spread'): string {
  const { sqnrDb, relativeError, agreement, positions } = fidelity;
  if (sqnrDb === null) return 'is the same as that of the float model';
  const error = `differs from float by ${percent(relativeError)} of ${of} (SQNR ${decibels(sqnrDb)})`;
  if (agreement === null) return error;
  const what = kind === 'binary' ? 'agreement of answers' : positions > 1 ? 'agreement of positions' : 'agreement of classes';
  return `${error}, ${what} ${percent(agreement)}`;
}

/** Figures of an output for a table: kind, error in units of its spread, SQNR, cosine, agreement. */
export function outputCells({ kind, axis, fidelity, labelled }: OutputReport): string[] {
  const what = `${kind}${axis === null ? '' : `, axis ${axis}`}${labelled ? ', labelled' : ''}`;
  if (!fidelity) return [what, 'not judged', '', '', ''];
  const { relativeError, sqnrDb, cosine, agreement } = fidelity;
  return [
    what,
    percent(relativeError),
    sqnrDb === null ? 'no error' : decibels(sqnrDb),
    cosine.toFixed(5),
    agreement === null ? '' : percent(agreement),
  ];
}

/** Whether the outputs are shown one by one: there are several, or no labels say how good they are. */
export const showsOutputs = (report: Pick<Report, 'task' | 'metric' | 'outputs'>): boolean =>
  report.outputs.length > 1 || judgedByFidelity(report);

/** The sentence with the figures of all judged outputs. */
export function fidelityHeadline({ outputs, int8, samples }: Pick<Report, 'outputs' | 'int8' | 'samples'>): string {
  const judged = outputs.filter(isJudged);
  const subject = `int8 (${int8.from.toUpperCase()})`;
  const n = `n = ${count(samples.evaluation)}`;
  const [only] = judged;
  if (!only) return `${subject} has no output that can be judged.`;
  if (judged.every(({ fidelity }) => fidelity.sqnrDb === null)) return `${subject} gives the same numbers as float, ${n}.`;
  if (judged.length === 1) return `${subject} ${differenceText(only, 'the spread of its output')}, ${n}.`;
  const worst = judged.reduce((a, b) => (b.fidelity.relativeError > a.fidelity.relativeError ? b : a));
  const named = judged.filter(({ fidelity }) => fidelity.agreement !== null);
  const least = named.length
    ? named.reduce((a, b) => ((b.fidelity.agreement as number) < (a.fidelity.agreement as number) ? b : a))
    : undefined;
  const { relativeError, sqnrDb } = worst.fidelity;
  return [
    `Of ${plural(judged.length, 'output')}, int8 (${int8.from.toUpperCase()}) differs most from float in "${worst.name}": ${percent(relativeError)} of its spread${sqnrDb === null ? '' : ` (SQNR ${decibels(sqnrDb)})`}`,
    ...(least ? [`least agreement ${percent(least.fidelity.agreement as number)} ("${least.name}")`] : []),
    `${n}.`,
  ].join(', ');
}
