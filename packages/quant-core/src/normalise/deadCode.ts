import type { Graph, Node } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { Pass } from '../ir/pass.js';

/** Take out nodes whose outputs are not read, and optional outputs that are not read. */
export const deadCode: Pass = {
  name: 'deadCode',
  run: (graph) => graph.batch(() => removeDead(graph)),
};

function removeDead(graph: Graph): boolean {
  const outputs = new Set(graph.outputs);
  let changed = false;
  for (const node of graph.nodes.toReversed()) {
    const live = node.outputs.map((value) => value.readers.length > 0 || outputs.has(value));
    if (!live.includes(true)) {
      graph.remove(node);
      changed = true;
    } else if (spec(node.op).byProducts && trim(node, live)) changed = true;
  }
  return changed;
}

function trim(node: Node, live: readonly boolean[]): boolean {
  const count = live.lastIndexOf(true) + 1;
  if (count === node.outputs.length) return false;
  node.outputs.length = count;
  return true;
}
