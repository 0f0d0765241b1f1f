import { type Dataset, type Labelling, openDataset } from '../data/dataset.js';
import type { InputSpec } from '../data/materialise.js';
import { classNamesFrom } from '../data/metadata-classes.js';
import type { Part } from '../data/parts.js';
import { split } from '../data/split.js';
import { OctetError } from '../errors.js';
import type { QuantizeJob } from '../events.js';
import type { Assignment } from '../tasks/assign.js';
import { assignFor, checkRecipe } from '../tasks/preflight.js';
import { Random } from '../tensor/random.js';
import type { Context } from './context.js';
import type { PreparedModel } from './model.js';

/** The samples of a job and what each is for. Training never sees held-out or evaluation samples. */
export interface JobData {
  dataset: Dataset;
  evaluationSamples: Dataset;
  evaluationIndices: Uint32Array;
  train: Uint32Array;
  holdout: Uint32Array;
  calibration: Uint32Array;
  /** Which output the labels belong to, and what is asked of each. */
  assignment: Assignment;
  /** A label a position that counts for nothing. */
  ignoreIndex: number | undefined;
  assumptions: string[];
  close(): Promise<void>;
}

/** Open the datasets of a job against its model, and part them. Throws DATASET_* errors. */
export async function loadData(context: Context, model: PreparedModel): Promise<JobData> {
  const { job } = context;
  const { recipe } = job;
  const [fit, ...others] = model.inputs as [InputSpec, ...InputSpec[]];
  const open = (source: QuantizeJob['dataset'], part: Part, labelling: Labelling) =>
    openDataset(source.path, source.config, {
      workDirectory: job.workDirectory,
      limits: job.limits,
      fit,
      others,
      part,
      ...labelling,
      ...context.abortable,
      onProgress: (done, total) => context.progress('load', done, total, 'samples'),
    });
  const names = classNamesFrom(model.source.metadata);
  const dataset = await open(job.dataset, 'training', names ? { classes: { names, from: 'model' } } : {});
  let evaluation: Dataset | undefined;
  try {
    const first = assignFor(recipe, model, { config: job.dataset.config, summary: dataset.summary });
    dataset.countLabelsFrom(first.labelOffset);
    const { width } = first.outputs[0].output;
    const source = job.evaluationDataset ?? (dataset.summary.parts && job.dataset);
    evaluation = source && (await open(source, 'evaluation', dataset.labelling((width === 1 ? 2 : width) ?? undefined)));
    const assignment = agree(context, model, dataset, evaluation);
    const { labels } = dataset;
    const all = Uint32Array.from({ length: dataset.size }, (_, i) => i);
    const outer = evaluation ? { rest: all, held: new Uint32Array() } : split(dataset.size, recipe.evaluation.split, recipe.seed, labels);
    if (outer.rest.length < 2)
      throw new OctetError(
        'DATASET_EMPTY',
        `${dataset.size} samples are too few: after the evaluation split fewer than two are left to train on`,
        {},
        { hint: 'Send more samples, or data to evaluate with in a file of its own.' },
      );
    const inner = split(
      outer.rest.length,
      recipe.training.holdout,
      recipe.seed + 1,
      labels && Int32Array.from(outer.rest, (i) => labels[i] as number),
    );
    const of = (positions: Uint32Array) => positions.map((i) => outer.rest[i] as number);
    const train = of(inner.rest);
    const chosen = Random.for(recipe.seed, 'calibration').permutation(train.length).subarray(0, recipe.calibration.samples).sort();
    const evaluationIndices = evaluation ? Uint32Array.from({ length: evaluation.size }, (_, i) => i) : outer.held;
    return {
      dataset,
      evaluationSamples: evaluation ?? dataset,
      evaluationIndices,
      train,
      holdout: of(inner.held),
      calibration: chosen.map((i) => train[i] as number),
      assignment,
      ignoreIndex: job.dataset.config.ignoreIndex,
      assumptions: [...new Set([...dataset.assumptions, ...first.assumptions, ...assignment.assumptions])],
      close: async () => {
        await dataset.close();
        await evaluation?.close();
      },
    };
  } catch (error) {
    await dataset.close();
    await evaluation?.close();
    throw error;
  }
}

/** What the labels are asked to be, once the job has no error. Throws the first error. */
function agree({ job }: Context, model: PreparedModel, dataset: Dataset, evaluation: Dataset | undefined): Assignment {
  const facts = { config: job.dataset.config, summary: dataset.summary };
  const other = evaluation && { config: (job.evaluationDataset ?? job.dataset).config, summary: evaluation.summary };
  const [error] = checkRecipe(job.recipe, model, facts, other);
  if (error)
    throw new OctetError(error.code, error.detail, { pointer: error.pointer }, error.hint === undefined ? {} : { hint: error.hint });
  return assignFor(job.recipe, model, facts);
}
