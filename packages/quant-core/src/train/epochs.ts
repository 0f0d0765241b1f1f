import Type, { type Static } from 'typebox';

/** What is known of one epoch when it ends; the report shows it as it is. */
export const EpochRecordSchema = Type.Object({
  epoch: Type.Integer(),
  loss: Type.Number(),
  holdoutLoss: Type.Number(),
  holdoutMetric: Type.Number(),
  learningRate: Type.Number(),
  seconds: Type.Number(),
  best: Type.Boolean(),
});

export type EpochRecord = Static<typeof EpochRecordSchema>;
