import Type, { type Static } from 'typebox';

const Times = Type.Array(Type.Number(), { description: 'ms of a run, one for each of `batches`.' });

const PlacedLayerSchema = Type.Object({
  name: Type.String(),
  op: Type.String(),
  left: Type.Boolean({ description: 'Whether it was left in float.' }),
  float: Times,
  int8: Times,
});
export type PlacedLayer = Static<typeof PlacedLayerSchema>;

/** What `quantization.placement: "auto"` measured and chose; checkpoints carry it, so that a job that goes on keeps its plan. */
export const PlacementSchema = Type.Object(
  {
    batches: Type.Array(Type.Integer(), { description: 'Batch sizes that were measured.' }),
    threads: Type.Integer(),
    cpu: Type.String({ description: 'The processor measured on; the choice is meant for it.' }),
    whole: Type.Object(
      { float: Times, int8: Times, mixed: Times },
      { description: 'Lower quartiles of the runs of whole models: float, all layers in int8, and what was chosen.' },
    ),
    bytes: Type.Object(
      { int8: Type.Integer(), mixed: Type.Integer() },
      { description: 'Size of the file with all layers in int8, and of that chosen.' },
    ),
    layers: Type.Array(PlacedLayerSchema, {
      description: 'Every layer that can be int8, with its times alone, conversions at its ends included.',
    }),
    trials: Type.Integer({ description: 'Mixed models that were measured.' }),
    note: Type.String(),
  },
  { description: 'Null unless quantization.placement is "auto".' },
);
export type Placement = Static<typeof PlacementSchema>;
