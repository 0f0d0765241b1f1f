import { OctetError } from '../../errors.js';
import { inputSymbols } from '../../ir/declared.js';
import { type Dim, Graph, type Node, type Value, type ValueType } from '../../ir/graph.js';
import { type Attrs, isOpType, type OpType, spec } from '../../ir/ops.js';
import { Tensor } from '../../tensor/tensor.js';
import { attributeType, readAttributes } from './attributes.js';
import { OnnxNode } from './origin.js';
import {
  type AttributeProto,
  attributeTypes,
  type GraphProto,
  type NodeProto,
  standardDomain,
  type TypeProto,
  toBigInt,
  toNumber,
  type ValueInfoProto,
} from './schema.js';
import { capturedNames, declaredTypes } from './subgraph.js';
import { dtypeName, dtypeOf, type ExternalData, isSupported, maxRank, readTensor } from './tensors.js';

/** Most elements that the static dimensions of a graph input may multiply to. */
const maxElements = 2 ** 31 - 1;

interface BuildOptions {
  externalData?: ExternalData;
  /** Most elements of all initializers together. */
  maxParameters: number;
}

/** Who makes each name of the file, and the node names given so far. */
class Names {
  private readonly makers = new Map<string, string>();
  private readonly nodes = new Set<string>();
  /** Where the search for a free number after a node name goes on. */
  private readonly counters = new Map<string, number>();

  define(name: string, maker: string): void {
    const before = this.makers.get(name);
    if (name === '') throw new OctetError('MODEL_INVALID', `One ${maker} has no name.`);
    if (before)
      throw new OctetError('MODEL_INVALID', `The tensor "${name}" is made twice: as ${before} and as ${maker}.`, { tensor: name });
    this.makers.set(name, maker);
  }

  isInitializer(name: string): boolean {
    return this.makers.get(name) === 'initializer';
  }

  /** A tensor name that the file does not use. */
  unused(wish: string): string {
    let name = wish;
    for (let i = 1; this.makers.has(name); i++) name = `${wish}_${i}`;
    this.makers.set(name, 'omitted output');
    return name;
  }

  /** The node's name in the graph: the file's, or its first output where that is empty or taken. */
  node(proto: NodeProto): string {
    const wish = proto.name || proto.output?.find((output) => output !== '') || proto.opType || 'node';
    let name = wish;
    let i = this.counters.get(wish) ?? 1;
    while (this.nodes.has(name)) name = `${wish}_${i++}`;
    this.counters.set(wish, i);
    this.nodes.add(name);
    return name;
  }
}

interface Made {
  node: Node;
  /** Names of all inputs, those captured by subgraphs last. */
  inputs: readonly string[];
}

/**
 * GraphProto (in the forms of opset 18) → Graph. Names are those of the file; nodes are put in topological order.
 * Throws MODEL_INVALID, MODEL_CYCLIC, MODEL_MISSING_TENSOR, MODEL_SHAPE, MODEL_DTYPE, MODEL_EXTERNAL_DATA, MODEL_INPUTS_UNSUPPORTED, MODEL_TOO_LARGE.
 */
export function buildGraph(proto: GraphProto, options: BuildOptions): Graph {
  const graph = new Graph(proto.name || 'graph');
  if (proto.sparseInitializer?.length)
    throw new OctetError('MODEL_INVALID', 'The model holds sparse initializers.', {}, { hint: 'Export the model with dense weights.' });
  const names = new Names();
  const values = new Map<string, Value>();
  const constants = readInitializers(graph, proto, names, values, options);
  for (const input of proto.input ?? []) {
    const name = input.name ?? '';
    // Up to IR version 3 every initializer is listed as an input as well.
    if (names.isInitializer(name)) continue;
    names.define(name, 'graph input');
    values.set(name, graph.input(name, inputType(input.type, name)));
  }
  const nodes = proto.node ?? [];
  for (const node of nodes)
    for (const output of node.output ?? []) if (output !== '') names.define(output, `output of ${node.opType} node "${node.name ?? ''}"`);
  const made: Made[] = [];
  for (const node of [...constants, ...nodes]) {
    const result = makeNode(graph, node, names, values);
    if (result) made.push(result);
  }
  for (const { node, inputs } of made) connect(node, inputs, values);
  for (const info of proto.valueInfo ?? []) hint(values.get(info.name ?? ''), info);
  const symbols = inputSymbols(graph);
  for (const node of nodes) {
    for (const [port, type] of declaredTypes(node).entries()) {
      const name = node.output?.[port] ?? '';
      if (type) hint(values.get(name), { name, type: onlySymbols(type, symbols) });
    }
  }
  readOutputs(graph, proto, values);
  countParameters(values, options.maxParameters);
  if (!graph.sort()) {
    const node = nodeOnCycle(graph.nodes);
    throw new OctetError(
      'MODEL_CYCLIC',
      `${node.opName} node "${node.name}" reads, through other nodes, its own output "${node.outputs[0]?.name ?? ''}".`,
      { node: node.name, op: node.opName },
    );
  }
  return graph;
}

