import type { Graph, Node } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { Pass } from '../ir/pass.js';
import { onlyProducer, soleProducer, sweep } from './match.js';

/** Two Transposes in a row as one; and only the last of a row of ops that keep all elements in order, when it is a Reshape. */
export const mergeMoves: Pass = {
  name: 'mergeMoves',
  run: (graph) =>
    sweep(graph, (node) => (node.is('Transpose') ? mergeTransposes(graph, node) : node.is('Reshape') ? skipReshapes(graph, node) : false)),
};

/** `y = x.transpose(p).transpose(q)` is `x.transpose(p[q])`. */
function mergeTransposes(graph: Graph, node: Node<'Transpose'>): boolean {
  const before = soleProducer(graph, node.inputs[0], 'Transpose');
  const [first, second] = [before?.attr('perm'), node.attr('perm')];
  if (!before || !first || !second || first.length !== second.length) return false;
  node.attrs = { ...node.attrs, perm: second.map((axis) => first[axis] as number) };
  node.setInput(0, before.input(0));
  graph.remove(before);
  return true;
}

/** The target of a Reshape says all about its result, unless it copies a size of the input. */
function skipReshapes(graph: Graph, node: Node<'Reshape'>): boolean {
  const before = onlyProducer(graph, node.inputs[0]);
  const target = node.input(1).constant;
  if (!before || spec(before.op).keepsElements !== 'reshaped' || !target || Array.from(target.data as BigInt64Array, Number).includes(0))
    return false;
  node.setInput(0, before.input(0));
  graph.remove(before);
  return true;
}
