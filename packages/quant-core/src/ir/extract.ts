import { Graph, Node, Value } from './graph.js';

/**
 * The part of a graph between `from` and `to`: a new graph with `from` as inputs (under their names) and `to` as outputs.
 * Constants are shared. Throws when `to` also depends on an input that is not among `from`.
 */
export function extract(graph: Graph, from: readonly Value[], to: readonly Value[]): Graph {
  const part = new Graph(graph.name);
  part.opset = graph.opset;
  const twins = new Map<Value, Value>();
  for (const value of from) twins.set(value, part.input(value.name, value.type ?? { dtype: 'float32' }));
  const copies: Node[] = [];
  const stack = [...to].reverse();
  while (stack.length) {
    const value = stack.at(-1) as Value;
    if (twins.has(value)) {
      stack.pop();
      continue;
    }
    if (!value.producer) {
      if (!value.constant) throw new Error(`${to.map((v) => v.name)} depend on ${value.name}`);
      const twin = part.constant(value.name, value.constant);
      twins.set(value, twin);
      continue;
    }
    const missing = value.producer.inputs.filter((input): input is Value => input !== undefined && !twins.has(input));
    if (missing.length) {
      stack.push(...missing);
      continue;
    }
    copies.push(copyNode(part, value.producer, twins));
  }
  part.nodes.push(...copies);
  part.outputs.push(...to.map((value) => twins.get(value) as Value));
  return part;
}

/** A copy of a node for `part`, which does not hold it yet. `twins` has what its inputs are there, and gets its outputs. */
export function copyNode(part: Graph, node: Node, twins: Map<Value, Value>): Node {
  const copy = new Node(node.op, node.name, { ...node.attrs });
  copy.opaque = node.opaque;
  for (const [port, value] of node.inputs.entries()) copy.setInput(port, value && twins.get(value));
  for (const value of node.outputs) {
    const out = new Value(part.freshName(value.name), value.type);
    out.declared = value.declared;
    out.producer = copy;
    out.port = value.port;
    copy.outputs.push(out);
    twins.set(value, out);
  }
  return copy;
}
