import type { Graph } from '../ir/graph.js';
import { bindDims } from '../ir/infer.js';
import { peakBytes } from '../train/memory.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { openSizes } from './inputs.js';
import { graphBatch, type PreparedModel } from './model.js';

type ModelFacts = Pick<PreparedModel, 'graph' | 'batch'>;
type DataFacts = { dataset: Pick<JobData['dataset'], 'sampleShapes'> };
type JobFacts = Pick<Context, 'job'>;

/** What may be alive at once outside of training, as `peakBytes` counts it: a process that holds it and the model stays under 1 GiB. */
const mostLive = 2 ** 28;
/** Share of the memory of a job that may be alive at once; the rest goes to the model, and to what the runtime takes beside it. */
const liveShare = 0.3;

/** Bytes that may be alive at once outside of training. */
export const liveLimit = ({ job }: JobFacts): number => Math.min(mostLive, liveShare * (job.memoryBytes ?? Number.POSITIVE_INFINITY));

/** Bytes that are alive at once in `graph` with batches of `batch` samples of the job; undefined where a size cannot be told before it runs. */
export function liveBytes(model: ModelFacts, data: DataFacts, graph: Graph, batch: number): number | undefined {
  const bound = graph.clone();
  try {
    bindDims(bound, { ...openSizes(model, data.dataset.sampleShapes), [model.batch.symbol]: batch });
  } catch {
    return undefined;
  }
  return peakBytes(bound);
}

/**
 * Batch size for evaluating `graph`, run as it stands: the one of the recipe, or the largest that keeps to the memory that stages other than training have; one
 * sample, or the batch of a locked model, where even that takes more.
 */
export function evaluationBatch(context: JobFacts, model: ModelFacts, data: DataFacts, graph: Graph): number {
  const fixed = graphBatch(model);
  if (fixed !== undefined) return fixed;
  const most = liveLimit(context);
  let batch = context.job.recipe.evaluation.batchSize;
  // Nearly linear in the batch, apart from weights: this ends after a step or two.
  for (;;) {
    const bytes = liveBytes(model, data, graph, batch);
    if (bytes === undefined || bytes <= most || batch === 1) return batch;
    batch = Math.max(1, Math.min(batch - 1, Math.floor((batch * most) / bytes)));
  }
}
