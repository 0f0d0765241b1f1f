import type { Graph, Node, Value } from '../ir/graph.js';
import type { OpType } from '../ir/ops.js';
import { Tensor, toNumbers } from '../tensor/tensor.js';

/** The node that writes `value` and nothing else, when that has one reader and is not an output of the graph. */
export function onlyProducer(graph: Graph, value: Value | undefined): Node | undefined {
  const node = value?.producer;
  return node && value.readers.length === 1 && node.outputs.length === 1 && !graph.outputs.includes(value) ? node : undefined;
}

/** The same, when it is of one of the ops. */
export function soleProducer<K extends OpType>(graph: Graph, value: Value | undefined, ...ops: K[]): Node<K> | undefined {
  const node = onlyProducer(graph, value);
  return node?.is(...ops) ? node : undefined;
}

/** The float32 tensor of a constant. */
export function floatConstant(value: Value | undefined): Tensor<'float32'> | undefined {
  return value?.constant?.dtype === 'float32' ? value.constant.as('float32') : undefined;
}

/** The number that every element of a constant is. */
export function uniformConstant(value: Value | undefined): number | undefined {
  const tensor = value?.constant;
  if (!tensor || tensor.size === 0) return undefined;
  const data = tensor.size > 1 ? toNumbers(tensor) : toNumbers(new Tensor(tensor.dtype, [1], tensor.data));
  const first = data[0] as number;
  for (let i = 1; i < data.length; i++) if (data[i] !== first) return undefined;
  return first;
}

/** The only element of a constant of one element. */
export function scalarConstant(value: Value | undefined): number | undefined {
  return value?.constant?.size === 1 ? uniformConstant(value) : undefined;
}

/** Of two inputs, the constant one and the other; undefined when none or both are constant. */
export function constantOperand(node: Node<OpType>): { constant: Value; other: Value; port: number } | undefined {
  const [a, b] = [node.inputs[0], node.inputs[1]];
  if (!a || !b || !!a.constant === !!b.constant) return undefined;
  return a.constant ? { constant: a, other: b, port: 0 } : { constant: b, other: a, port: 1 };
}

/**
 * Let the readers of the node's first output use `to`, and take the node out. False, and nothing done, when the output is a graph
 * output and `to` cannot take its name.
 */
export function bypass(graph: Graph, node: Node, to: Value): boolean {
  const from = node.output();
  if (graph.outputs.includes(from) && (!to.producer || graph.outputs.includes(to))) return false;
  graph.replaceAll(from, to);
  graph.remove(node);
  return true;
}

/** Walk the nodes that are still in the graph, with all edits applied at the end; true when `visit` said so for any. */
export function sweep(graph: Graph, visit: (node: Node) => boolean): boolean {
  return graph.batch(() => {
    let changed = false;
    for (const node of [...graph.nodes]) {
      if (node.inputs.length > 0 && visit(node)) changed = true;
    }
    return changed;
  });
}
