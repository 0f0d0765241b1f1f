import type { DatasetConfig, DatasetSummary, ModelSummary } from '@octet/contracts';

/** Looks into uploads, apart from the process that serves. */
export interface Inspector {
  /** @throws OctetError MODEL_… */
  model(path: string, signal: AbortSignal): Promise<ModelSummary>;
  /** @throws OctetError DATASET_… */
  dataset(path: string, config: DatasetConfig, signal: AbortSignal): Promise<DatasetSummary>;
}
