/** What parts of a recipe can be chosen from. They stand apart from the schema, which brings its library along: the process of a job reads these lists alone. */

export const engineWishes = ['auto', 'ort', 'tfjs'] as const;
export const targets = ['onnxruntime', 'x86', 'fbgemm', 'qnnpack'] as const;
export const observers = ['minmax', 'moving_average_minmax', 'histogram', 'percentile', 'entropy'] as const;
export const weightStorages = ['int8', 'int4'] as const;
export const placements = ['all', 'auto'] as const;
