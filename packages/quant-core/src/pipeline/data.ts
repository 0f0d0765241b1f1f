import { batches, type IndexedBatch } from '../data/batches.js';
import { type Dataset, type Labelling, openDataset, type Samples } from '../data/dataset.js';
import type { InputSpec } from '../data/materialise.js';
import { checkAgainstModel } from '../data/model-check.js';
import type { Part } from '../data/parts.js';
import { split } from '../data/split.js';
import { OctetError } from '../errors.js';
import type { EvaluationBatch } from '../evaluate/collect.js';
import type { QuantizeJob } from '../events.js';
import { Random } from '../tensor/random.js';
import type { Context } from './context.js';
import type { PreparedModel } from './model.js';

/** The samples of a job and what each is for. Training never sees held-out or evaluation samples. */
export interface JobData {
  dataset: Dataset;
  evaluationSamples: Samples;
  evaluationIndices: Uint32Array;
  train: Uint32Array;
  holdout: Uint32Array;
  calibration: Uint32Array;
  task: Dataset['task'];
  assumptions: string[];
  close(): Promise<void>;
}

/** Open the datasets of a job against its model, and part them. Throws DATASET_* errors. */
export async function loadData(context: Context, model: PreparedModel): Promise<JobData> {
  const { job } = context;
  const { recipe } = job;
  const [fit, ...others] = model.inputs as [InputSpec, ...InputSpec[]];
  const outputs = model.width === 1 ? 2 : model.width;
  const open = async (source: QuantizeJob['dataset'], part: Part, labelling: Labelling = {}) => {
    const dataset = await openDataset(source.path, source.config, {
      workDirectory: job.workDirectory,
      limits: job.limits,
      fit,
      others,
      outputs,
      part,
      ...labelling,
      ...context.abortable,
      onProgress: (done, total) => context.progress('load', done, total, 'samples'),
    });
    checkAgainstModel(dataset.summary, source.config, model.inputs, dataset.task === 'classification' ? outputs : model.width);
    return dataset;
  };
  const dataset = await open(job.dataset, 'training');
  let evaluation: Dataset | undefined;
  try {
    const source = job.evaluationDataset ?? (dataset.summary.parts && job.dataset);
    evaluation = source && (await open(source, 'evaluation', dataset.labelling(outputs)));
    if (evaluation && evaluation.task !== dataset.task) {
      throw new OctetError(
        'DATASET_LABELS',
        `The dataset is for ${dataset.task}, the evaluation dataset for ${evaluation.task}`,
        {},
        { hint: 'Give both datasets the same kind of labels.' },
      );
    }
    const { labels } = dataset;
    const all = Uint32Array.from({ length: dataset.size }, (_, i) => i);
    const outer = evaluation ? { rest: all, held: new Uint32Array() } : split(dataset.size, recipe.evaluation.split, recipe.seed, labels);
    if (outer.rest.length < 2)
      throw new OctetError(
        'DATASET_EMPTY',
        `${dataset.size} samples are too few: after the evaluation split fewer than two are left to train on`,
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
      task: dataset.task,
      assumptions: [...dataset.assumptions],
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

/** Batches as the evaluation wants them. */
export async function* evaluationBatches(
  samples: Samples,
  indices: Uint32Array,
  batchSize: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<EvaluationBatch> {
  for await (const batch of batches(samples, indices, { batchSize, ...(signal ? { signal } : {}) })) yield forEvaluation(batch);
}

function forEvaluation({ x, others, labels, values, indices }: IndexedBatch): EvaluationBatch {
  return { x, ...(others ? { others } : {}), indices, ...(labels ? { labels } : {}), ...(values ? { values: values.data } : {}) };
}
