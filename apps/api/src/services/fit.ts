import {
  ConfigError,
  checkAgainstModel,
  checkEvaluationClasses,
  type Dataset,
  type DatasetConfig,
  type DatasetSummary,
  type FieldError,
  failureOf,
  type InputType,
  type Model,
  type ModelSummary,
  type Recipe,
  ServiceError,
} from '@octet/contracts';

/** Whether a dataset can be fed to a model, what is taken for granted, and if it cannot, why. */
export interface Fit {
  model: string;
  fits: boolean;
  assumptions: string[];
  problem?: { code: string; detail: string; hint: string };
}

/** A dataset that has been inspected. */
export type Data = Pick<Dataset, 'config' | 'summary'>;

/** Compare what is known of a dataset with what is known of a model: shape of a sample, number of classes or targets. */
export function fitOf(data: Data, model: Pick<Model, 'id' | 'summary'>): Fit {
  try {
    return { model: model.id, fits: true, assumptions: check(data, model.summary) };
  } catch (error) {
    const { code, detail, hint } = failureOf(error);
    if (code === 'INTERNAL') throw error;
    return { model: model.id, fits: false, assumptions: [], problem: { code, detail, hint } };
  }
}

/**
 * Refuse at once what a job could not do.
 * @throws OctetError DATASET_SHAPE, DATASET_AMBIGUOUS, DATASET_CLASSES; ServiceError MODEL_NOT_TRAINABLE; ConfigError CONFIG_IMPOSSIBLE
 */
export function requireSense(recipe: Recipe, model: ModelSummary, dataset: Data, evaluation: Data | undefined): void {
  check(dataset, model);
  if (evaluation !== undefined) {
    check(evaluation, model);
    checkEvaluationClasses(dataset.summary, evaluation.summary);
  }
  if (recipe.method === 'qat' && !model.trainable) {
    throw new ServiceError('MODEL_NOT_TRAINABLE', 'No quantized layer of this model can be reached by the gradient of the loss.', {
      place: { pointer: '/method' },
    });
  }
  const errors = impossible(recipe, dataset.summary, evaluation?.summary);
  if (errors.length > 0) throw new ConfigError('CONFIG_IMPOSSIBLE', errors);
}

function check({ config, summary }: { config: DatasetConfig; summary: DatasetSummary }, model: ModelSummary): string[] {
  const sizes = (shape: readonly (number | string)[]) => shape.slice(1).map((size) => (typeof size === 'number' ? size : undefined));
  const row = sizes(model.outputs[0]?.shape ?? ['N', 'open']);
  const outputs = row.reduce<number | undefined>(
    (product, size) => (product === undefined || size === undefined ? undefined : product * size),
    1,
  );
  return checkAgainstModel(
    summary,
    config,
    model.inputs.map(({ name, shape, dtype }) => ({ name, shape: sizes(shape), dtype: dtype as InputType })),
    outputs,
  );
}

function impossible(recipe: Recipe, dataset: DatasetSummary, evaluation: DatasetSummary | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const { metric } = recipe.evaluation;
  const metrics = {
    classification: ['top1', 'top5', 'agreement'],
    regression: ['mae', 'rmse', 'r2'],
    unlabelled: ['agreement', 'mae', 'rmse', 'r2'],
  }[dataset.task];
  if (metric !== 'auto' && !metrics.includes(metric)) {
    errors.push({
      pointer: '/evaluation/metric',
      detail: `"${metric}" does not fit a dataset for ${dataset.task}`,
      hint: `Use auto, ${metrics.join(', ')}.`,
    });
  }
  const { loss } = recipe.training;
  if (dataset.task === 'unlabelled' && (loss === 'cross_entropy' || loss === 'mse')) {
    errors.push({
      pointer: '/training/loss',
      detail: `"${loss}" needs labels, and the dataset has none`,
      hint: 'Use auto or distillation.',
    });
  }
  if (dataset.task === 'regression' && loss === 'cross_entropy') {
    errors.push({ pointer: '/training/loss', detail: '"cross_entropy" needs class labels', hint: 'Use auto, mse or distillation.' });
  }
  if (evaluation !== undefined && evaluation.task !== dataset.task && dataset.task !== 'unlabelled') {
    errors.push({ pointer: '/evaluationDataset', detail: `is for ${evaluation.task}, and the dataset is for ${dataset.task}` });
  }
  return errors;
}
