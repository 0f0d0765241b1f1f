import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { type FoldedNorm, stillFolded } from '../normalise/foldBatchNorm.js';
import type { Recipe } from '../recipe.js';
import { shardsFor } from '../train/stepper.js';
import { graphBatch, type PreparedModel } from './model.js';

/** What becomes of the batch norms of a model while it is trained, and why. */
export interface NormChoice {
  kept: readonly FoldedNorm[];
  /** One sentence for the report. */
  note: string;
}

/** Width of weights from which on `auto` folds: below it batch norm wins more than chance does (docs/decisions/0012). */
const keptBelow = 3;

/** Samples that one part of a batch must have for its statistics to say anything. */
const fewestSamples = 2;

/**
 * The batch norms that training keeps. `unreached` names the weights that no gradient reaches, as far as that is known: those stay folded. Throws CONFIG_IMPOSSIBLE
 * where the recipe says "keep" and there is nothing to keep, or batches are too small for statistics.
 */
export function keptNorms(
  model: PreparedModel,
  plan: QuantPlan,
  { training }: Recipe,
  unreached: readonly string[] | undefined,
): NormChoice {
  const wish = training.batchNorm;
  const nodes = new Map(model.graph.nodes.map((node) => [node.name, node]));
  const norms = stillFolded(model.graph, model.norms).filter(({ node }) => !unreached?.includes(nodes.get(node)?.input(1).name as string));
  const inFile = model.source.ops.BatchNormalization ?? 0;
  const nothing = inFile
    ? `none of the ${inFile} BatchNormalization nodes of the file comes after a layer that is trained`
    : 'the file has no BatchNormalization: the exporter folded it into the layers, or the network has none';
  const refuse = (why: string, pointer: string, hint: string) => {
    if (wish === 'keep')
      throw new OctetError('CONFIG_IMPOSSIBLE', `training.batchNorm "keep" is impossible: ${why}`, { pointer }, { hint });
    return { kept: [], note: `Nothing to keep: ${why}.` };
  };
  if (!norms.length)
    return refuse(
      nothing,
      '/training/batchNorm',
      'Export the model without folding (torch.onnx.export with training=TrainingMode.PRESERVE of a model in eval mode), or leave training.batchNorm at "auto".',
    );
  const narrow = plan.weights.some(({ bits }) => bits < keptBelow);
  if (wish === 'fold' || (wish === 'auto' && !narrow))
    return { kept: [], note: `${norms.length} folded into their layers before training.` };
  const batch = graphBatch(model) ?? training.batchSize;
  const each = batch / shardsFor(batch);
  if (each < fewestSamples)
    return refuse(
      `batches of ${batch} are too small for statistics`,
      '/training/batchSize',
      'Raise training.batchSize, or set training.batchNorm to "fold".',
    );
  return { kept: norms, note: '' };
}
