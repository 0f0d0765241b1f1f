import type { Graph, Node, Value } from '../ir/graph.js';
import type { Pass } from '../ir/pass.js';
import { Tensor } from '../tensor/tensor.js';
import { sweep } from './match.js';

/**
 * Training-mode exports in inference form: BatchNormalization uses its running statistics, which also stand for the ones it
 * would have updated; Dropout passes its input on, with a mask of true.
 */
export const toInference: Pass = {
  name: 'toInference',
  run: (graph) =>
    sweep(graph, (node) => {
      if (node.is('BatchNormalization')) return freeze(graph, node);
      if (node.is('Dropout')) return dropDropout(graph, node);
      return false;
    }),
};

function freeze(graph: Graph, node: Node<'BatchNormalization'>): boolean {
  if (node.attr('training_mode') !== 1 && node.outputs.length === 1) return false;
  for (const [port, output] of node.outputs.entries()) {
    if (port > 0) graph.replaceAll(output, node.input(port % 2 === 1 ? 3 : 4));
  }
  node.outputs.length = 1;
  node.attrs = { ...node.attrs, training_mode: undefined };
  return true;
}

function dropDropout(graph: Graph, node: Node<'Dropout'>): boolean {
  const x = node.input(0);
  const mask = node.outputs[1];
  if (mask && (mask.readers.length > 0 || graph.outputs.includes(mask))) graph.replaceAll(mask, allTrue(graph, x, node));
  node.outputs.length = 1;
  graph.replaceAll(node.output(), x);
  graph.remove(node);
  return true;
}

function allTrue(graph: Graph, like: Value, before: Node<'Dropout'>): Value {
  const options = { before };
  const shape = graph.node('Shape', [like], {}, { ...options, name: `${before.name}_shape` }).output();
  return graph
    .node('ConstantOfShape', [shape], { value: new Tensor('bool', [1], Uint8Array.of(1)) }, { ...options, name: `${before.name}_mask` })
    .output();
}
