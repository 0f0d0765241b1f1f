import { OctetError } from '../errors.js';
import { dtypes } from '../tensor/dtype.js';
import { Tensor } from '../tensor/tensor.js';
import type { Graph, Node, Value } from './graph.js';
import { type AttributeValue, spec } from './ops.js';
import { show } from './shapes/rule.js';

const isNumber = (value: unknown): value is number => typeof value === 'number';
const isInteger = (value: unknown): boolean => Number.isInteger(value);

const kinds: Record<string, (value: AttributeValue) => boolean> = {
  int: isInteger,
  float: isNumber,
  string: (value) => typeof value === 'string',
  ints: (value) => Array.isArray(value) && value.every(isInteger),
  floats: (value) => Array.isArray(value) && value.every(isNumber),
  strings: (value) => Array.isArray(value) && value.every((item) => typeof item === 'string'),
  dtype: (value) => typeof value === 'string' && Object.hasOwn(dtypes, value),
  tensor: (value) => value instanceof Tensor,
};

function broken(detail: string, node?: Node, value?: Value): OctetError {
  const where = node ? `${node.opName} "${node.name}": ` : '';
  return new OctetError('INTERNAL', `${where}${detail}`, {
    ...(node ? { node: node.name, op: node.opName } : {}),
    ...(value ? { tensor: value.name } : {}),
  });
}

/**
 * Check the rules every graph keeps between passes: values are written once and before they are read, readers are listed,
 * names are unique, arity and attributes fit the op list, types are inferred. Throws INTERNAL naming node and tensor.
 */
export function verify(graph: Graph): void {
  const members = new Set(graph.nodes);
  if (members.size !== graph.nodes.length) throw broken('a node stands in the graph twice');
  const uses = countUses(graph);
  const ready = new Set<Value>();
  const names = new Set<string>();

  const define = (value: Value, node?: Node): void => {
    if (ready.has(value)) throw broken(`value "${value.name}" is written twice`, node, value);
    if (!value.name || names.has(value.name)) throw broken(`the name "${value.name}" is taken`, node, value);
    names.add(value.name);
    ready.add(value);
    checkReaders(value, uses.get(value) ?? new Map(), members);
  };
  const read = (value: Value, node?: Node): void => {
    if (ready.has(value)) return;
    if (!value.constant) throw broken(`reads "${value.name}", which nothing before it writes`, node, value);
    if (value.producer) throw broken(`constant "${value.name}" has a producer`, node, value);
    const { dtype, shape } = value.constant;
    if (value.dtype !== dtype || show(value.shape) !== show(shape))
      throw broken(`constant "${value.name}" is ${dtype}${show(shape)}, its type says ${value.dtype}${show(value.shape)}`, node, value);
    define(value, node);
  };

  for (const input of graph.inputs) {
    if (input.producer || input.constant) throw broken(`graph input "${input.name}" has a producer or a constant`, undefined, input);
    if (!input.type) throw broken(`graph input "${input.name}" has no type`, undefined, input);
    define(input);
  }
  const untyped = new Set<Value>();
  for (const node of graph.nodes) {
    for (const value of node.inputs) if (value) read(value, node);
    checkArity(node);
    checkAttributes(node);
    const excused = node.op === 'Opaque' || node.inputs.some((value) => value && untyped.has(value));
    for (const [port, value] of node.outputs.entries()) {
      if (value.producer !== node || value.port !== port) throw broken(`output ${port} "${value.name}" does not point back`, node, value);
      if (value.constant) throw broken(`output "${value.name}" is a constant`, node, value);
      define(value, node);
      if (value.type) continue;
      if (!excused) throw broken(`output "${value.name}" has no type`, node, value);
      untyped.add(value);
    }
  }
  for (const value of graph.outputs) read(value);
}

function countUses(graph: Graph): Map<Value, Map<Node, number>> {
  const uses = new Map<Value, Map<Node, number>>();
  for (const node of graph.nodes) {
    for (const value of node.inputs) {
      if (!value) continue;
      const of = uses.get(value) ?? new Map<Node, number>();
      uses.set(value, of);
      of.set(node, (of.get(node) ?? 0) + 1);
    }
  }
  return uses;
}

function checkReaders(value: Value, uses: Map<Node, number>, members: ReadonlySet<Node>): void {
  const listed = new Map<Node, number>();
  for (const reader of value.readers) {
    if (!members.has(reader)) throw broken(`"${value.name}" lists a reader that is not in the graph`, reader, value);
    listed.set(reader, (listed.get(reader) ?? 0) + 1);
  }
  for (const [node, count] of uses) {
    if (listed.get(node) !== count)
      throw broken(`reads "${value.name}" ${count} times, which lists it ${listed.get(node) ?? 0} times`, node, value);
  }
  for (const node of listed.keys())
    if (!uses.has(node)) throw broken(`is listed as a reader of "${value.name}" but does not read it`, node, value);
}

function checkArity(node: Node): void {
  const { inputs, outputs } = spec(node.op);
  const [least, most] = inputs;
  if (node.inputs.length > most) throw broken(`has ${node.inputs.length} inputs, at most ${most} are allowed`, node);
  for (let port = 0; port < least; port++) if (!node.inputs[port]) throw broken(`input ${port} is missing`, node);
  const [fewest, greatest] = outputs ?? [1, 1];
  if (node.outputs.length < fewest || node.outputs.length > greatest)
    throw broken(`has ${node.outputs.length} outputs, wanted ${fewest} to ${greatest}`, node);
}

function checkAttributes(node: Node): void {
  const known = spec(node.op).attrs ?? {};
  for (const [name, value] of Object.entries(node.attrs as Record<string, AttributeValue>)) {
    const kind = Object.hasOwn(known, name) ? known[name]?.kind : undefined;
    if (!kind) throw broken(`attribute "${name}" is not one of ${node.op}`, node);
    if (value !== undefined && !kinds[kind]?.(value)) throw broken(`attribute "${name}" is not of kind ${kind}`, node);
  }
}
