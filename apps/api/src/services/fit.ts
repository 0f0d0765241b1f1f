import {
  ConfigError,
  type Dataset,
  type DatasetSummary,
  type FieldError,
  type Model,
  type ModelSummary,
  type Recipe,
  ServiceError,
} from '@octet/contracts';

/** Whether a dataset can be fed to a model, and if not, why. */
export interface Fit {
  model: string;
  fits: boolean;
  problems: { code: string; detail: string; hint: string }[];
}

/**
 * Compare what is known of a dataset with what is known of a model: shape of a sample, number of classes or targets.
 * Only what is certain is refused; the job reads every sample and has the last word.
 */
export function fitOf(dataset: Pick<Dataset, 'summary'>, model: Pick<Model, 'id' | 'summary'>): Fit {
  const problems = [shapeProblem(dataset.summary, model.summary), outputProblem(dataset.summary, model.summary)].filter(
    (problem) => problem !== undefined,
  );
  return {
    model: model.id,
    fits: problems.length === 0,
    problems: problems.map(({ code, message, hint }) => ({ code, detail: message, hint })),
  };
}

/** @throws ServiceError DATASET_SHAPE or DATASET_CLASSES for a dataset that cannot be fed to the model */
export function requireFit(what: string, dataset: DatasetSummary, model: ModelSummary): void {
  const problem = shapeProblem(dataset, model) ?? outputProblem(dataset, model);
  if (problem !== undefined) throw new ServiceError(problem.code, `${what}: ${problem.message}`, { place: problem.place });
}

/** @throws ConfigError for settings that this model and these data cannot meet */
export function requireSense(recipe: Recipe, model: ModelSummary, dataset: DatasetSummary): void {
  if (recipe.method === 'qat' && !model.trainable) {
    throw new ServiceError('MODEL_NOT_TRAINABLE', 'No quantized layer of this model can be reached by the gradient of the loss.', {
      place: { pointer: '/method' },
    });
  }
  const errors: FieldError[] = [];
  const { metric } = recipe.evaluation;
  const classification = ['top1', 'top5'];
  const regression = ['mae', 'rmse', 'r2'];
  const tasks =
    dataset.task === 'classification' ? [...classification, 'agreement'] : dataset.task === 'regression' ? regression : ['agreement'];
  if (metric !== 'auto' && !tasks.includes(metric))
    errors.push({
      pointer: '/evaluation/metric',
      detail: `"${metric}" does not fit a dataset for ${dataset.task}`,
      hint: `Use auto, ${tasks.join(', ')}.`,
    });
  const { loss } = recipe.training;
  if (dataset.task === 'unlabelled' && (loss === 'cross_entropy' || loss === 'mse')) {
    errors.push({
      pointer: '/training/loss',
      detail: `"${loss}" needs labels, and the dataset has none`,
      hint: 'Use auto or distillation.',
    });
  }
  if (dataset.task === 'regression' && loss === 'cross_entropy')
    errors.push({ pointer: '/training/loss', detail: '"cross_entropy" needs class labels', hint: 'Use auto, mse or distillation.' });
  if (dataset.samples < 2) errors.push({ pointer: '/dataset', detail: `has ${dataset.samples} sample` });
  if (errors.length > 0) throw new ConfigError('CONFIG_IMPOSSIBLE', errors);
}

function shapeProblem(summary: DatasetSummary, model: ModelSummary): ServiceError | undefined {
  const input = model.inputs[0];
  if (input === undefined || summary.format === 'images') return undefined;
  const wanted = input.shape.slice(1);
  if (wanted.some((size) => typeof size === 'string')) return undefined;
  const stored = summary.sampleShape;
  const sizes = (shape: readonly (number | string)[]) =>
    shape
      .filter((size) => size !== 1)
      .map(Number)
      .sort((a, b) => a - b)
      .join();
  if (sizes(stored) === sizes(wanted)) return undefined;
  const elements = (shape: readonly (number | string)[]) => shape.reduce<number>((product, size) => product * Number(size), 1);
  const flat = stored.length === 1 || wanted.length === 1;
  if (flat && elements(stored) === elements(wanted)) return undefined;
  return new ServiceError(
    'DATASET_SHAPE',
    `a sample has shape [${stored.join(', ')}], and input "${input.name}" of the model wants [${wanted.join(', ')}].`,
    {
      place: { tensor: input.name },
    },
  );
}

function outputProblem(dataset: DatasetSummary, model: ModelSummary): ServiceError | undefined {
  const output = model.outputs[0];
  if (output === undefined) return undefined;
  const sizes = output.shape.slice(1);
  if (sizes.length === 0 || sizes.some((size) => typeof size === 'string')) return undefined;
  const width = sizes.reduce<number>((product, size) => product * Number(size), 1);
  if (dataset.task === 'classification' && dataset.classes !== undefined && dataset.classes > width) {
    return new ServiceError(
      'DATASET_CLASSES',
      `the dataset has ${dataset.classes} classes, and output "${output.name}" of the model has ${width}.`,
      {
        place: { tensor: output.name },
      },
    );
  }
  const targets = dataset.targetShape?.reduce((product, size) => product * size, 1);
  if (dataset.task === 'regression' && targets !== undefined && targets !== width) {
    return new ServiceError('DATASET_SHAPE', `a target has ${targets} values, and output "${output.name}" of the model has ${width}.`, {
      place: { tensor: output.name },
    });
  }
  return undefined;
}
