import { Value } from 'typebox/value';
import type { Outputs } from '../../evaluate/outputs.js';
import { naming, only } from '../../evaluate/testing/outputs.js';
import { DatasetConfigSchema, RecipeSchema } from '../../recipe.js';
import type { ReportInput } from '../build.js';
import type { LayerReport } from '../schema.js';

/** Truth of n samples over three classes in turn. */
const truth = (n: number) => Array.from({ length: n }, (_, i) => i % 3);

/** A model that is wrong on the samples given (it names the next class). */
export const wrongOn = (n: number, wrong: readonly number[], reference?: Outputs) =>
  naming(
    truth(n).map((label, i) => (wrong.includes(i) ? (label + 1) % 3 : label)),
    truth(n),
    3,
    reference,
  );

/** The outputs of three models that have one output each. */
export const outputsOf = (float: Outputs, ptq: Outputs, qat: Outputs | null): ReportInput['outputs'] => ({
  float: only(float),
  ptq: only(ptq),
  qat: qat && only(qat),
});

export const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

export const layer = (name: string, values: Partial<LayerReport> = {}): LayerReport => ({
  name,
  op: 'Conv',
  precision: 'int8',
  parameters: 1000,
  weightBits: 8,
  activationBits: 8,
  perChannel: true,
  scale: 0.0234,
  zeroPoint: 12,
  range: [-0.28, 5.7],
  channelSpread: 2.5,
  sqnrAccumulatedDb: 35,
  sqnrLocalDb: 41,
  rmseOverScale: 0.289,
  clipped: 0.0001,
  floatBytes: 4000,
  int8Bytes: 1100,
  ...values,
});

/** A sound QAT run on 1,000 samples; `changes` replace fields. */
export function reportInput(changes: Partial<ReportInput> = {}): ReportInput {
  const n = 1000;
  const float = wrongOn(n, range(0, 80));
  return {
    metric: 'top1',
    outputs: outputsOf(float, wrongOn(n, range(0, 95), float), wrongOn(n, [...range(2, 80), 500], float)),
    baseline: null,
    outputList: [float.output],
    choice: {
      from: 'qat',
      why: 'QAT has the better top-1 accuracy on the held-out split (92.10 % against 91.00 %).',
      samples: 200,
      ptq: 0.91,
      qat: 0.921,
    },
    maxDrop: 0.5,
    parity: { output: 'y', agreement: 1, top1Agreement: 1, maxAbsDifference: 0.000123, maxSteps: 0.01, samples: n },
    size: { floatBytes: 397955, int8Bytes: 109321 },
    latency: {
      float: { p50Ms: 1.25, p95Ms: 1.5, batch32: { p50Ms: 20, p95Ms: 22 } },
      int8: { p50Ms: 0.5, p95Ms: 0.625, batch32: { p50Ms: 8, p95Ms: 9 } },
      threads: 1,
    },
    cpu: { model: 'Example CPU', features: ['avx2', 'avx512_vnni', 'avx512f'] },
    runtime: {
      name: 'onnxruntime',
      version: '1.30.0',
      integerNodes: 7,
      floatNodes: 1,
      boundaryNodes: 2,
      integerTimeShare: 0.91,
      byOp: { QLinearConv: 5, QGemm: 2, QuantizeLinear: 1, DequantizeLinear: 1, Softmax: 1 },
    },
    samples: { training: 5400, calibration: 512, holdout: 600 },
    layers: [
      layer('conv1'),
      layer('conv2', { sqnrAccumulatedDb: 33 }),
      layer('softmax', {
        op: 'Softmax',
        precision: 'float',
        parameters: 0,
        reason: 'its output is the output of the model',
        floatBytes: 0,
        int8Bytes: 0,
      }),
    ],
    calibration: { equalizedPairs: 0, adaptiveLayers: 0, roundingError: null, correctedBiases: 0 },
    placement: null,
    training: {
      epochs: [
        {
          epoch: 1,
          loss: 0.31,
          holdoutLoss: 0.29,
          holdoutMetric: 0.915,
          metricName: 'top-1 accuracy',
          learningRate: 0.001,
          seconds: 12.3,
          best: false,
        },
        {
          epoch: 2,
          loss: 0.27,
          holdoutLoss: 0.26,
          holdoutMetric: 0.921,
          metricName: 'top-1 accuracy',
          learningRate: 0.0005,
          seconds: 12.1,
          best: true,
        },
        {
          epoch: 3,
          loss: 0.26,
          holdoutLoss: 0.27,
          holdoutMetric: 0.92,
          metricName: 'top-1 accuracy',
          learningRate: 0.0001,
          seconds: 12.2,
          best: false,
        },
      ],
      bestEpoch: 2,
      observersFrozenAtStep: 84,
      distillationShare: 0.5,
      start: 'float',
      learnedScales: 0,
      batchNorm: { kept: 0, frozenAtStep: 0, reestimated: false, note: '17 folded into their layers before training.' },
      stepsPerEpoch: 84,
      samplesPerSecond: 440,
      learningRate: 0.001,
      loss: 'cross_entropy',
      terms: [{ output: 'y', kind: 'cross_entropy', distillationShare: 0.5, weight: 1 }],
    },
    warnings: [],
    provenance: {
      modelSha256: 'a'.repeat(64),
      datasetSha256: 'b'.repeat(64),
      evaluationDatasetSha256: null,
      artifactSha256: 'c'.repeat(64),
      seed: 0,
      recipe: Value.Parse(RecipeSchema, Value.Default(RecipeSchema, {})),
      dataset: {
        format: 'npz',
        samples: 7000,
        sampleShape: [1, 28, 28],
        dtype: 'uint8',
        task: 'classification',
        classes: 3,
        classNames: ['shirt', 'bag | box', 'boot'],
        range: { min: 0, max: 255 },
        bytes: 5488000,
      },
      datasetConfig: Value.Parse(DatasetConfigSchema, { scale: 0.00392156862745098 }),
      versions: { octet: '0.1.0', node: '20.20.0', onnxruntime: '1.30.0' },
      platform: 'linux x64',
      seconds: { load: 0.5, train: 36.6 },
      memory: { estimatedBytes: 500_000_000, peakBytes: 450_000_000, peakBytesByStage: { load: 160_000_000, train: 450_000_000 } },
      command: 'octet quantize model.onnx --data train.npz -o model.int8.onnx --seed 0',
    },
    ...changes,
  };
}
