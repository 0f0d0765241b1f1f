import type { TaskName } from '../choices.js';
import { offsetAssumption } from '../data/label-offset.js';
import { type ErrorCode, OctetError } from '../errors.js';
import { tasks } from './index.js';
import type { ModelOutput } from './output.js';
import { labelOffset, type TargetFacts } from './task.js';

/** What a dataset tells about its labels. */
export interface Labels extends TargetFacts {
  /** As the labels alone suggest. */
  task: TaskName;
}

/** What is asked of one output. */
export interface OutputTask {
  output: ModelOutput;
  task: TaskName;
}

/** Which output the labels belong to, and what is asked of each. */
export interface Assignment {
  /** What the labels are for the model. */
  task: TaskName;
  /** The judged outputs; the one that the labels belong to, or else the one that says most, comes first. */
  outputs: [OutputTask, ...OutputTask[]];
  /** What the smallest class label is. */
  labelOffset: 0 | 1;
  /** What was taken for granted, in sentences. */
  assumptions: string[];
}

/** What a caller says: the output that the labels belong to, and what the labels are. */
interface AssignmentWish {
  output?: string | undefined;
  task?: TaskName | undefined;
}

/**
 * Give the labels of a dataset to the one output they fit.
 * @throws OctetError MODEL_INPUTS_UNSUPPORTED without an output to judge, CONFIG_IMPOSSIBLE for a name that is none, DATASET_CLASSES,
 *   DATASET_SHAPE or DATASET_LABELS where the labels fit none, DATASET_AMBIGUOUS where they fit several
 */
export function assignTasks(outputs: readonly ModelOutput[], labels: Labels, wish: AssignmentWish = {}): Assignment {
  const judged = outputs.filter((output) => output.judged);
  if (!judged.length) {
    throw new OctetError(
      'MODEL_INPUTS_UNSUPPORTED',
      `No output of the model can be judged. ${outputs.map(({ name, why }) => `"${name}": ${why}`).join(' ')}`,
      outputs[0] ? { tensor: outputs[0].name } : {},
      { hint: 'Export the model with its scores or values as a float32 output with the batch in front.' },
    );
  }
  const candidates = named(outputs, judged, wish.output);
  if (labels.task === 'unlabelled') return assigned(judged, mostTelling(candidates), 'unlabelled', null, []);
  const possible = wish.task ? [wish.task] : tasksOf(labels);
  for (const task of possible) {
    const fitting = candidates.filter((output) => tasks[task].refuses(labels, output) === undefined);
    if (!fitting.length) continue;
    const output = onlyOne(asWide(fitting, task, labels), task);
    return assigned(judged, output, task, labels, assumed(task, possible, judged, output));
  }
  throw misfit(possible[0] as TaskName, labels, candidates);
}

function named(outputs: readonly ModelOutput[], judged: ModelOutput[], wanted: string | undefined): ModelOutput[] {
  if (wanted === undefined) return judged;
  const found = outputs.find((output) => output.name === wanted);
  if (found?.judged) return [found];
  throw new OctetError(
    'CONFIG_IMPOSSIBLE',
    found ? `Output "${wanted}" cannot be judged: ${found.why}` : `The model has no output "${wanted}"`,
    { pointer: '/output' },
    { hint: `Name one of ${judged.map((output) => `"${output.name}"`).join(', ')}.` },
  );
}

/** What labels of this kind can be, the likeliest first. */
function tasksOf({ task, targetFacts: facts }: Labels): readonly TaskName[] {
  if (!facts) return [task];
  if (facts.sumsToOne) return ['soft_classification', 'regression'];
  if (facts.whole && facts.min >= 0 && facts.max <= 1) return ['multi_label', 'dense_classification', 'regression'];
  return facts.whole ? ['dense_classification', 'regression'] : ['regression'];
}

/** The output that says most where no labels choose one: scores before values, what is certain before guesses. */
const mostTelling = (outputs: readonly ModelOutput[]): ModelOutput =>
  outputs.find(({ kind, certain }) => kind === 'classes' && certain) ?? (outputs[0] as ModelOutput);

/** For class labels the outputs that have as many scores as there are classes, where there are such: a wider one need not be scores at all. */
function asWide(fitting: readonly ModelOutput[], task: TaskName, labels: Labels): readonly ModelOutput[] {
  if (task !== 'classification') return fitting;
  const exact = fitting.filter(({ width }) => width !== null && Math.max(width, 2) === (labels.classes ?? 0) - labelOffset(labels, width));
  return exact.length ? exact : fitting;
}

function onlyOne(fitting: readonly ModelOutput[], task: TaskName): ModelOutput {
  const { kind } = tasks[task];
  const alike = fitting.filter((output) => output.certain && output.kind === kind);
  const rest = alike.length ? alike : fitting;
  const [first] = rest as [ModelOutput];
  if (rest.every((output) => output.of === first.of)) return first;
  throw new OctetError(
    'DATASET_AMBIGUOUS',
    `The labels fit the outputs ${rest.map((output) => `"${output.name}"`).join(', ')} alike`,
    { pointer: '/output' },
    { hint: `Say which one they belong to: {"output": "${first.name}"}.` },
  );
}

function assumed(task: TaskName, possible: readonly TaskName[], judged: readonly ModelOutput[], output: ModelOutput): string[] {
  return [
    ...(judged.length > 1 ? [`The labels are taken for output "${output.name}".`] : []),
    ...(possible.length > 1 ? [`The targets are taken for ${tasks[task].label} ("task": "${task}").`] : []),
  ];
}

function assigned(
  judged: readonly ModelOutput[],
  first: ModelOutput,
  task: TaskName,
  labels: Labels | null,
  assumptions: string[],
): Assignment {
  const { kind, axis } = tasks[task];
  const counted = labels && axis(labels, first);
  const own: ModelOutput = labels
    ? {
        ...first,
        kind: counted === null && kind === 'classes' ? 'binary' : (kind ?? first.kind),
        axis: counted,
        certain: true,
        why: first.certain && first.kind === kind ? first.why : 'The labels fit it.',
      }
    : first;
  const others = judged.filter((output) => output.name !== first.name).map((output) => ({ output, task: 'unlabelled' as const }));
  const offset = labels && task === 'classification' ? labelOffset(labels, first.width ?? undefined) : 0;
  return {
    task,
    outputs: [{ output: own, task }, ...others],
    labelOffset: offset,
    assumptions: offset ? [...assumptions, offsetAssumption(first.width as number)] : assumptions,
  };
}

function misfit(task: TaskName, labels: Labels, outputs: readonly ModelOutput[]): OctetError {
  const reasons = [...new Set(outputs.map((output) => tasks[task].refuses(labels, output)))];
  const code: ErrorCode =
    task === 'classification' ? 'DATASET_CLASSES' : task === 'dense_classification' ? 'DATASET_LABELS' : 'DATASET_SHAPE';
  return new OctetError(
    code,
    `The dataset does not fit the model as ${tasks[task].label}: ${reasons.join('; ')}.`,
    outputs.length === 1 ? { tensor: (outputs[0] as ModelOutput).name } : {},
    {
      hint: 'Say what the labels are ("task" in the config of the dataset) and which output they belong to ("output"), ignore them with "task": "unlabelled", or correct them.',
    },
  );
}
