import { OctetError } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import { sizeOf } from '../tensor/tensor.js';
import { fitSamples } from './fit.js';
import { checkOneSize, wishOf } from './images.js';
import type { SampleSpec } from './materialise.js';

/**
 * Whether a dataset can be used with a model, from its summary alone.
 * @param outputs elements of one output row (classes or targets); `undefined` when the model leaves it open
 * @returns what would be taken for granted
 * @throws OctetError DATASET_SHAPE, DATASET_AMBIGUOUS, DATASET_CLASSES, DATASET_CONFIG
 */
export function checkAgainstModel(
  summary: DatasetSummary,
  config: DatasetConfig,
  input: SampleSpec,
  outputs: number | undefined,
): string[] {
  const { assumptions } = fitSamples({ ...summary, sampleShape: shapeFor(summary, config, input) }, config, input);
  if (outputs !== undefined && summary.classes !== undefined && summary.classes > outputs) {
    throw new OctetError(
      'DATASET_CLASSES',
      `The dataset has ${summary.classes} classes (labels 0 to ${summary.classes - 1}), the model has ${outputs} outputs.`,
    );
  }
  if (outputs !== undefined && summary.targetShape && sizeOf(summary.targetShape) !== outputs) {
    throw new OctetError('DATASET_SHAPE', `The dataset has targets of shape [${summary.targetShape}], the model has ${outputs} outputs.`);
  }
  return assumptions;
}

/**
 * Two datasets of one job must mean the same classes: named classes (folders, text labels) must have the same names.
 * @throws OctetError DATASET_CLASSES
 */
export function checkSameClasses(training: DatasetSummary, evaluation: DatasetSummary): void {
  const a = training.classNames;
  const b = evaluation.classNames;
  if (!a || !b) return;
  const different = a.findIndex((name, i) => name !== b[i]);
  if (different < 0 && a.length === b.length) return;
  const at = different < 0 ? a.length : different;
  throw new OctetError(
    'DATASET_CLASSES',
    `Class ${at} is ${quote(a[at])} in the training data and ${quote(b[at])} in the evaluation data.`,
    {},
    {
      hint: 'Both datasets must have the same class folders (or the same text labels), so that the numbers of the classes agree.',
    },
  );
}

function quote(name: string | undefined): string {
  return name === undefined ? 'missing' : `"${name}"`;
}

/** Images are resized to the model input; other samples have the shape they have. */
function shapeFor(summary: DatasetSummary, config: DatasetConfig, input: SampleSpec): number[] {
  if (summary.format !== 'images') return summary.sampleShape;
  const wish = wishOf(config, input);
  if (wish.height === undefined && summary.imageSizes) checkOneSize(summary.imageSizes);
  const [height, width, channels] = summary.sampleShape as [number, number, number];
  return [wish.height ?? height, wish.width ?? width, wish.channels ?? channels];
}
