import { OctetError } from '../errors.js';
import type { Graph } from './graph.js';
import { inferShapes, type KnownElements } from './infer.js';
import { verify } from './verify.js';

/** One rewrite of a graph. */
export interface Pass {
  readonly name: string;
  /** Rewrite in place; true when something changed. `known` holds what is known of shape arithmetic before the pass. */
  run(graph: Graph, known: KnownElements): boolean;
}

/** More rounds than any graph needs; beyond it two passes undo each other. */
const mostRounds = 200;

/**
 * Run the passes in order, again and again, until none changes anything. After each pass that changed something the graph
 * is inferred again (which may show that a shape of the model is impossible) and verified; a graph that breaks a rule then is INTERNAL, with the pass named.
 * Returns whether anything changed.
 */
export function runPasses(graph: Graph, passes: readonly Pass[]): boolean {
  let known = inferShapes(graph);
  let changed = false;
  for (let round = 0; round < mostRounds; round++) {
    let again = false;
    for (const pass of passes) {
      if (!pass.run(graph, known)) continue;
      again = true;
      known = inferShapes(graph);
      try {
        verify(graph);
      } catch (error) {
        throw new OctetError(
          'INTERNAL',
          `after pass ${pass.name}: ${error instanceof Error ? error.message : String(error)}`,
          {},
          { cause: error },
        );
      }
    }
    if (!again) return changed;
    changed = true;
  }
  throw new OctetError('INTERNAL', `the passes ${passes.map((pass) => pass.name).join(', ')} do not come to rest`);
}
