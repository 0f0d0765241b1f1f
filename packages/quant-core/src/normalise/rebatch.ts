import type { Graph } from '../ir/graph.js';
export function rebatch(_graph: Graph): { fixedBatch: number | undefined } {
  return { fixedBatch: undefined };
}
