import Type, { type Static } from 'typebox';
import { outputKinds, taskNames } from '../choices.js';
import type { ErrorPlace } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import { PlacementSchema } from '../fakequant/placementRecord.js';
import { type DatasetConfig, DatasetConfigSchema, RecipeSchema } from '../recipe.js';
import { EpochRecordSchema } from '../train/epochs.js';

const nullable = <S extends Type.TSchema>(schema: S) => Type.Union([schema, Type.Null()]);

const Interval = Type.Tuple([Type.Number(), Type.Number()]);
const Counts = Type.Record(Type.String(), Type.Number());

const metricFields = {
  value: Type.Number(),
  ci95: Type.Tuple([Type.Number(), Type.Number()], {
    description: '95 % interval of the value alone: Wilson for proportions, bootstrap otherwise.',
  }),
};

const MetricValueSchema = Type.Object(metricFields);
export type MetricValue = Static<typeof MetricValueSchema>;

const timeFields = {
  p50Ms: Type.Number(),
  p95Ms: Type.Number(),
  ci95: Type.Optional(
    Type.Tuple([Type.Number(), Type.Number()], {
      description: '95 % interval of the median from its order statistics, ms; all runs where they are fewer than six.',
    }),
  ),
  runs: Type.Optional(Type.Integer({ description: 'Runs that were timed.' })),
};

const LatencyFiguresSchema = Type.Object({
  ...timeFields,
  batch32: Type.Object(
    {
      ...timeFields,
      samples: Type.Optional(
        Type.Integer({
          description:
            'Samples of each run that was timed. Where 32 take too long or too much memory, and where the model has another fixed batch, times are scaled to 32.',
        }),
      ),
    },
    { description: 'Same at batch 32, for one run of the whole batch.' },
  ),
});

const RatioSchema = Type.Object(
  { value: Type.Number(), ci95: Interval },
  { description: 'Time of int8 over that of float, median over the runs that followed each other, with its 95 % interval.' },
);
export type LatencyFigures = Static<typeof LatencyFiguresSchema>;

const PairedChangeSchema = Type.Object(
  {
    points: Type.Number({
      description:
        'Change of the metric in points (hundredths for proportions, metric units otherwise); negative is a loss, whatever the direction of the metric.',
    }),
    ci95: Interval,
    mcnemarP: nullable(Type.Number({ description: 'Exact McNemar p (two-sided); null where the metric is not right-or-wrong.' })),
    bothRight: Type.Integer(),
    onlyFloat: Type.Integer(),
    onlyInt8: Type.Integer(),
    bothWrong: Type.Integer(),
  },
  { description: 'Float against a candidate on the same samples.' },
);
export type PairedChange = Static<typeof PairedChangeSchema>;

const LayerReportSchema = Type.Object({
  name: Type.String(),
  op: Type.String(),
  precision: Type.Union([Type.Literal('int8'), Type.Literal('float')]),
  reason: Type.Optional(Type.String({ description: 'Why a node stayed float.' })),
  parameters: Type.Integer(),
  weightBits: Type.Optional(Type.Integer()),
  weightStorage: Type.Optional(
    Type.Union([Type.Literal('int8'), Type.Literal('int4')], {
      description: 'What the file holds the weights in; int8 takes a byte for each, however few bits they have.',
    }),
  ),
  activationBits: Type.Optional(Type.Integer()),
  perChannel: Type.Optional(Type.Boolean()),
  scale: Type.Optional(Type.Number()),
  zeroPoint: Type.Optional(Type.Integer()),
  range: Type.Optional(Interval),
  channelSpread: Type.Optional(Type.Number({ description: 'Largest over smallest channel scale of the weights.' })),
  sqnrAccumulatedDb: Type.Optional(Type.Number({ description: 'dB, everything quantized.' })),
  sqnrLocalDb: Type.Optional(Type.Number({ description: 'dB, only this layer quantized.' })),
  rmseOverScale: Type.Optional(
    Type.Number({ description: 'RMS rounding error of the output on its own grid, over the scale; 0.289 is ideal rounding.' }),
  ),
  clipped: Type.Optional(Type.Number({ description: 'Share of output values outside the range.' })),
  floatBytes: Type.Integer(),
  int8Bytes: Type.Integer(),
});
export type LayerReport = Static<typeof LayerReportSchema>;

