import type { MetricName, TaskName } from '../choices.js';
import type { SampleSpec } from '../data/materialise.js';
import { checkAgainstModel, checkEvaluationClasses } from '../data/model-check.js';
import { type ErrorCode, OctetError } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import type { DatasetConfig, Recipe } from '../recipe.js';
import { type Assignment, assignTasks } from './assign.js';
import { checkAugmentation } from './augmentation.js';
import { tasks } from './index.js';
import type { ModelOutput } from './output.js';
import type { LossKind } from './task.js';

/** Something of a job that cannot be: where, why, and what to do. */
export interface FieldError {
  /** JSON pointer into the body of the job. */
  pointer: string;
  detail: string;
  hint?: string;
  code: ErrorCode;
}

/** What is known of a model before a job. */
export interface ModelFacts {
  inputs: readonly SampleSpec[];
  outputs: readonly ModelOutput[];
  /** Why no quantized layer can be trained; undefined where one can. */
  notTrainable?: string | undefined;
}

/** A dataset that has been looked through. */
export interface DataFacts {
  config: DatasetConfig;
  summary: DatasetSummary;
}

/**
 * Everything of a job that can be known to be impossible before a sample is run: samples, labels, metric, loss and method against model and datasets.
 * Asked by the API before a job is taken, and by the pipeline before calibration.
 */
export function checkRecipe(recipe: Recipe, model: ModelFacts, dataset: DataFacts, evaluation?: DataFacts): FieldError[] {
  const errors: FieldError[] = [];
  const check = (pointer: string, body: () => void) => {
    try {
      body();
    } catch (error) {
      if (!(error instanceof OctetError) || error.code === 'INTERNAL') throw error;
      errors.push({ pointer: error.place.pointer ?? pointer, detail: error.message, hint: error.hint, code: error.code });
    }
  };
  check('/dataset', () => checkAgainstModel(dataset.summary, dataset.config, model.inputs));
  if (evaluation) {
    check('/evaluationDataset', () => {
      checkAgainstModel(evaluation.summary, evaluation.config, model.inputs);
      checkEvaluationClasses(dataset.summary, evaluation.summary);
    });
  }
  check('/dataset', () => {
    const assignment = assignFor(recipe, model, dataset);
    errors.push(...impossible(recipe, assignment));
    if (recipe.method === 'qat')
      check('/training/augment', () => checkAugmentation(recipe.training.augment, model.inputs, isPerPosition(recipe, assignment)));
    if (!evaluation) return;
    const other = assignFor(recipe, model, evaluation, assignment).task;
    if (other === assignment.task) return;
    errors.push({
      pointer: '/evaluationDataset',
      detail: `It is for ${tasks[other].label}, and the dataset is for ${tasks[assignment.task].label}`,
      hint: 'Give both datasets the same kind of labels, or ignore the labels of one with "task": "unlabelled" in its config.',
      code: 'DATASET_LABELS',
    });
  });
  if (recipe.method === 'qat' && model.notTrainable !== undefined)
    errors.push({ pointer: '/method', detail: model.notTrainable, hint: 'Use method "ptq".', code: 'MODEL_NOT_TRAINABLE' });
  return errors;
}

/** Which output the labels of a dataset belong to; those of the evaluation dataset to the same as those of the training data. */
export function assignFor(
  recipe: Recipe,
  model: Pick<ModelFacts, 'outputs'>,
  { config, summary }: DataFacts,
  training?: Assignment,
): Assignment {
  const labels = config.labelOffset === undefined ? summary : { ...summary, labelOffset: config.labelOffset };
  const own = assignTasks(model.outputs, labels, { output: config.output ?? recipe.output, task: config.task });
  const told = config.task || summary.task === 'unlabelled' || training?.task === 'unlabelled';
  if (!training || told || own.task === training.task) return own;
  // The labels alone can be read in several ways: as those of the training data, where they can be.
  try {
    return assignTasks(model.outputs, summary, { output: training.outputs[0].output.name, task: training.task });
  } catch {
    return own;
  }
}

/** Whether the loss compares positions of the output with targets of their own. */
function isPerPosition({ training }: Recipe, { task, outputs: [{ output }] }: Assignment): boolean {
  if (training.loss === 'distillation' || training.distillation.weight === 1) return false;
  const sides = output.shape?.slice(1).filter((dim) => dim !== 1) ?? [];
  return task === 'dense_classification' || (task === 'regression' && sides.length > 1);
}

function impossible({ evaluation, training }: Recipe, { task, outputs }: Assignment): FieldError[] {
  const errors: FieldError[] = [];
  const [{ output }] = outputs;
  const row = tasks[task];
  const metrics: readonly MetricName[] = row.metrics(output);
  if (evaluation.metric !== 'auto' && !metrics.includes(evaluation.metric)) {
    errors.push({
      pointer: '/evaluation/metric',
      detail: `"${evaluation.metric}" does not fit a dataset for ${row.label}`,
      hint: `Use auto, ${metrics.join(', ')}.`,
      code: 'CONFIG_IMPOSSIBLE',
    });
  }
  errors.push(...unlikely(evaluation, task, metrics));
  const losses: readonly LossKind[] = row.losses(output);
  const { loss } = training;
  if (loss !== 'auto' && loss !== 'distillation' && !losses.includes(loss)) {
    errors.push({
      pointer: '/training/loss',
      detail: `"${loss}" ${task === 'unlabelled' ? 'needs labels, and the dataset has none' : `does not fit a dataset for ${row.label}`}`,
      hint: `Use auto, ${[...losses, 'distillation'].join(', ')}.`,
      code: 'CONFIG_IMPOSSIBLE',
    });
  }
  return errors;
}

/** Metrics that are not fractions of 1. */
const units: readonly MetricName[] = ['kl', 'mae', 'rmse', 'r2', 'cosine'];

/** What is stated of the float model and cannot be. */
function unlikely({ expectedFloat: expected, metric }: Recipe['evaluation'], task: TaskName, metrics: readonly MetricName[]): FieldError[] {
  if (expected === undefined) return [];
  const pointer = '/evaluation/expectedFloat';
  const code = 'CONFIG_IMPOSSIBLE';
  if (task === 'unlabelled') {
    const detail = 'What the float model reaches can only be checked with labels, and the dataset has none';
    return [{ pointer, detail, hint: 'Leave it out, or send labels.', code }];
  }
  const name = metric === 'auto' ? metrics[0] : metric;
  if (!name || units.includes(name) || (expected >= 0 && expected <= 1)) return [];
  return [{ pointer, detail: `${expected} is not a value of "${name}", which lies between 0 and 1`, hint: 'Write 0.93 for 93 %.', code }];
}
