import { DatasetConfigSchema, outputKinds, RecipeSchema, stages, taskNames } from '@octet/quant-core';
import Type, { type Static, type TSchema } from 'typebox';
import { catalogue, type Failure } from './errors.js';
import { JobLimitsSchema } from './job-request.js';
import { type JobState, jobStates } from './status.js';

/** The bodies of HTTP answers. Times are ISO 8601 in UTC; sizes are bytes. */

const Time = Type.String({ format: 'date-time' });
const Nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);
const Count = Type.Integer({ minimum: 0 });
const Dimension = Type.Union([Type.Integer(), Type.String()]);
const Port = Type.Object({ name: Type.String(), dtype: Type.String(), shape: Type.Array(Dimension) });

export const FieldErrorSchema = Type.Object({ pointer: Type.String(), detail: Type.String(), hint: Type.Optional(Type.String()) });

export const PlaceSchema = Type.Object(
  {
    node: Type.Optional(Type.String()),
    op: Type.Optional(Type.String()),
    tensor: Type.Optional(Type.String()),
    sample: Type.Optional(Type.Integer()),
    file: Type.Optional(Type.String()),
    pointer: Type.Optional(Type.String()),
  },
  { description: 'Where in the input the error sits.' },
);

/** RFC 9457, with the members of our own that every error carries. */
export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'A page about this code.' }),
    code: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    place: PlaceSchema,
    hint: Type.String(),
    retryable: Type.Boolean(),
    errors: Type.Array(FieldErrorSchema),
    requestId: Type.String(),
  },
  { title: 'Problem', description: 'application/problem+json' },
);
export type Problem = Static<typeof ProblemSchema>;

/** The problem that answers a request with this failure. `type` is a path of the service, which serves the catalogue entry there. */
export function problemOf(failure: Failure, requestId: string): Problem {
  const { code, title, status, detail, place, hint, retryable, errors } = failure;
  return { type: `/docs/errors#${code}`, code, title, status, detail, place, hint, retryable, errors, requestId };
}

const ModelOutputSchema = Type.Object(
  {
    name: Type.String(),
    dtype: Type.String({ description: '"unknown" where it is not a tensor (a sequence, a map).' }),
    shape: Nullable(Type.Array(Type.Union([Type.Integer(), Type.String()]), { description: 'Null where the model does not say.' })),
    kind: Type.Enum([...outputKinds], { description: 'What its numbers are; `outputs` of a job overrides it.' }),
    axis: Nullable(Type.Integer({ description: 'Classes: the axis that counts them, the batch being axis 0.' })),
    form: Type.Enum(['logits', 'probabilities', 'log_probabilities']),
    width: Nullable(Type.Integer({ description: 'Elements of one sample; null where open.' })),
    judged: Type.Boolean({ description: 'Whether it is compared with the float model; the others are computed as before.' }),
    of: Type.String({ description: 'The tensor whose values it holds, under whatever shape and softmax.' }),
    why: Type.String({ description: 'How its kind is known, or why it is not judged.' }),
    certain: Type.Boolean({ description: 'False where the kind is a guess.' }),
  },
  { description: 'An output of the model, and what it is.' },
);

export const ModelSummarySchema = Type.Object({
  format: Type.Literal('onnx'),
  producer: Type.String(),
  irVersion: Type.Integer(),
  opset: Type.Integer(),
  inputs: Type.Array(Port),
  outputs: Type.Array(ModelOutputSchema),
  ops: Type.Record(Type.String(), Count),
  nodes: Count,
  parameters: Count,
  bytes: Count,
  quantizable: Type.Array(Type.Object({ node: Type.String(), op: Type.String(), parameters: Count })),
  float: Type.Array(Type.Object({ node: Type.String(), op: Type.String(), reason: Type.String() })),
  trainable: Type.Union([Type.Boolean(), Type.Null()], {
    description: 'Whether quantized layers have a gradient of the loss; null where that is known only with the sizes of the data.',
  }),
  notTrainableBecause: Type.Optional(
    Type.String({ description: 'Why the weights have no gradient of the loss; only where trainable is false.' }),
  ),
  notes: Type.Optional(
    Type.Array(Type.String(), { description: 'What is not known before there are data, and what was changed to read the model.' }),
  ),
});