/** Initializers become constants; those of an element type without arrays become Constant nodes, which are returned. */
function readInitializers(graph: Graph, proto: GraphProto, names: Names, values: Map<string, Value>, options: BuildOptions): NodeProto[] {
  const nodes: NodeProto[] = [];
  for (const tensor of proto.initializer ?? []) {
    const name = tensor.name ?? '';
    names.define(name, 'initializer');
    if (!isSupported(tensor, name)) {
      if ((tensor.dataLocation ?? 0) === 1)
        throw new OctetError(
          'MODEL_EXTERNAL_DATA',
          `Tensor "${name}" of type ${dtypeName(tensor.dataType ?? 0)} cannot be read from external data.`,
          { tensor: name },
        );
      nodes.push({ opType: 'Constant', name, output: [name], attribute: [{ name: 'value', type: attributeTypes.tensor, t: tensor }] });
      continue;
    }
    const constant = readTensor(tensor, name, options.externalData);
    values.set(name, graph.constant(name, constant));
  }
  return nodes;
}

function countParameters(values: ReadonlyMap<string, Value>, most: number): void {
  let parameters = 0;
  for (const { name, constant } of values.values()) {
    parameters += constant?.size ?? 0;
    if (parameters > most) throw new OctetError('MODEL_TOO_LARGE', `The model has more than ${most} parameters.`, { tensor: name });
  }
}

function readOutputs(graph: Graph, proto: GraphProto, values: ReadonlyMap<string, Value>): void {
  const seen = new Set<Value>();
  for (const info of proto.output ?? []) {
    const name = info.name ?? '';
    const value = values.get(name);
    if (!value) throw new OctetError('MODEL_MISSING_TENSOR', `The graph output "${name}" is made by no node.`, { tensor: name });
    if (seen.has(value)) throw new OctetError('MODEL_INVALID', `The graph lists the output "${name}" twice.`, { tensor: name });
    seen.add(value);
    hint(value, info);
    graph.outputs.push(value);
  }
  if (seen.size === 0) throw new OctetError('MODEL_INVALID', 'The graph has no outputs.');
}

/** A node with its outputs; a Constant node becomes a constant and gives nothing. */
function makeNode(graph: Graph, proto: NodeProto, names: Names, values: Map<string, Value>): Made | undefined {
  const opType = proto.opType ?? '';
  const name = names.node(proto);
  const place = { node: name, op: opType };
  if (opType === '') throw new OctetError('MODEL_INVALID', `Node "${name}" has no operator type.`, place);
  const attributes = proto.attribute ?? [];
  for (const attribute of attributes) {
    attributeType(attribute, name);
    if (attribute.refAttrName)
      throw new OctetError(
        'MODEL_INVALID',
        `Attribute "${attribute.name}" of node "${name}" refers to a function's attribute outside of a function.`,
        place,
      );
  }
  if (new Set(attributes.map((attribute) => attribute.name)).size !== attributes.length)
    throw new OctetError('MODEL_INVALID', `${opType} node "${name}" has an attribute twice.`, place);
  const inputs = trimmed(proto.input ?? []);
  const outputs = trimmed(proto.output ?? []);
  const domain = standardDomain(proto.domain);
  const isTyped = isOpType(opType) && domain === (spec(opType).domain ?? '');
  if (isTyped) checkArity(opType, inputs, outputs, name);
  if (isTyped && opType === 'Constant') {
    const constant = constantOf(attributes, name);
    if (constant) {
      const output = outputs[0] as string;
      values.set(output, graph.constant(output, constant));
      return undefined;
    }
  }
  const attrs = isTyped && opType !== 'Constant' ? readAttributes(opType, attributes, name) : undefined;
  const captured = attrs ? [] : capturedNames(proto);
  const op: OpType = attrs ? (opType as OpType) : 'Opaque';
  const outputNames = outputs.map((output, port) => output || names.unused(`${name}_unused_${port}`));
  const node = graph.node(op, [], (attrs ?? {}) as Attrs<OpType>, { name, outputNames });
  if (!attrs) node.opaque = { opType, domain, proto: new OnnxNode(proto, captured), ownInputs: inputs.length };
  for (const value of node.outputs) values.set(value.name, value);
  return { node, inputs: [...inputs, ...captured] };
}

