import { Readable } from 'node:stream';
import { type JobRequest, parseJobRequest } from '@octet/contracts';
import type { Store } from '@octet/store';
import { datasetSummary, modelSummary } from './summaries.js';

/** A model and a dataset whose bytes mean nothing, for tests that never open them. */
export async function storeUploads(
  store: Store,
  { model = 'model bytes', dataset = 'dataset bytes' } = {},
): Promise<{ model: string; dataset: string }> {
  const modelRow = await store.models.create({
    name: 'm',
    filename: 'm.onnx',
    blob: await store.blobs.put(Readable.from([Buffer.from(model)])),
    summary: modelSummary,
  });
  const datasetRow = await store.datasets.create({
    name: 'd',
    filename: 'd.npz',
    blob: await store.blobs.put(Readable.from([Buffer.from(dataset)])),
    config: {},
    summary: datasetSummary,
  });
  return { model: modelRow.id, dataset: datasetRow.id };
}

/** Arguments of `jobs.create` for these uploads. */
export function jobFor(
  uploads: { model: string; dataset: string },
  overrides: Partial<JobRequest> = {},
): Parameters<Store['jobs']['create']>[0] {
  const { model, dataset, evaluationDataset, ...settings } = parseJobRequest({ ...uploads, ...overrides });
  return { model, dataset, evaluationDataset, settings, engineVersion: 'test' };
}
