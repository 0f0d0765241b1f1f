export * from './bodies.js';
export * from './errors.js';
export { type IdKind, idPattern, newId } from './ids.js';
export * from './job-request.js';
export * from './queue-payload.js';
export * from './status.js';
export { describe as describeSchema, fieldErrors, parseAgainst } from './validate.js';
export {
  assignTasks,
  type CheckpointPlace,
  checkAgainstModel,
  checkRecipe,
  defaultLimits,
  type DatasetConfig,
  type DatasetSummary,
  type InputType,
  type Limits,
  type ModelFacts,
  type ModelSummary,
  OctetError,
  type PipelineEvent,
  type PipelineResult,
  type Recipe,
  type Report,
  type Stage,
} from '@octet/quant-core';