function checkArity(op: OpType, inputs: readonly string[], outputs: readonly string[], name: string): void {
  const facts = spec(op);
  const [least, most] = facts.inputs;
  const [leastOut, mostOut] = facts.outputs ?? [1, 1];
  const place = { node: name, op };
  if (inputs.length < least || inputs.length > most) {
    throw new OctetError(
      'MODEL_INVALID',
      `${op} node "${name}" has ${inputs.length} inputs, and ${op} takes ${least === most ? least : most === Number.POSITIVE_INFINITY ? `at least ${least}` : `${least} to ${most}`}.`,
      place,
    );
  }
  const missing = inputs.slice(0, least).indexOf('');
  if (missing >= 0)
    throw new OctetError('MODEL_INVALID', `${op} node "${name}" leaves out its input ${missing}, which ${op} needs.`, place);
  if (outputs.length < leastOut || outputs.length > mostOut)
    throw new OctetError(
      'MODEL_INVALID',
      `${op} node "${name}" has ${outputs.length} outputs, and ${op} gives ${leastOut === mostOut ? leastOut : `${leastOut} to ${mostOut}`}.`,
      place,
    );
}

/** The tensor that a Constant node holds, in any of its forms; undefined for forms without arrays (strings, sparse). */
function constantOf(attributes: readonly AttributeProto[], node: string): Tensor | undefined {
  const [attribute] = attributes;
  if (!attribute || attributes.length !== 1)
    throw new OctetError('MODEL_INVALID', `Constant node "${node}" must have exactly one attribute, and has ${attributes.length}.`, {
      node,
      op: 'Constant',
    });
  switch (attribute.name) {
    case 'value':
      return attribute.t && isSupported(attribute.t, node) ? readTensor(attribute.t, node) : undefined;
    case 'value_float':
      return Tensor.scalar(attribute.f ?? 0);
    case 'value_floats':
      return Tensor.float32([attribute.floats?.length ?? 0], attribute.floats ?? []);
    case 'value_int':
      return new Tensor('int64', [], BigInt64Array.of(toBigInt(attribute.i ?? 0)));
    case 'value_ints':
      return new Tensor('int64', [attribute.ints?.length ?? 0], BigInt64Array.from(attribute.ints ?? [], toBigInt));
    default:
      return undefined;
  }
}

function connect(node: Node, inputs: readonly string[], values: ReadonlyMap<string, Value>): void {
  node.setInputs(
    inputs.map((name) => {
      if (name === '') return undefined;
      const value = values.get(name);
      if (!value) {
        throw new OctetError(
          'MODEL_MISSING_TENSOR',
          `${node.opName} node "${node.name}" reads "${name}", which is neither an input, nor an initializer, nor the output of a node.`,
          { node: node.name, op: node.opName, tensor: name },
        );
      }
      // Before opset 13 a Resize cannot leave out what it does not use, and many exporters still write it empty.
      if (node.op === 'Resize' && value.constant?.size === 0) return undefined;
      return value;
    }),
  );
}

function trimmed(names: readonly string[]): readonly string[] {
  let length = names.length;
  while (length > 0 && names[length - 1] === '') length--;
  return names.slice(0, length);
}

