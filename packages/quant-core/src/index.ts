export { allocate, type DType } from './tensor/dtype.js';
export { Tensor } from './tensor/tensor.js';
export { type ErrorCode, type ErrorPlace, errorCatalogue, OctetError, type SerializedError } from './errors.js';
export * from './events.js';
export { type DatasetConfig, DatasetConfigSchema, type Recipe, RecipeSchema } from './recipe.js';
export * from './report/schema.js';
export { checkAgainstModel, checkSameClasses } from './data/model-check.js';
