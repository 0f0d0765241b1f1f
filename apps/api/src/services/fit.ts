import {
  assignTasks,
  ConfigError,
  checkAgainstModel,
  checkRecipe,
  type Dataset,
  failureOf,
  type InputType,
  type Model,
  type ModelFacts,
  type ModelSummary,
  type Recipe,
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

/** Compare what is known of a dataset with what is known of a model: shape of a sample, labels and outputs. */
export function fitOf({ config, summary }: Data, model: Pick<Model, 'id' | 'summary'>): Fit {
  try {
    const { inputs, outputs } = factsOf(model.summary);
    const assumptions = checkAgainstModel(summary, config, inputs);
    const assignment = assignTasks(outputs, summary, { output: config.output, task: config.task });
    return { model: model.id, fits: true, assumptions: [...assumptions, ...assignment.assumptions] };
  } catch (error) {
    const { code, detail, hint } = failureOf(error);
    if (code === 'INTERNAL') throw error;
    return { model: model.id, fits: false, assumptions: [], problem: { code, detail, hint } };
  }
}

/**
 * Refuse at once what a job could not do.
 * @throws ConfigError with everything that stands against it, under the code of the first
 */
export function requireSense(recipe: Recipe, model: ModelSummary, dataset: Data, evaluation: Data | undefined): void {
  const errors = checkRecipe(recipe, factsOf(model), dataset, evaluation);
  const [first] = errors;
  if (first)
    throw new ConfigError(
      first.code,
      errors.map(({ pointer, detail, hint }) => ({ pointer, detail, ...(hint === undefined ? {} : { hint }) })),
    );
}

function factsOf({ inputs, outputs, trainable, notTrainableBecause }: ModelSummary): ModelFacts {
  return {
    inputs: inputs.map(({ name, shape, dtype }) => ({
      name,
      shape: shape.slice(1).map((size) => (typeof size === 'number' ? size : undefined)),
      dtype: dtype as InputType,
    })),
    outputs,
    notTrainable: trainable
      ? undefined
      : `${notTrainableBecause ?? 'No quantized layer of this model can be reached by the gradient of the loss'}.`,
  };
}
