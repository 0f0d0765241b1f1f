import { Readable } from 'node:stream';
import { type JobRequest, parseJobRequest } from '@octet/contracts';
import type { DatasetSummary, ModelSummary } from '@octet/quant-core';
import type { Store } from '@octet/store';

export const modelSummary: ModelSummary = {
  format: 'onnx',
  producer: 'test',
  irVersion: 8,
  opset: 17,
  inputs: [{ name: 'x', dtype: 'float32', shape: ['N', 4] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['N', 2] }],
  ops: { Gemm: 1 },
  nodes: 1,
  parameters: 10,
  bytes: 100,
  quantizable: [{ node: 'fc', op: 'Gemm', parameters: 10 }],
  float: [],
  trainable: true,
};

export const datasetSummary: DatasetSummary = { format: 'npz', samples: 8, sampleShape: [4], dtype: 'float32', task: 'classification', classes: 2, classCounts: [4, 4], range: { min: 0, max: 1 }, bytes: 100 };

/** A model and a dataset whose bytes mean nothing, for tests that never open them. */
export async function storeUploads(store: Store, { model = 'model bytes', dataset = 'dataset bytes' } = {}): Promise<{ model: string; dataset: string }> {
  const modelRow = await store.models.create({ name: 'm', filename: 'm.onnx', blob: await store.blobs.put(Readable.from([Buffer.from(model)])), summary: modelSummary });
  const datasetRow = await store.datasets.create({ name: 'd', filename: 'd.npz', blob: await store.blobs.put(Readable.from([Buffer.from(dataset)])), config: {}, summary: datasetSummary });
  return { model: modelRow.id, dataset: datasetRow.id };
}

/** Arguments of `jobs.create` for these uploads. */
export function jobFor(uploads: { model: string; dataset: string }, overrides: Partial<JobRequest> = {}): Parameters<Store['jobs']['create']>[0] {
  const { model, dataset, evaluationDataset, ...settings } = parseJobRequest({ ...uploads, ...overrides });
  return { model, dataset, evaluationDataset, settings, engineVersion: 'test' };
}
