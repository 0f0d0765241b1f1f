import type { Graph } from '../ir/graph.js';
import { bindDims } from '../ir/infer.js';
import { peakBytes } from '../train/memory.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { openSizes } from './inputs.js';
import type { PreparedModel } from './model.js';

/** What may be alive at once outside of training, as `peakBytes` counts it: a process that holds it and the model stays under 1 GiB. */
const mostLiveBytes = 2 ** 28;

/** A batch size, and the bytes that are alive at once with it. */
export interface BoundedBatch {
  batchSize: number;
  /** Undefined where sizes depend on more than the shapes of the samples. */
  liveBytes: number | undefined;
}

/** Bytes that are alive at once in `graph` with batches of `batch` samples of the job; undefined where a size cannot be told before it runs. */
function liveBytes(model: PreparedModel, data: JobData, graph: Graph, batch: number): number | undefined {
  const bound = graph.clone();
  try {
    bindDims(bound, { ...openSizes(model, data.dataset.sampleShapes), [model.batchSymbol]: batch });
  } catch {
    return undefined;
  }
  return peakBytes(bound);
}

/**
 * The largest batch up to `wanted` with which `graph`, run as it stands, keeps to the memory that stages other than training have; one sample, or the batch of a
 * locked model, where even that takes more.
 */
export function batchWithin(model: PreparedModel, data: JobData, graph: Graph, wanted: number, most = mostLiveBytes): BoundedBatch {
  const at = (batch: number) => liveBytes(model, data, graph, batch);
  const whole = model.locked ? (model.fixedBatch as number) : wanted;
  let batchSize = whole;
  let bytes = at(whole);
  // Nearly linear in the batch, apart from weights: this ends after a step or two.
  while (!model.locked && bytes !== undefined && bytes > most && batchSize > 1) {
    batchSize = Math.max(1, Math.min(batchSize - 1, Math.floor((batchSize * most) / bytes)));
    bytes = at(batchSize);
  }
  return { batchSize, liveBytes: bytes };
}

/** Batch size for evaluating `graph`: the one of the recipe, or what fits. */
export const evaluationBatch = (context: Context, model: PreparedModel, data: JobData, graph: Graph): number =>
  batchWithin(model, data, graph, context.job.recipe.evaluation.batchSize).batchSize;