export const ModelSchema = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    filename: Type.String(),
    bytes: Count,
    sha256: Type.String(),
    summary: ModelSummarySchema,
    createdAt: Time,
  },
  { title: 'Model', description: 'An uploaded float model.' },
);
export type Model = Static<typeof ModelSchema>;

export const DatasetSummarySchema = Type.Object({
  format: Type.Enum(['npz', 'npy', 'idx', 'images', 'csv', 'jsonl', 'parquet']),
  samples: Count,
  sampleShape: Type.Array(Type.Integer()),
  dtype: Type.String(),
  inputs: Type.Optional(
    Type.Array(
      Type.Object({
        name: Type.String(),
        sampleShape: Type.Array(Type.Integer()),
        dtype: Type.String(),
        range: Type.Object({ min: Type.Number(), max: Type.Number() }),
      }),
      { description: 'Arrays for models with several inputs, each under its name.' },
    ),
  ),
  task: Type.Enum([...taskNames], { description: 'What the labels are by themselves; with a model it may turn out to be another.' }),
  classes: Type.Optional(Count),
  classNames: Type.Optional(Type.Array(Type.String())),
  classCounts: Type.Optional(Type.Array(Count)),
  labelOffset: Type.Optional(Type.Literal(1, { description: 'Labels started at 1: this was subtracted from them.' })),
  targetShape: Type.Optional(Type.Array(Type.Integer())),
  targetFacts: Type.Optional(
    Type.Object(
      { whole: Type.Boolean(), min: Type.Number(), max: Type.Number(), sumsToOne: Type.Boolean() },
      { description: 'What the numbers of all target rows have in common.' },
    ),
  ),
  imageSizes: Type.Optional(Type.Object({ smallest: Type.Tuple([Count, Count]), largest: Type.Tuple([Count, Count]) })),
  assumptions: Type.Optional(Type.Array(Type.String({ description: 'What was assumed to read the dataset.' }))),
  parts: Type.Optional(
    Type.Object(
      { training: Type.String(), evaluation: Type.String() },
      { description: 'Names of the parts in an archive that holds data to train on beside data to evaluate with.' },
    ),
  ),
  evaluationSamples: Type.Optional(Count),
  range: Type.Object({ min: Type.Number(), max: Type.Number() }),
  bytes: Count,
});

export const DatasetSchema = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    filename: Type.String(),
    bytes: Count,
    sha256: Type.String(),
    config: DatasetConfigSchema,
    summary: DatasetSummarySchema,
    createdAt: Time,
  },
  { title: 'Dataset', description: 'An uploaded dataset.' },
);
export type Dataset = Static<typeof DatasetSchema>;

export const JobErrorSchema = Type.Object(
  {
    code: Type.String(),
    title: Type.String(),
    detail: Type.String(),
    place: PlaceSchema,
    hint: Type.String(),
    retryable: Type.Boolean(),
    errors: Type.Array(FieldErrorSchema),
    stage: Nullable(Type.String({ description: 'Stage in which the job failed.' })),
    logTail: Nullable(Type.String({ description: 'Last lines of the log of the job process.' })),
  },
  { title: 'JobError', description: 'Why the job failed.' },
);
export type JobError = Static<typeof JobErrorSchema>;

/** A failure as it stands in the row of a failed job. */
export function jobErrorOf(failure: Failure, stage: string | null): JobError {
  const { code, detail, place, hint, errors, logTail } = failure;
  const { title, retryable } = catalogue[code];
  return { code, title, detail, place, hint, retryable, errors, stage, logTail: logTail ?? null };
}

export const JobProgressSchema = Type.Object({
  stage: Type.Enum(stages),
  done: Type.Number(),
  total: Type.Number(),
  unit: Type.Enum(['samples', 'steps', 'layers', 'runs']),
  figures: Type.Record(Type.String(), Type.Number()),
  /** Seconds until the stage ends at the present speed; null while unknown. */
  stageEtaSeconds: Nullable(Type.Number()),
});
export type JobProgress = Static<typeof JobProgressSchema>;

