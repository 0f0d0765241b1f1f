import {
  type Dataset,
  type DatasetConfig,
  type JobBody,
  type JobSettings,
  type Model,
  parseDatasetConfig,
  parseJobSettings,
  recipeOf,
} from '@octet/contracts';
import type { FastifyBaseLogger } from 'fastify';
import { type Intake, parseJsonObject, within } from '../http/intake.js';
import type { StagedFile } from '../http/staging.js';
import { requireSense } from './fit.js';
import type { JobService } from './jobs.js';
import type { UploadService } from './uploads.js';

/** A job whose model and data came in the same request. */
export interface OneShot {
  model: StagedFile;
  dataset: StagedFile;
  evaluation: StagedFile | undefined;
  datasetConfig: DatasetConfig;
  evaluationConfig: DatasetConfig;
  settings: JobSettings;
}

/**
 * Read the parts of a one-shot request. `config` may hold `datasetConfig` and `evaluationDatasetConfig` beside the settings of the job;
 * the evaluation set is read like the dataset where nothing else is said.
 * @throws ConfigError with a pointer to each wrong field
 */
export function readOneShot({ files, texts }: Intake): OneShot {
  const text = texts.get('config');
  const { datasetConfig, evaluationDatasetConfig, ...rest } =
    text === undefined || text.trim() === '' ? {} : parseJsonObject(text, 'config');
  const settings = parseJobSettings(rest);
  const reading = within('/datasetConfig', () => parseDatasetConfig(datasetConfig ?? {}));
  return {
    model: files.get('model')!,
    dataset: files.get('dataset')!,
    evaluation: files.get('evaluation'),
    datasetConfig: reading,
    evaluationConfig:
      evaluationDatasetConfig === undefined
        ? reading
        : within('/evaluationDatasetConfig', () => parseDatasetConfig(evaluationDatasetConfig)),
    settings,
  };
}

/** Takes in model and data and submits the job; when anything fails, or an earlier job answers, nothing new is left. */
export async function submitOneShot(
  { uploads, jobs, log }: { uploads: UploadService; jobs: JobService; log: FastifyBaseLogger },
  shot: OneShot,
  reuse: boolean,
  signal: AbortSignal,
): Promise<JobBody> {
  const [model, dataset, evaluation] = await together(signal, (stop) => [
    uploads.inspectModel(shot.model, stop),
    uploads.inspectDataset(shot.dataset, shot.datasetConfig, stop),
    shot.evaluation === undefined ? undefined : uploads.inspectDataset(shot.evaluation, shot.evaluationConfig, stop),
  ]);
  const data = { summary: dataset.summary, config: shot.datasetConfig };
  const evaluationData = evaluation === undefined ? undefined : { summary: evaluation.summary, config: shot.evaluationConfig };
  requireSense(recipeOf(shot.settings), model.summary, data, evaluationData);

  const undo: (() => Promise<void>)[] = [];
  const takeBack = async () => {
    for (const step of undo)
      await step().catch((cause: unknown) => log.warn({ err: cause }, 'an upload that is not needed could not be removed'));
  };
  try {
    const modelRow: Model = await uploads.storeModel(model, undefined);
    undo.push(() => uploads.deleteModel(modelRow.id));
    const datasetRow: Dataset = await uploads.storeDataset(dataset, shot.datasetConfig, undefined);
    undo.push(() => uploads.deleteDataset(datasetRow.id));
    let evaluationDataset: string | undefined;
    if (evaluation !== undefined) {
      const evaluationRow: Dataset = await uploads.storeDataset(evaluation, shot.evaluationConfig, undefined);
      undo.push(() => uploads.deleteDataset(evaluationRow.id));
      evaluationDataset = evaluationRow.id;
    }
    const job = await jobs.create({ ...shot.settings, model: modelRow.id, dataset: datasetRow.id, evaluationDataset }, reuse);
    if (job.reused) await takeBack();
    return job;
  } catch (error) {
    await takeBack();
    throw error;
  }
}

/** Like Promise.all, but when one fails the others are stopped and awaited. */
async function together<T extends unknown[]>(
  signal: AbortSignal,
  start: (signal: AbortSignal) => [...{ [K in keyof T]: Promise<T[K]> | T[K] }],
): Promise<T> {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  const running = start(controller.signal);
  try {
    return (await Promise.all(running)) as T;
  } catch (error) {
    controller.abort();
    await Promise.allSettled(running);
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
