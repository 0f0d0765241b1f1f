import type { OutputKind, TaskName } from './choices.js';
import type { SerializedError } from './errors.js';

/** Stages of a running job, in order. `train` and its artifacts are left out for method "ptq". */
export const stages = ['load', 'baseline', 'calibrate', 'ptq', 'train', 'convert', 'evaluate', 'report'] as const;
export type Stage = (typeof stages)[number];

/** What the pipeline tells whoever watches it. Plain JSON, so that it can cross a process boundary. */
export type PipelineEvent =
  | { type: 'stage'; stage: Stage }
  | {
      type: 'progress';
      stage: Stage;
      /** Units finished and in all, in the unit named. */
      done: number;
      total: number;
      unit: 'samples' | 'steps' | 'layers' | 'runs';
      /** Latest figures, such as loss, learningRate, epoch, samplesPerSecond. */
      figures?: Record<string, number>;
    }
  | {
      type: 'epoch';
      epoch: number;
      loss: number;
      holdoutLoss: number;
      holdoutMetric: number;
      /** What the held-out metric is; left out where it is the negative loss. */
      metricName?: string;
      learningRate: number;
      seconds: number;
      best: boolean;
    }
  | { type: 'log'; level: 'info' | 'warn'; message: string; data?: Record<string, unknown> }
  /** A checkpoint file has been written (absolute path in the work directory). It stays until the second one after it. */
  | ({ type: 'checkpoint'; path: string } & CheckpointPlace)
  /** The job goes on from its checkpoint. */
  | ({ type: 'resumed' } & CheckpointPlace)
  /** The checkpoint is damaged, or that of another job or version: the job starts from nothing. */
  | { type: 'checkpoint_dropped'; reason: string };

/** What is done at a checkpoint: all of PTQ, or so many steps of training. */
export interface CheckpointPlace {
  stage: 'ptq' | 'train';
  step: number;
}

/** Upper bounds that untrusted uploads are held to; bytes unless said otherwise. */
export interface Limits {
  modelBytes: number;
  modelNodes: number;
  modelParameters: number;
  datasetBytes: number;
  datasetSamples: number;
  archiveEntries: number;
  /** Unpacked over packed size of one archive. */
  archiveRatio: number;
  archiveBytes: number;
}

export const defaultLimits: Limits = {
  modelBytes: 1024 * 1024 * 1024,
  modelNodes: 50_000,
  modelParameters: 250_000_000,
  datasetBytes: 4 * 1024 * 1024 * 1024,
  datasetSamples: 5_000_000,
  archiveEntries: 2_000_000,
  archiveRatio: 200,
  archiveBytes: 32 * 1024 * 1024 * 1024,
};

/** What an upload of a model tells about it. */
export interface ModelSummary {
  format: 'onnx';
  producer: string;
  irVersion: number;
  opset: number;
  inputs: { name: string; dtype: string; shape: (number | string)[] }[];
  outputs: {
    name: string;
    dtype: string;
    /** Null where the model does not say. */
    shape: (number | string)[] | null;
    /** What its numbers are: scores of classes along `axis`, of yes/no answers, values, … */
    kind: OutputKind;
    axis: number | null;
    form: 'logits' | 'probabilities' | 'log_probabilities';
    width: number | null;
    /** Whether it is compared with the float model's; the others are computed as before. */
    judged: boolean;
    of: string;
    /** How kind and axis are known, or why the output is not judged. */
    why: string;
    certain: boolean;
  }[];
  /** Operator → count, as in the file. */
  ops: Record<string, number>;
  nodes: number;
  parameters: number;
  bytes: number;
  quantizable: { node: string; op: string; parameters: number }[];
  /** Nodes that stay float, and why. */
  float: { node: string; op: string; reason: string }[];
  /** Whether a QAT job can reach its loss from the quantized layers; null where that shows only with the sizes of the data. */
  trainable: boolean | null;
  /** Why it cannot; only where `trainable` is false. */
  notTrainableBecause?: string;
  /** What is not known before there are data, and what was changed to read the model, in sentences. */
  notes?: string[];
}

/** What an upload of a dataset tells about it. */
export interface DatasetSummary {
  format: 'npz' | 'npy' | 'idx' | 'images' | 'csv' | 'jsonl' | 'parquet';
  samples: number;
  /** Stored shape of one sample. */
  sampleShape: number[];
  dtype: string;
  /** Arrays for models with several inputs, each under its name; the first is the one that `sampleShape`, `dtype` and `range` describe. */
  inputs?: { name: string; sampleShape: number[]; dtype: string; range: { min: number; max: number } }[];
  /** What the labels are by themselves; with a model it may turn out to be another. */
  task: TaskName;
  /** Classification: number of classes seen (largest label + 1). */
  classes?: number;
  classNames?: string[];
  classCounts?: number[];
  /** Classification: what was taken off the labels, for those that start at 1. */
  labelOffset?: 1;
  /** Targets that are rows of numbers: shape of one, and what they have in common. */
  targetShape?: number[];
  targetFacts?: { whole: boolean; min: number; max: number; sumsToOne: boolean };
  /** Images: smallest and largest [height, width]; absent when the config states the size. */
  imageSizes?: { smallest: [number, number]; largest: [number, number] };
  /** What was taken for granted to read the dataset, in sentences. */
  assumptions?: string[];
  /** Names of the parts in an archive that holds data to train on, which this summary describes, beside data to evaluate with. */
  parts?: { training: string; evaluation: string };
  /** How many samples the part to evaluate with holds, where it has been looked at. */
  evaluationSamples?: number;
  range: { min: number; max: number };
  bytes: number;
}

/** Result of a finished pipeline; files lie in the output directory. */
export interface PipelineResult {
  /** False when the gate was missed. */
  gatePassed: boolean;
  /** The model that is returned: model.int8.onnx. */
  modelPath: string;
  reportPath: string;
  markdownPath: string;
}

/** Messages from the job process to its parent. */
export type JobMessage =
  | { kind: 'event'; event: PipelineEvent }
  | { kind: 'result'; result: unknown }
  | { kind: 'error'; error: SerializedError; logTail?: string };

/** One whole job, as files and settings. */
export interface QuantizeJob {
  /** An .onnx file, or a zip of one with its external data. */
  modelPath: string;
  /** Whether external data may also be read from files beside the model, as on a machine of one's own; only from its zip when left out. */
  externalFiles?: 'zip' | 'beside';
  dataset: { path: string; config: import('./recipe.js').DatasetConfig };
  /** Without it, a seeded share of the dataset is kept for evaluation and never trained on. */
  evaluationDataset?: { path: string; config: import('./recipe.js').DatasetConfig };
  recipe: import('./recipe.js').Recipe;
  /** Where model.int8.onnx, report.json, report.md and checkpoints are written. */
  outputDirectory: string;
  /** Scratch space for decoded datasets and compiled graphs. */
  workDirectory: string;
  /** Memory that the process of the job may take; a training that cannot fit is refused before it starts. */
  memoryBytes?: number;
  /** Checkpoint to go on from; one that is damaged or of another job is dropped. */
  checkpointPath?: string;
  /** Fewest seconds between two checkpoints of the training; 1 when left out, so that whoever is told has time to open the file. */
  checkpointPause?: number;
  limits: Limits;
}