/** What is done at a checkpoint: all of PTQ, or so many steps of training. */
const checkpointPlace = {
  stage: Type.Enum(['ptq', 'train'], { description: 'What is done: calibration and PTQ, or the steps of training counted by `step`.' }),
  step: Count,
};
const CheckpointSchema = Type.Object(
  { ...checkpointPlace, bytes: Count, createdAt: Time },
  { description: 'Where the job goes on if its worker is lost; null while there is none, and once the job has ended.' },
);

/** The key figures of the report, kept beside the job. */
export const JobResultSchema = Type.Object(
  {
    decision: Type.String({ description: 'ship, inspect or do_not_ship' }),
    verdict: Type.String(),
    gatePassed: Type.Boolean(),
    metric: Type.String(),
    float: Type.Number(),
    ptq: Type.Number(),
    qat: Nullable(Type.Number()),
    int8: Type.Number(),
    int8From: Type.String(),
    changePoints: Type.Number(),
    floatBytes: Count,
    int8Bytes: Count,
    floatP50Ms: Type.Number(),
    int8P50Ms: Type.Number(),
    evaluationSamples: Count,
  },
  { title: 'JobResult', description: 'Key figures of the accuracy report.' },
);
export type JobResult = Static<typeof JobResultSchema>;

const StateTime = Nullable(Time);
const stateTimes = Type.Object(Object.fromEntries(jobStates.map((state) => [state, StateTime])) as Record<JobState, typeof StateTime>, {
  description: 'When the job entered each state, for the last time.',
});

export const JobSchema = Type.Object(
  {
    id: Type.String(),
    state: Type.Enum(jobStates),
    stage: Nullable(Type.Enum(stages)),
    progress: Nullable(JobProgressSchema),
    queuePosition: Nullable(Type.Integer({ minimum: 1, description: '1 is next; null when the job does not wait.' })),
    attempts: Type.Integer({ minimum: 0, description: 'How often the job was started.' }),
    checkpoint: Nullable(CheckpointSchema),
    resumedFrom: Nullable(
      Type.Object(checkpointPlace, { description: 'The checkpoint that the last start went on from; null when it began without one.' }),
    ),
    model: Type.String(),
    dataset: Type.String(),
    evaluationDataset: Nullable(Type.String()),
    recipe: RecipeSchema,
    limits: JobLimitsSchema,
    metadata: Type.Record(Type.String(), Type.String()),
    result: Nullable(JobResultSchema),
    error: Nullable(JobErrorSchema),
    reused: Type.Boolean({ description: 'True when an earlier finished job already met this request.' }),
    cancelRequestedAt: Nullable(Time),
    createdAt: Time,
    updatedAt: Time,
    stateTimes,
    links: Type.Record(Type.String(), Type.String()),
  },
  { title: 'Job', description: 'A quantization job.' },
);
export type JobBody = Static<typeof JobSchema>;

export const EventSchema = Type.Object(
  {
    seq: Type.Integer({ minimum: 1, description: 'Rises through all events; the id of the event in an SSE stream.' }),
    job: Type.String(),
    type: Type.Enum(['state', 'stage', 'progress', 'epoch', 'log', 'attempt']),
    data: Type.Record(Type.String(), Type.Unknown()),
    createdAt: Time,
  },
  { title: 'Event', description: 'Something that happened to a job.' },
);
export type EventBody = Static<typeof EventSchema>;
export type EventType = EventBody['type'];

export const artifactKinds = ['model', 'report_json', 'report_md'] as const;
export type ArtifactKind = (typeof artifactKinds)[number];

export const ArtifactSchema = Type.Object(
  {
    id: Type.String(),
    job: Type.String(),
    kind: Type.Enum(artifactKinds),
    filename: Type.String(),
    mediaType: Type.String(),
    bytes: Count,
    sha256: Type.String(),
    createdAt: Time,
  },
  { title: 'Artifact', description: 'A file that a job made.' },
);
export type Artifact = Static<typeof ArtifactSchema>;

/** One page of a list; `nextCursor` is null on the last. */
export const pageOf = <S extends TSchema>(item: S) => Type.Object({ items: Type.Array(item), nextCursor: Nullable(Type.String()) });
export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}
