/**
 * What the process of a job is told to do. Nothing here or behind it may need a library before it is used: every start of a process pays for it
 * (docs/decisions/0015).
 */
export { inspectDataset } from './data/dataset.js';
export { inspectModel } from './inspect.js';
export { quantize } from './quantize.js';
