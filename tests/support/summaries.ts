import type { DatasetSummary, ModelSummary } from '@octet/quant-core';

export const modelSummary: ModelSummary = {
  format: 'onnx',
  producer: 'test',
  irVersion: 8,
  opset: 17,
  inputs: [{ name: 'x', dtype: 'float32', shape: ['N', 4] }],
  outputs: [
    {
      name: 'y',
      dtype: 'float32',
      shape: ['N', 2],
      kind: 'values',
      axis: null,
      form: 'logits',
      width: 2,
      judged: true,
      of: 'y',
      why: 'Nothing in the graph says that it is class scores.',
      certain: false,
    },
  ],
  ops: { Gemm: 1 },
  nodes: 1,
  parameters: 10,
  bytes: 100,
  quantizable: [{ node: 'fc', op: 'Gemm', parameters: 10 }],
  float: [],
  trainable: true,
};

export const datasetSummary: DatasetSummary = {
  format: 'npz',
  samples: 8,
  sampleShape: [4],
  dtype: 'float32',
  task: 'classification',
  classes: 2,
  classCounts: [4, 4],
  range: { min: 0, max: 1 },
  bytes: 100,
};
