import type { Context } from './context.js';
import type { JobData } from './data.js';
import type { PreparedModel } from './model.js';

/** What all stages after loading work on. */
export interface Work {
  context: Context;
  model: PreparedModel;
  data: JobData;
}
