import type { ErrorPlace } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import type { DatasetConfig, Recipe } from '../recipe.js';

/** Version of the report format: the first number changes when a key is removed or changes its meaning. */
export const reportVersion = '1.0';

export interface MetricValue {
  value: number;
  /** 95 % interval of the value alone: Wilson for proportions, bootstrap otherwise. */
  ci95: [number, number];
}

export interface LatencyFigures {
  p50Ms: number;
  p95Ms: number;
  /** Same at batch 32, for one run of the whole batch. */
  batch32: { p50Ms: number; p95Ms: number };
}

/** Float against a candidate on the same samples. */
export interface PairedChange {
  /** Change of the metric in points (hundredths for proportions, metric units otherwise); negative is a loss. */
  points: number;
  ci95: [number, number];
  /** Exact McNemar p (two-sided); null where the metric is not right-or-wrong. */
  mcnemarP: number | null;
  bothRight: number;
  onlyFloat: number;
  onlyInt8: number;
  bothWrong: number;
}

export interface LayerReport {
  name: string;
  op: string;
  precision: 'int8' | 'float';
  reason?: string;
  parameters: number;
  weightBits?: number;
  activationBits?: number;
  perChannel?: boolean;
  scale?: number;
  zeroPoint?: number;
  range?: [number, number];
  /** Largest over smallest channel scale of the weights. */
  channelSpread?: number;
  /** dB, everything quantized. */
  sqnrAccumulatedDb?: number;
  /** dB, only this layer quantized. */
  sqnrLocalDb?: number;
  /** RMS error of the output over its scale; 0.289 is ideal rounding. */
  rmseOverScale?: number;
  /** Share of output values outside the range. */
  clipped?: number;
  floatBytes: number;
  int8Bytes: number;
}

export interface FlippedSample {
  index: number;
  truth: number | null;
  float: { label: number; confidence: number }[];
  int8: { label: number; confidence: number }[];
  /** Margin of the float decision that was lost. */
  marginLost: number;
}

/** The accuracy report. Keys at the top are stable: tools may rely on them. */
export interface Report {
  schemaVersion: string;
  verdict: { decision: 'ship' | 'inspect' | 'do_not_ship'; text: string; nextStep: string };
  task: 'classification' | 'regression' | 'unlabelled';
  metric: { name: string; unit: 'fraction' | 'value'; higherIsBetter: boolean };
  float: MetricValue;
  ptq: MetricValue;
  /** Null for method "ptq". */
  qat: MetricValue | null;
  int8: MetricValue & {
    from: 'ptq' | 'qat';
    why: string;
    selection: { split: 'holdout'; samples: number; ptq: number; qat: number | null };
  };
  /** Share of the loss of PTQ that training won back; null when PTQ lost nothing. */
  recovered: number | null;
  change: PairedChange;
  changes: { ptq: PairedChange; qat: PairedChange | null };
  gate: { maxDrop: number | null; passed: boolean };
  parity: {
    /** Share of samples on which simulation and artifact name the same top-1. */
    top1Agreement: number;
    maxAbsDifference: number;
    samples: number;
  };
  /** Share of samples on which float and int8 name the same top-1; null for regression. */
  agreement: number | null;
  size: { floatBytes: number; int8Bytes: number; ratio: number };
  latency: {
    float: LatencyFigures;
    int8: LatencyFigures;
    threads: number;
    cpu: string;
    cpuFeatures: string[];
    note: string | null;
  };
  runtime: {
    name: string;
    version: string;
    /** Nodes of the optimized model. */
    integerNodes: number;
    floatNodes: number;
    boundaryNodes: number;
    /** Share of measured run time spent in integer nodes; null when profiling failed. */
    integerTimeShare: number | null;
    byOp: Record<string, number>;
  };
  samples: { training: number; calibration: number; holdout: number; evaluation: number };
  classes: { label: number; name?: string; samples: number; float: number; int8: number; changePoints: number }[] | null;
  confusion: { labels: number; float: number[][]; int8: number[][] } | null;
  flips: FlippedSample[];
  layers: LayerReport[];
  training: {
    epochs: {
      epoch: number;
      loss: number;
      holdoutLoss: number;
      holdoutMetric: number;
      learningRate: number;
      seconds: number;
      best: boolean;
    }[];
    bestEpoch: number;
    observersFrozenAtStep: number;
    stepsPerEpoch: number;
    samplesPerSecond: number;
    learningRate: number;
    loss: string;
  } | null;
  warnings: { code: string; text: string; place?: ErrorPlace }[];
  provenance: {
    modelSha256: string;
    datasetSha256: string;
    evaluationDatasetSha256: string | null;
    artifactSha256: string;
    seed: number;
    recipe: Recipe;
    dataset: DatasetSummary;
    datasetConfig: DatasetConfig;
    versions: Record<string, string>;
    platform: string;
    seconds: Record<string, number>;
    command: string;
  };
}
