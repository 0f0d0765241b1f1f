import { OctetError } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import { fitSamples } from './fit.js';
import { checkOneSize, wishOf } from './images.js';
import type { SampleSpec } from './materialise.js';
import type { Stored } from './reading.js';

/**
 * Whether a dataset can be used with a model, from its summary alone.
 * @param inputs what the model takes, in its order
 * @returns what would be taken for granted
 * @throws OctetError DATASET_INPUTS, DATASET_SHAPE, DATASET_AMBIGUOUS, DATASET_CONFIG
 */
export function checkAgainstModel(summary: DatasetSummary, config: DatasetConfig, inputs: readonly SampleSpec[]): string[] {
  return matchArrays(summary, inputs).flatMap(
    ([stored, input]) =>
      fitSamples({ ...stored, sampleShape: shapeFor(summary, stored.sampleShape, config, input) }, config, input, inputs.length > 1)
        .assumptions,
  );
}

/**
 * Named classes of evaluation data (folders, labels that are texts) are among those of the training data; some may be missing.
 * @throws OctetError DATASET_CLASSES naming a class that the training data do not have
 */
export function checkEvaluationClasses(training: DatasetSummary, evaluation: DatasetSummary): void {
  const { classNames, classes } = training;
  if (!evaluation.classNames || classes === undefined) return;
  const known = classNames ?? evaluation.classNames.filter((name) => /^\d+$/.test(name));
  const unknown = evaluation.classNames.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new OctetError(
    'DATASET_CLASSES',
    `The evaluation data have the class "${unknown}"; ${classNames ? `the training data have ${classNames.slice(0, 10).map(quote).join(', ')}${classNames.length > 10 ? ` and ${classNames.length - 10} more` : ''}` : 'the classes of the training data have numbers and no names'}.`,
    {},
    { hint: 'Evaluation data may lack a class of the training data, but have no other. Correct the name, or take its samples out.' },
  );
}

function quote(name: string | undefined): string {
  return name === undefined ? 'missing' : `"${name}"`;
}

/** The arrays of samples of a dataset, each as if it were the only one. */
export function storedArrays(summary: DatasetSummary): Stored[] {
  return summary.inputs?.map((array) => ({ ...array, format: summary.format })) ?? [summary];
}

/** Each input of a model with the array that is for it. */
function matchArrays(summary: DatasetSummary, inputs: readonly SampleSpec[]): [Stored, SampleSpec][] {
  const { inputs: arrays } = summary;
  if (!arrays && inputs.length === 1) return [[summary, inputs[0] as SampleSpec]];
  const held = arrays?.map((array) => array.name) ?? [];
  return inputs.map((input) => {
    const at = held.indexOf(input.name ?? '');
    if (at >= 0) return [storedArrays(summary)[at] as Stored, input];
    throw new OctetError(
      'DATASET_INPUTS',
      `The model has the input${inputs.length > 1 ? 's' : ''} ${inputs.map((one) => quote(one.name)).join(', ')}; the dataset holds ${held.length ? held.map(quote).join(', ') : 'one array of samples'}, and nothing for ${quote(input.name)}.`,
      { ...(input.name === undefined ? {} : { tensor: input.name }) },
    );
  });
}

/** Images are resized to the model input; other samples have the shape they have. */
function shapeFor(summary: DatasetSummary, stored: number[], config: DatasetConfig, input: SampleSpec): number[] {
  if (summary.format !== 'images') return stored;
  const wish = wishOf(config, input);
  if (wish.height === undefined && summary.imageSizes) checkOneSize(summary.imageSizes);
  const [height, width, channels] = summary.sampleShape as [number, number, number];
  return [wish.height ?? height, wish.width ?? width, wish.channels ?? channels];
}
