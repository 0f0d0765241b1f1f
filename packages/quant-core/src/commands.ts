import { availableParallelism } from 'node:os';
import { startThreads } from './engine/ort/shards.js';
import type { DatasetSummary, ModelSummary, PipelineResult, QuantizeJob } from './events.js';

/**
 * What the process of a job is told to do. Each command reads what it needs when it is given, and nothing here, nor anything imported from here, may bring along a
 * library that it may not need: every start of a process pays for it (docs/decisions/0015).
 */

type InspectDataset = typeof import('./data/dataset.js').inspectDataset;
type InspectModel = typeof import('./inspect.js').inspectModel;
type Quantize = typeof import('./quantize.js').quantize;

export async function inspectDataset(...given: Parameters<InspectDataset>): Promise<DatasetSummary> {
  return (await import('./data/dataset.js')).inspectDataset(...given);
}

export async function inspectModel(...given: Parameters<InspectModel>): Promise<ModelSummary> {
  return (await import('./inspect.js')).inspectModel(...given);
}

/** Threads load the runtime while this thread reads the pipeline. */
export async function quantize(...[job, hooks]: Parameters<Quantize>): Promise<PipelineResult> {
  if (willThread(job)) startThreads();
  return (await import('./quantize.js')).quantize(job, hooks);
}

const willThread = ({ recipe }: QuantizeJob) =>
  recipe.engine !== 'tfjs' && process.env.OCTET_ENGINE !== 'tfjs' && (recipe.threads || availableParallelism()) > 1;