const TopClass = Type.Object({ label: Type.Integer(), confidence: Type.Number() });

const FlippedSampleSchema = Type.Object({
  index: Type.Integer(),
  truth: nullable(Type.Integer()),
  float: Type.Array(TopClass),
  int8: Type.Array(TopClass),
  marginLost: Type.Number({ description: 'Margin of the float decision that was lost.' }),
});
export type FlippedSample = Static<typeof FlippedSampleSchema>;

const VerdictSchema = Type.Object({
  decision: Type.Union([Type.Literal('ship'), Type.Literal('inspect'), Type.Literal('do_not_ship')]),
  text: Type.String(),
  nextStep: Type.String(),
});

const TrainingSchema = Type.Object({
  epochs: Type.Array(EpochRecordSchema),
  bestEpoch: Type.Integer(),
  observersFrozenAtStep: Type.Integer(),
  distillationShare: Type.Number({ description: 'Share of the distillation loss beside the label loss.' }),
  start: Type.Union([Type.Literal('float'), Type.Literal('rounded')], {
    description: 'The weights that training began with: those of the float model, or those that PTQ had rounded adaptively.',
  }),
  learnedScales: Type.Integer({ description: 'Scales that were trained (learned step size); 0: all came from observed ranges.' }),
  batchNorm: Type.Object({
    kept: Type.Integer({ description: 'Batch norms that were trained with statistics of their own and folded at the end.' }),
    frozenAtStep: Type.Integer({ description: 'Step after which their statistics stayed as they were.' }),
    reestimated: Type.Boolean({ description: 'Whether the statistics were measured anew with everything quantized.' }),
    note: Type.String({ description: 'What became of the others, or why there was nothing to keep.' }),
  }),
  stepsPerEpoch: Type.Integer(),
  samplesPerSecond: Type.Number(),
  learningRate: Type.Number(),
  loss: Type.String({ description: 'Of the first term; "distillation" where there is no other.' }),
  terms: Type.Array(Type.Object({ output: Type.String(), kind: Type.String(), distillationShare: Type.Number(), weight: Type.Number() }), {
    description: 'What each output adds to the loss.',
  }),
});

export const CalibrationSchema = Type.Object(
  {
    equalizedPairs: Type.Integer({ description: 'Pairs of layers whose channels were given other scales before quantization.' }),
    adaptiveLayers: Type.Integer({ description: 'Layers whose weights were rounded adaptively (AdaRound).' }),
    roundingError: nullable(
      Type.Number({
        description:
          'What is left of the squared error of these layers, against rounding to nearest, on samples kept back (geometric mean).',
      }),
    ),
    correctedBiases: Type.Integer({ description: 'Biases that take back a shift of the mean.' }),
  },
  { description: 'What was done for the PTQ model, beside choosing ranges.' },
);

const BaselineSchema = Type.Object(
  {
    expected: nullable(Type.Number({ description: 'evaluation.expectedFloat, which the float model was found to reach.' })),
    poor: nullable(Type.String({ description: 'Why other readings of the samples were tried: what is poor about the float model.' })),
    samples: Type.Integer({ description: 'Samples they were tried on.' }),
    asConfigured: nullable(
      Type.Object(metricFields, { description: 'The metric of the float model on these samples, read as configured.' }),
    ),
    tried: Type.Array(
      Type.Object({
        name: Type.String(),
        cause: Type.String(),
        ...metricFields,
        config: nullable(
          Type.Unsafe<DatasetConfig>(
            Type.Object({}, { description: 'Fields of the config of the dataset that read samples so; null where no field does.' }),
          ),
        ),
      }),
    ),
    better: nullable(Type.String({ description: 'The reading under which the float model is plainly better; null where there is none.' })),
  },
  { description: 'Whether the float model is what its owner trained; null where nothing is said of it and nothing looks wrong.' },
);

