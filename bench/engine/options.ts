import type { NetworkName } from '../models/networks.js';

/** What one contender is to measure: the same for PyTorch and for Octet. */
export interface StepOptions {
  network: NetworkName;
  batch: number;
  threads: number;
  quantized: boolean;
  warmup: number;
  steps: number;
}

export interface StepFigures {
  /** Median time of a step. */
  stepMs: number;
  imagesPerSecond: number;
  /** Peak of the resident memory of the contender's process, MiB. */
  peakMiB: number;
  /** Name and version of what computed. */
  version: string;
}
