import type { Graph, Node } from '../../ir/graph.js';
import { joinAfter } from './vectors.js';

/** For each input of `join`, in their order, the nodes that serve it alone, in topological order. */
function branchesOf(graph: Graph, join: Node<'Concat'>): Node[][] {
  const branch = new Map<Node, number>();
  const branches: Node[][] = join.inputs.map(() => []);
  for (const node of [...graph.nodes].reverse()) {
    if (node.outputs.some((value) => graph.outputs.includes(value))) continue;
    const served = node.outputs.flatMap((value) =>
      value.readers.map((reader) => (reader === join ? join.inputs.indexOf(value) : branch.get(reader))),
    );
    const [first] = served;
    if (first === undefined || served.some((one) => one !== first)) continue;
    branch.set(node, first);
    branches[first]?.unshift(node);
  }
  return branches;
}

/** Reshape of a Reshape as one: the runtime would put a new node, with a late number, in their place. */
function mergeReshapes(graph: Graph): void {
  for (const node of [...graph.nodes]) {
    const inner = node.is('Reshape') ? node.input(0).producer : undefined;
    const shape = node.is('Reshape') ? node.input(1).constant : undefined;
    if (!inner?.is('Reshape') || !shape || Array.from(shape.data as BigInt64Array).some((dim) => dim < 1n)) continue;
    node.setInput(0, inner.input(0));
    if (!inner.output().readers.length && !graph.outputs.includes(inner.output())) graph.remove(inner);
  }
}

/**
 * Let a training step forget every activation as soon as the gradients that need it are there. The runtime chooses its order by walking back
 * from the results, and of a node's inputs takes the one latest in the file first. Of the Concat that joins the gradients, that has to be
 * the one of the last layer: what serves one gradient alone is put in front of the Concat, first layer first. In other orders all of
 * `dx` may be computed before the first `dw`, and every activation and every `dy` lies in memory until then.
 * In place; the graph stays in topological order.
 */
export function orderGradients(graph: Graph): void {
  mergeReshapes(graph);
  for (const join of graph.outputs.flatMap((output) => joinAfter(output) ?? [])) {
    const branches = branchesOf(graph, join).flat();
    const moved = new Set(branches);
    graph.nodes = graph.nodes.filter((node) => !moved.has(node)).flatMap((node) => (node === join ? [...branches, node] : [node]));
  }
}