const OutputReportSchema = Type.Object(
  {
    name: Type.String(),
    dtype: Type.String(),
    kind: Type.Enum([...outputKinds]),
    axis: nullable(Type.Integer({ description: 'Class axis, the batch being axis 0.' })),
    judged: Type.Boolean({ description: 'Whether it is compared; others are computed as before.' }),
    why: Type.String({ description: 'How its kind is known, or why it is not judged.' }),
    labelled: Type.Boolean({ description: 'Whether the labels belong to it.' }),
    fidelity: nullable(
      Type.Object(
        {
          sqnrDb: nullable(Type.Number({ description: 'Signal to quantization noise, dB; null where nothing differs.' })),
          relativeError: Type.Number({ description: 'RMS error over the standard deviation of the float output.' }),
          cosine: Type.Number({ description: 'Mean cosine similarity of a sample.' }),
          positions: Type.Integer({ description: 'Positions of a sample that have a class; 0 where outputs are not classes.' }),
          agreement: nullable(
            Type.Number({ description: 'Share of samples or positions with the same class; null where there is no class axis.' }),
          ),
        },
        { description: 'int8 against the float model; null where not judged.' },
      ),
    ),
    metrics: Type.Array(Type.Object({ name: Type.String(), float: Type.Number(), int8: Type.Number() }), {
      description: 'Against the labels, where they belong to it.',
    }),
  },
  { title: 'OutputReport' },
);
export type OutputReport = Static<typeof OutputReportSchema>;

const RuntimeSchema = Type.Object({
  name: Type.String(),
  version: Type.String(),
  integerNodes: Type.Integer({ description: 'Nodes of the optimized model that compute on integers.' }),
  floatNodes: Type.Integer(),
  boundaryNodes: Type.Integer({ description: 'Nodes that convert between float and int8.' }),
  integerTimeShare: nullable(
    Type.Number({ description: 'Share of measured run time spent in integer nodes; null when it could not be measured.' }),
  ),
  byOp: Counts,
});

const ProvenanceSchema = Type.Object({
  modelSha256: Type.String(),
  datasetSha256: Type.String(),
  evaluationDatasetSha256: nullable(Type.String()),
  artifactSha256: Type.String(),
  seed: Type.Integer(),
  recipe: RecipeSchema,
  dataset: Type.Unsafe<DatasetSummary>(Type.Object({})),
  datasetConfig: DatasetConfigSchema,
  versions: Type.Record(Type.String(), Type.String()),
  platform: Type.String(),
  seconds: Counts,
  memory: Type.Object({
    estimatedBytes: nullable(
      Type.Integer({ description: 'What the stage that takes most was expected to take, before any of them began.' }),
    ),
    peakBytes: Type.Integer({ description: 'The most the process of the job had in memory.' }),
    peakBytesByStage: Type.Optional(
      Type.Record(Type.String(), Type.Integer(), {
        description: 'The most it had in each stage: resident memory, as the system counts it or as it was seen every 20 ms.',
      }),
    ),
  }),
  command: Type.String(),
});

