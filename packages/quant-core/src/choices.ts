/** What parts of a recipe can be chosen from. They stand apart from the schema, which brings its library along: the process of a job reads these lists alone. */

export const engineWishes = ['auto', 'ort', 'tfjs'] as const;
export const targets = ['onnxruntime', 'x86', 'fbgemm', 'qnnpack'] as const;
export const observers = ['minmax', 'moving_average_minmax', 'histogram', 'percentile', 'entropy'] as const;
export const weightStorages = ['int8', 'int4'] as const;
export const placements = ['all', 'auto'] as const;

/** What a dataset asks of the output that its labels belong to; `unlabelled` asks it to stay near the float model. */
export const taskNames = [
  'classification',
  'soft_classification',
  'multi_label',
  'dense_classification',
  'regression',
  'unlabelled',
] as const;
export type TaskName = (typeof taskNames)[number];

/** What the numbers of a model output are. */
export const outputKinds = ['classes', 'binary', 'values', 'embedding', 'other'] as const;
export type OutputKind = (typeof outputKinds)[number];

export const metricNames = [
  'top1',
  'top5',
  'macro_f1',
  'kl',
  'auc',
  'average_precision',
  'binary_accuracy',
  'mean_iou',
  'position_accuracy',
  'mae',
  'rmse',
  'r2',
  'agreement',
  'relative_error',
  'cosine',
] as const;
export type MetricName = (typeof metricNames)[number];

export const lossNames = ['auto', 'cross_entropy', 'binary_cross_entropy', 'mse', 'huber', 'distillation'] as const;
