import Type, { type Static } from 'typebox';

/** What is known of one epoch when it ends; the report shows it as it is. */
export const EpochRecordSchema = Type.Object({
  epoch: Type.Integer(),
  loss: Type.Number(),
  holdoutLoss: Type.Number(),
  holdoutMetric: Type.Number(),
  metricName: Type.Optional(Type.String({ description: 'What the held-out metric is; left out where it is the negative loss.' })),
  learningRate: Type.Number(),
  seconds: Type.Number(),
  best: Type.Boolean(),
});

export type EpochRecord = Static<typeof EpochRecordSchema>;
