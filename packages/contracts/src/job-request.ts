import { type DatasetConfig, DatasetConfigSchema, type Recipe, RecipeSchema } from '@octet/quant-core';
import Type, { type Static } from 'typebox';
import { idPattern } from './ids.js';
import { parseAgainst } from './validate.js';

export const JobLimitsSchema = Type.Object(
  {
    queueSeconds: Type.Integer({
      minimum: 1,
      maximum: 30 * 86_400,
      default: 86_400,
      description: 'The job fails when it has not started after this many seconds.',
    }),
    runSeconds: Type.Integer({
      minimum: 1,
      maximum: 7 * 86_400,
      default: 7_200,
      description: 'The job fails when it runs longer; time in the queue does not count.',
    }),
  },
  { additionalProperties: false, default: {} },
);

export const MetadataSchema = Type.Record(Type.String({ minLength: 1, maxLength: 64 }), Type.String({ maxLength: 512 }), {
  default: {},
  maxProperties: 32,
  description: 'Texts of your own, kept with the job: up to 32 keys of 64 characters, values of 512.',
});

/** All that a job can be told besides its model and data: the config part of a one-shot request. */
export const JobSettingsSchema = Type.Object(
  { ...RecipeSchema.properties, limits: JobLimitsSchema, metadata: MetadataSchema },
  { title: 'JobSettings', additionalProperties: false },
);

/** The body of POST /v1/jobs. */
export const JobRequestSchema = Type.Object(
  {
    model: Type.String({ pattern: idPattern('model'), description: 'Id of an uploaded model.' }),
    dataset: Type.String({
      pattern: idPattern('dataset'),
      description: 'Id of an uploaded dataset: training, calibration and held-out samples.',
    }),
    evaluationDataset: Type.Optional(
      Type.String({ pattern: idPattern('dataset'), description: 'Id of the evaluation set; a seeded share of the dataset when left out.' }),
    ),
    ...JobSettingsSchema.properties,
  },
  { title: 'JobRequest', additionalProperties: false },
);

export type JobLimits = Static<typeof JobLimitsSchema>;
export type JobSettings = Static<typeof JobSettingsSchema>;
export type JobRequest = Static<typeof JobRequestSchema>;

/**
 * A job as asked for, with every default filled in.
 * @throws ConfigError CONFIG_INVALID naming every wrong field.
 */
export function parseJobRequest(json: unknown): JobRequest {
  return parseAgainst(JobRequestSchema, json, 'CONFIG_INVALID');
}

/** The same for the config part of a one-shot request, whose model and data come as files. */
export function parseJobSettings(json: unknown): JobSettings {
  return parseAgainst(JobSettingsSchema, json, 'CONFIG_INVALID');
}

/** A recipe alone, as `octet quantize` takes it. */
export function parseRecipe(json: unknown): Recipe {
  return parseAgainst(RecipeSchema, json, 'CONFIG_INVALID');
}

/** How a dataset is to be read. @throws ConfigError DATASET_CONFIG. */
export function parseDatasetConfig(json: unknown): DatasetConfig {
  return parseAgainst(DatasetConfigSchema, json, 'DATASET_CONFIG');
}

/** The part of a request that quant-core executes. */
export function recipeOf(settings: JobSettings): Recipe {
  const { method, target, quantization, calibration, training, evaluation, gate, output, outputs, seed, threads, engine } = settings;
  const named = output === undefined ? {} : { output };
  return { method, target, quantization, calibration, training, evaluation, gate, ...named, outputs, seed, threads, engine };
}
