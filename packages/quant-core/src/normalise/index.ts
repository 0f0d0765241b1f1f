import type { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { runPasses } from '../ir/pass.js';
import { deadCode } from './deadCode.js';
import { dropIdentities } from './dropIdentities.js';
import { explicitCeil } from './explicitCeil.js';
import { batchNormFolding, type FoldedNorm, foldBatchNormForward, spellOutBatchNorm, stillFolded } from './foldBatchNorm.js';
import { type Evaluate, foldConstants } from './foldConstants.js';
import { foldMulAdd } from './foldMulAdd.js';
import { fuseActivations } from './fuseActivations.js';
import { matmulAddToGemm, plainGemm } from './gemm.js';
import { tidy } from './tidy.js';

export type { Evaluate } from './foldConstants.js';

/**
 * Bring a graph to the one shape that the later stages expect, in place: inference form, no identities, sizes and constants computed
 * (with `evaluate`, which runs a graph without inputs), activations under their names, batch norm and constant
 * factors in the layers. The graph computes the same numbers, up to rounding. Names of inputs and outputs stay, and a
 * layer keeps its name. Throws MODEL_SHAPE or MODEL_DTYPE for a model that cannot be. Returns the batch norms that training can
 * take out of the layers again.
 */
export async function normalise(graph: Graph, options: { evaluate?: Evaluate } = {}): Promise<FoldedNorm[]> {
  const norms: FoldedNorm[] = [];
  const foldBatchNorm = batchNormFolding((norm) => norms.push(norm));
  const intoLayers = [explicitCeil, foldBatchNorm, matmulAddToGemm, foldMulAdd, plainGemm, dropIdentities, deadCode];
  do runPasses(graph, tidy);
  while (options.evaluate && (await foldConstants(graph, options.evaluate)));
  runPasses(graph, [fuseActivations, deadCode]);
  runPasses(graph, intoLayers);
  runPasses(graph, [foldBatchNormForward, ...intoLayers]);
  runPasses(graph, [spellOutBatchNorm, ...intoLayers]);
  inferShapes(graph);
  return stillFolded(graph, norms);
}
