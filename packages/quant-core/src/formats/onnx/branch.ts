import type { Graph, Node, Value } from '../../ir/graph.js';
import { dtypes } from '../../tensor/dtype.js';
import { buildGraph } from './build.js';
import { OnnxNode } from './origin.js';
import type { GraphProto, ValueInfoProto } from './schema.js';

/** The branch of an If as a graph proto whose inputs are the values it takes from outside; undefined where one of them has no type. */
function closed(branch: GraphProto, captured: readonly string[], values: readonly Value[]): GraphProto | undefined {
  const input: ValueInfoProto[] = [];
  for (const [i, name] of captured.entries()) {
    const { type } = values[i] as Value;
    if (!type || type.shape?.some((dim) => typeof dim === 'number' && dim < 1)) return undefined;
    const shape = type.shape && { dim: type.shape.map((dim) => (typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim })) };
    input.push({ name, type: { tensorType: { elemType: dtypes[type.dtype].onnx, ...(shape ? { shape } : {}) } } });
  }
  return { ...branch, input };
}

/**
 * Put the nodes of one branch of an If in its place. False, and nothing done, for a node that is not an If read from a file or
 * whose branch takes a value of unknown type.
 */
export function inlineBranch(graph: Graph, node: Node, then: boolean): boolean {
  const source = node.opaque;
  if (source?.opType !== 'If' || source.domain !== '' || !(source.proto instanceof OnnxNode)) return false;
  const { proto, captured } = source.proto;
  const branch = proto.attribute?.find(({ name }) => name === (then ? 'then_branch' : 'else_branch'))?.g;
  const values = node.inputs.slice(source.ownInputs) as Value[];
  const inner = branch && closed(branch, captured, values);
  if (!inner) return false;
  const part = buildGraph(inner, { maxParameters: Number.POSITIVE_INFINITY });
  const twins = new Map<Value, Value>(part.inputs.map((value) => [value, values[captured.indexOf(value.name)] as Value]));
  const names = new Set(graph.nodes.map((other) => other.name));
  const twin = (value: Value): Value => {
    let found = twins.get(value);
    if (!found && value.constant) {
      found = graph.constant(value.name, value.constant);
      twins.set(value, found);
    }
    return found as Value;
  };
  for (const made of part.nodes) {
    let name = made.name;
    for (let i = 1; names.has(name); i++) name = `${made.name}_${i}`;
    names.add(name);
    const inputs = made.inputs.map((value) => value && twin(value));
    const copy = graph.node(made.op, inputs, made.attrs, { name, outputNames: made.outputs.map((value) => value.name), before: node });
    copy.opaque = made.opaque;
    for (const [port, value] of made.outputs.entries()) {
      copy.output(port).type = value.type;
      copy.output(port).declared = value.declared;
      twins.set(value, copy.output(port));
    }
  }
  for (const [port, value] of node.outputs.entries()) graph.replaceAll(value, twin(part.outputs[port] as Value));
  graph.remove(node);
  return true;
}
