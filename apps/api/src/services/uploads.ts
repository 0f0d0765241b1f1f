import { createReadStream } from 'node:fs';
import type { Dataset, DatasetConfig, DatasetSummary, Model, ModelSummary } from '@octet/contracts';
import type { Store } from '@octet/store';
import type { StagedFile } from '../http/staging.js';
import { type Fit, fitOf } from './fit.js';
import type { Inspector } from './inspector.js';

/** A file that has been inspected and can be stored. */
export interface Inspected<Summary> {
  file: StagedFile;
  summary: Summary;
}

/** Models and datasets: inspected first, stored only when they are good. */
export class UploadService {
  readonly #store: Store;
  readonly #inspector: Inspector;

  constructor(store: Store, inspector: Inspector) {
    this.#store = store;
    this.#inspector = inspector;
  }

  /** @throws OctetError MODEL_… as the inspection finds it */
  async inspectModel(file: StagedFile, signal: AbortSignal): Promise<Inspected<ModelSummary>> {
    return { file, summary: await this.#inspector.model(file, signal) };
  }

  /** @throws OctetError DATASET_… as the inspection finds it */
  async inspectDataset(file: StagedFile, config: DatasetConfig, signal: AbortSignal): Promise<Inspected<DatasetSummary>> {
    return { file, summary: await this.#inspector.dataset(file, config, signal) };
  }

  async storeModel({ file, summary }: Inspected<ModelSummary>, name: string | undefined): Promise<Model> {
    const blob = await this.#store.blobs.put(createReadStream(file.path));
    return this.#store.models.create({ name: name ?? nameOf(file, 'model'), filename: file.fileName || 'model.onnx', blob, summary });
  }

  async storeDataset({ file, summary }: Inspected<DatasetSummary>, config: DatasetConfig, name: string | undefined): Promise<Dataset> {
    const blob = await this.#store.blobs.put(createReadStream(file.path));
    return this.#store.datasets.create({
      name: name ?? nameOf(file, 'dataset'),
      filename: file.fileName || 'dataset',
      blob,
      config,
      summary,
    });
  }

  /** Delete a model; its bytes go when nothing else holds them. @throws ServiceError NOT_FOUND, CONFLICT */
  async deleteModel(id: string): Promise<void> {
    const { sha256 } = await this.#store.models.get(id);
    await this.#store.models.delete(id);
    await this.#store.blobs.release(sha256);
  }

  /** @throws ServiceError NOT_FOUND, CONFLICT */
  async deleteDataset(id: string): Promise<void> {
    const { sha256 } = await this.#store.datasets.get(id);
    await this.#store.datasets.delete(id);
    await this.#store.blobs.release(sha256);
  }

  /** Whether a dataset can be fed to a model. @throws ServiceError NOT_FOUND */
  async fit(dataset: Dataset, modelId: string): Promise<Fit> {
    return fitOf(dataset, await this.#store.models.get(modelId));
  }
}

function nameOf(file: StagedFile, otherwise: string): string {
  return file.fileName.replace(/(\.(onnx|npz|npy|zip|csv|gz|idx))+$/i, '') || otherwise;
}