/** The accuracy report. Keys at the top are stable: tools may rely on them. */
export const ReportSchema = Type.Object(
  {
    schemaVersion: Type.String(),
    verdict: VerdictSchema,
    task: Type.Enum([...taskNames], {
      description: 'What the labels are for the model; unlabelled: the float model is what int8 is compared with.',
    }),
    metric: Type.Object({
      name: Type.String(),
      unit: Type.Union([Type.Literal('fraction'), Type.Literal('value')]),
      higherIsBetter: Type.Boolean(),
    }),
    baseline: nullable(BaselineSchema),
    float: MetricValueSchema,
    ptq: MetricValueSchema,
    qat: nullable(Type.Object(metricFields, { description: 'Null for method "ptq".' })),
    int8: Type.Object(
      {
        ...metricFields,
        from: Type.Union([Type.Literal('ptq'), Type.Literal('qat')]),
        why: Type.String(),
        selection: Type.Object({
          split: Type.Literal('holdout'),
          samples: Type.Integer(),
          ptq: Type.Number(),
          qat: nullable(Type.Number()),
        }),
      },
      { description: 'The model that is returned.' },
    ),
    recovered: nullable(
      Type.Number({ description: 'Share of the loss of PTQ that training won back; null when PTQ lost nothing beyond chance.' }),
    ),
    change: PairedChangeSchema,
    changes: Type.Object({ ptq: PairedChangeSchema, qat: nullable(PairedChangeSchema) }),
    gate: Type.Object({ maxDrop: nullable(Type.Number()), passed: Type.Boolean() }),
    parity: Type.Object(
      {
        output: Type.String({ description: 'The output with the least agreement.' }),
        agreement: Type.Number({
          description:
            'Share of samples on which they agree: every value within 2.55 steps of the scale of the output, or, where one class is named for a sample, the same class or values within one step.',
        }),
        top1Agreement: nullable(
          Type.Number({
            description: 'Share of samples on which simulation and artifact name the same top-1; null where no single class is named.',
          }),
        ),
        maxAbsDifference: Type.Number(),
        maxSteps: Type.Number({ description: 'The largest difference in steps of the scale of its output.' }),
        samples: Type.Integer(),
      },
      { description: 'Fake-quant simulation against the artifact in its runtime.' },
    ),
    agreement: nullable(
      Type.Number({
        description: 'Share of samples (or positions) on which float and int8 name the same class; null where outputs are not classes.',
      }),
    ),
    outputs: Type.Array(OutputReportSchema, { description: 'Every output of the model, in the order of the file.' }),
    size: Type.Object({ floatBytes: Type.Integer(), int8Bytes: Type.Integer(), ratio: Type.Number() }),
    latency: Type.Object({
      float: LatencyFiguresSchema,
      int8: LatencyFiguresSchema,
      ratio: Type.Optional(Type.Object({ batch1: RatioSchema, batch32: RatioSchema })),
      busy: Type.Optional(
        Type.Boolean({
          description:
            'Whether the figures were taken on a busy machine: an interval is wider than ±10 %, or other processes left no core free. They are not a reason to call int8 faster or slower.',
        }),
      ),
      load: Type.Optional(
        Type.Object({
          otherCores: Type.Number({ description: 'Cores that other processes kept busy while latency was measured, on average.' }),
          cores: Type.Integer(),
          average: Type.Number({ description: 'Load average of the last minute, this job included; 0 where the system has none.' }),
          spread: Type.Number({ description: 'Half of the widest of the 95 % intervals over its median.' }),
        }),
      ),
      threads: Type.Integer(),
      cpu: Type.String(),
      cpuFeatures: Type.Array(Type.String()),
      note: nullable(Type.String()),
    }),
    runtime: RuntimeSchema,
    samples: Type.Object({ training: Type.Integer(), calibration: Type.Integer(), holdout: Type.Integer(), evaluation: Type.Integer() }),
    classes: nullable(
      Type.Array(
        Type.Object({
          label: Type.Integer(),
          name: Type.Optional(Type.String()),
          samples: Type.Integer(),
          float: Type.Number(),
          int8: Type.Number(),
          changePoints: Type.Number(),
        }),
      ),
    ),
    confusion: nullable(
      Type.Object(
        { labels: Type.Integer(), float: Type.Array(Type.Array(Type.Integer())), int8: Type.Array(Type.Array(Type.Integer())) },
        { description: 'Rows are true classes, columns named classes.' },
      ),
    ),
    flips: Type.Array(FlippedSampleSchema),
    layers: Type.Array(LayerReportSchema),
    calibration: CalibrationSchema,
    placement: nullable(PlacementSchema),
    training: nullable(TrainingSchema),
    warnings: Type.Array(
      Type.Object({ code: Type.String(), text: Type.String(), place: Type.Optional(Type.Unsafe<ErrorPlace>(Type.Object({}))) }),
    ),
    provenance: ProvenanceSchema,
  },
  { title: 'AccuracyReport' },
);
export type Report = Static<typeof ReportSchema>;