/** The type of a graph input: a tensor of a known element type with possible dimensions. */
function inputType(type: TypeProto | undefined, name: string): ValueType {
  if (!type?.tensorType) throw new OctetError('MODEL_INPUTS_UNSUPPORTED', `The graph input "${name}" is not a tensor.`, { tensor: name });
  const dtype = dtypeOf(type.tensorType.elemType ?? 0);
  if (!dtype) {
    const number = type.tensorType.elemType ?? 0;
    throw new OctetError(
      'MODEL_DTYPE',
      `The graph input "${name}" has the element type ${dtypeName(number) ?? `number ${number}`}, which Octet cannot feed.`,
      { tensor: name },
    );
  }
  const rank = type.tensorType.shape?.dim?.length ?? 0;
  if (rank > maxRank)
    throw new OctetError('MODEL_SHAPE', `The graph input "${name}" has ${rank} dimensions, more than ${maxRank}.`, { tensor: name });
  const shape = dimensions(type, name);
  let size = 1;
  for (const dim of shape ?? []) {
    if (typeof dim !== 'number') continue;
    size *= dim;
    if (dim <= 0)
      throw new OctetError(
        'MODEL_SHAPE',
        `The graph input "${name}" has the dimension ${dim} in its shape [${shape}].`,
        { tensor: name },
        { hint: 'Give dimensions that vary a name (dim_param) and all others a positive size.' },
      );
    if (size > maxElements)
      throw new OctetError(
        'MODEL_SHAPE',
        `The graph input "${name}" has the shape [${shape}], more than ${maxElements} elements a sample.`,
        { tensor: name },
      );
  }
  return { dtype, ...(shape ? { shape } : {}) };
}

/** Dimensions as numbers and names; one that is neither gets a name of its own. So do -1 and "?", which older exporters (paddle2onnx) write for any size. */
function dimensions(type: TypeProto, name: string): Dim[] | undefined {
  return (
    type.tensorType?.shape &&
    (type.tensorType.shape.dim ?? []).map(({ dimValue, dimParam }, axis) => {
      const size = dimValue === undefined ? -1 : toNumber(dimValue);
      if (size >= 0) return size;
      return dimParam && dimParam !== '?' ? dimParam : `${name}_d${axis}`;
    })
  );
}

/** A type without the names of dimensions that are not among these. */
function onlySymbols(type: TypeProto, symbols: Readonly<Record<string, number>>): TypeProto {
  const tensor = type.tensorType;
  if (!tensor?.shape) return type;
  const dim = (tensor.shape.dim ?? []).map((one) => (one.dimParam && !Object.hasOwn(symbols, one.dimParam) ? {} : one));
  return { tensorType: { ...tensor, shape: { dim } } };
}

/** Take over the type a file claims for a value, where it is a possible one; a later claim fills what earlier ones left open. */
function hint(value: Value | undefined, info: ValueInfoProto): void {
  const dtype = dtypeOf(info.type?.tensorType?.elemType ?? 0);
  if (!value?.producer || !dtype || !info.type) return;
  const claimed = dimensions(info.type, value.name);
  const shape = claimed?.every((dim) => typeof dim === 'string' || (dim > 0 && dim <= maxElements)) ? claimed : undefined;
  const before = value.declared;
  if (!before) value.declared = { dtype, ...(shape ? { shape } : {}) };
  else if (before.dtype === dtype && shape) {
    const merged =
      before.shape?.length === shape.length
        ? before.shape.map((dim, axis) => better(dim, shape[axis] as Dim, value.name, axis))
        : before.shape;
    value.declared = { dtype, shape: merged ?? shape };
  }
  value.type = value.declared;
}

/** Of two claims for a dimension, the one that says something. */
const better = (dim: Dim, other: Dim, name: string, axis: number): Dim => (dim === `${name}_d${axis}` ? other : dim);

/** Any node that reaches itself by going from inputs to their producers. */
function nodeOnCycle(nodes: readonly Node[]): Node {
  const state = new Map<Node, 'open' | 'done'>();
  for (const start of nodes) {
    const path: { node: Node; next: number }[] = state.has(start) ? [] : [{ node: start, next: 0 }];
    while (path.length > 0) {
      const top = path[path.length - 1] as { node: Node; next: number };
      state.set(top.node, 'open');
      if (top.next >= top.node.inputs.length) {
        state.set(top.node, 'done');
        path.pop();
        continue;
      }
      const producer = top.node.inputs[top.next++]?.producer;
      if (!producer || state.get(producer) === 'done') continue;
      if (state.get(producer) === 'open') return producer;
      path.push({ node: producer, next: 0 });
    }
  }
  return nodes[0] as Node;
}
