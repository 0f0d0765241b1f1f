import { OctetError } from '../../errors.js';
import type { Graph, Node, Value, ValueType } from '../../ir/graph.js';
import { type AttributeValue, spec } from '../../ir/ops.js';
import { dtypes } from '../../tensor/dtype.js';
import type { Tensor } from '../../tensor/tensor.js';
import { attributeProtos } from './attributes.js';
import { OnnxNode, OnnxOrigin } from './origin.js';
import {
  type AttributeProto,
  encode,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TypeProto,
  toNumber,
  type ValueInfoProto,
} from './schema.js';
import { innerNames, keepUnknowns, renameInside } from './subgraph.js';
import { externalProto, tensorProto } from './tensors.js';
import type { WeightFile } from './weightFile.js';

/** A protobuf message is smaller than 2 GiB; ONNX Runtime holds to it. */
const maxBytes = 2 ** 31 - 1;

/** The IR version that came with an opset, none newer than ONNX Runtime 1.30 reads. */
function irVersionOf(opset: number): number {
  if (opset <= 18) return 8;
  if (opset <= 20) return 9;
  if (opset <= 22) return 10;
  if (opset === 23) return 11;
  return opset === 24 ? 12 : 13;
}

/**
 * Graph → bytes of an ONNX ModelProto. Constants become initializers with raw_data, Opaque nodes are written as they were read.
 * The same graph always gives the same bytes. With `weights`, large constants are laid into that file, which belongs beside the model.
 * Throws MODEL_TOO_LARGE when what stays takes 2 GiB or more.
 */
export function writeOnnx(graph: Graph, weights?: WeightFile): Uint8Array {
  const origin = graph.origin instanceof OnnxOrigin ? graph.origin : undefined;
  const names = checkNames(graph);
  const constants = new Map<string, Tensor>();
  for (const value of graph.constants()) constants.set(value.name, value.constant as Tensor);
  const nodes: NodeProto[] = [];
  for (const node of graph.nodes) {
    const tensor = node.is('Constant') ? node.attr('value') : undefined;
    if (tensor) constants.set(node.output().name, tensor);
    else nodes.push(nodeProto(node, graph, origin, names));
  }
  keepApart(nodes);
  const body: GraphProto = {
    node: nodes,
    name: graph.name || 'graph',
    input: graph.inputs.map((value) => valueInfoProto(value, origin)),
    output: graph.outputs.map((value) => valueInfoProto(value, origin)),
    ...(origin?.graph.docString ? { docString: origin.graph.docString } : {}),
  };
  // An annotation stays while every tensor that it names does.
  const annotations = (origin?.graph.quantizationAnnotation ?? []).filter(
    ({ tensorName, parameters }) => names.has(tensorName ?? '') && (parameters ?? []).every(({ value }) => names.has(value ?? '')),
  );
  if (annotations.length > 0) body.quantizationAnnotation = annotations;
  if (origin?.graph.$unknowns) body.$unknowns = origin.graph.$unknowns;
  return assemble(encode('Model', modelProto(graph, origin)), encode('Graph', body), constants, weights);
}

/** Names of all values; the same name for two of them would make another graph. */
function checkNames(graph: Graph): Set<string> {
  const names = new Set<string>();
  for (const value of graph.values()) {
    if (names.has(value.name))
      throw new OctetError('INTERNAL', `Two values of the graph are called "${value.name}".`, { tensor: value.name });
    names.add(value.name);
  }
  return names;
}

function modelProto(graph: Graph, origin: OnnxOrigin | undefined): ModelProto {
  const domains = new Map<string, number>([['', graph.opset]]);
  for (const node of graph.nodes) {
    const domain = node.opaque?.domain ?? spec(node.op).domain ?? '';
    if (domain !== '') domains.set(domain, 1);
  }
  // Imports of the file are kept: functions and subgraphs may use domains that no node at the top does.
  for (const { domain, version } of origin?.imports ?? []) domains.set(domain ?? '', Number(version ?? 1));
  const model: ModelProto = {
    irVersion: irVersionOf(graph.opset),
    producerName: 'octet',
    ...origin?.model,
    opsetImport: [...domains].map(([domain, version]) => ({ domain, version })),
  };
  if (origin?.model.$unknowns) model.$unknowns = origin.model.$unknowns;
  return model;
}

/** ONNX Runtime refuses two nodes of one name, as they come of a constant that two layers share. */
function keepApart(nodes: readonly NodeProto[]): void {
  const taken = new Set(nodes.map((node) => node.name));
  const seen = new Set<string>();
  for (const node of nodes) {
    const wish = node.name ?? '';
    let name = wish;
    if (wish !== '' && seen.has(wish)) for (let i = 1; taken.has(name); i++) name = `${wish}_${i}`;
    node.name = name;
    taken.add(name);
    seen.add(name);
  }
}

function nodeProto(node: Node, graph: Graph, origin: OnnxOrigin | undefined, names: ReadonlySet<string>): NodeProto {
  const opaque = node.opaque;
  const source = opaque?.proto instanceof OnnxNode ? opaque.proto : undefined;
  const own = opaque ? opaque.ownInputs : node.inputs.length;
  const proto: NodeProto = {
    input: trimmed(node.inputs.slice(0, own).map((value) => value?.name ?? '')),
    output: trimmed(node.outputs.map((value, port) => (mayBeLeftOut(node, port, source) && !isUsed(value, graph) ? '' : value.name))),
    name: node.name,
    opType: opaque?.opType ?? node.op,
    attribute: source ? opaqueAttributes(node, source, own, names) : attributeProtos(node.op, node.attrs as Record<string, AttributeValue>),
  };
  const domain = opaque?.domain ?? spec(node.op).domain ?? '';
  if (domain !== '') proto.domain = domain;
  const kept = source?.proto ?? origin?.nodes.get(node.name);
  if (kept?.docString) proto.docString = kept.docString;
  if (kept?.$unknowns) proto.$unknowns = kept.$unknowns;
  return proto;
}

/** An output of an operator that need not give any, or that the file left out. (BatchNormalization in training wants all of its.) */
function mayBeLeftOut(node: Node, port: number, source: OnnxNode | undefined): boolean {
  return source ? (source.proto.output?.[port] ?? '') === '' : spec(node.op).outputs?.[0] === 0;
}

const isUsed = (value: Value, graph: Graph) => value.readers.length > 0 || graph.outputs.includes(value);

/** Attributes of an Opaque node; its subgraphs follow the names that outer values have now. */
function opaqueAttributes(node: Node, source: OnnxNode, own: number, names: ReadonlySet<string>): AttributeProto[] {
  const attributes = source.proto.attribute ?? [];
  const renames = new Map<string, string>();
  source.captured.forEach((old, i) => {
    const now = node.inputs[own + i]?.name;
    if (now !== undefined && now !== old) renames.set(old, now);
  });
  // A name inside a subgraph must not hide one outside, which passes may have made since.
  const inner = innerNames(source.proto);
  const taken = new Set([...names, ...inner]);
  for (const name of new Set(inner)) {
    if (!names.has(name)) continue;
    let fresh = `${name}_inner`;
    for (let i = 1; taken.has(fresh); i++) fresh = `${name}_inner_${i}`;
    taken.add(fresh);
    renames.set(name, fresh);
  }
  return renames.size ? renameInside(attributes, renames) : attributes;
}

/** Without the empty names at the end. */
function trimmed(names: string[]): string[] {
  let length = names.length;
  while (length > 0 && names[length - 1] === '') length--;
  return names.slice(0, length);
}

function valueInfoProto(value: Value, origin: OnnxOrigin | undefined): ValueInfoProto {
  const before = origin?.valueInfo.get(value.name);
  const type = value.type && !(before?.type && saysThatMuch(before.type, value.type)) ? typeProto(value.type, before?.type) : before?.type;
  const info: ValueInfoProto = { ...before, name: value.name, ...(type ? { type } : {}) };
  return before ? keepUnknowns(before, info) : info;
}

/** Whether what the file declared holds for the type that a value has now, so that it is written as it was: with its names, and what it left open. */
function saysThatMuch({ tensorType: declared }: TypeProto, { dtype, shape }: ValueType): boolean {
  if (declared?.elemType !== dtypes[dtype].onnx) return false;
  const dims = declared.shape?.dim ?? [];
  if (!declared.shape || !shape) return !shape;
  return (
    dims.length === shape.length &&
    dims.every(({ dimValue }, axis) => dimValue === undefined || toNumber(dimValue) < 0 || toNumber(dimValue) === shape[axis])
  );
}

function typeProto(type: ValueType, before: TypeProto | undefined): TypeProto {
  const shape = type.shape && {
    dim: type.shape.map((dim, axis) => {
      const denotation = before?.tensorType?.shape?.dim?.[axis]?.denotation;
      return { ...(typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim }), ...(denotation ? { denotation } : {}) };
    }),
  };
  return {
    tensorType: { elemType: dtypes[type.dtype].onnx, ...(shape ? { shape } : {}) },
    ...(before?.denotation ? { denotation: before.denotation } : {}),
  };
}

/** Field 7 of ModelProto, field 5 of GraphProto, field 9 of TensorProto, each with a length before it. */
const graphTag = 0x3a;
const initializerTag = 0x2a;
const rawDataTag = 0x4a;

/**
 * Put the model together around its weights, each of which is copied exactly once into a buffer of the exact size.
 * Protobuf lets a message be continued by more of its fields, so initializers simply follow the rest of the graph.
 */
function assemble(model: Uint8Array, body: Uint8Array, constants: ReadonlyMap<string, Tensor>, weights?: WeightFile): Uint8Array {
  const parts: { header: Uint8Array; raw: Uint8Array | undefined; length: number }[] = [];
  let graphLength = body.length;
  for (const [name, tensor] of constants) {
    const place = weights?.place(tensor);
    const { rawData: raw, ...rest } = place ? externalProto(name, tensor, place) : tensorProto(name, tensor);
    const header = encode('Tensor', rest);
    const length = header.length + (raw ? 1 + varintLength(raw.length) + raw.length : 0);
    graphLength += 1 + varintLength(length) + length;
    parts.push({ header, raw, length });
  }
  const total = model.length + 1 + varintLength(graphLength) + graphLength;
  if (total > maxBytes)
    throw new OctetError(
      'MODEL_TOO_LARGE',
      `The model takes ${total} bytes; an ONNX file without external data holds less than ${maxBytes + 1}.`,
      {},
      { hint: 'More than 2 GiB are possible where most of it becomes int8: see docs/limits.md.' },
    );
  const bytes = Buffer.allocUnsafeSlow(total);
  let at = put(bytes, model, 0);
  at = putLength(bytes, graphTag, graphLength, at);
  at = put(bytes, body, at);
  for (const { header, raw, length } of parts) {
    at = putLength(bytes, initializerTag, length, at);
    at = put(bytes, header, at);
    if (!raw) continue;
    at = putLength(bytes, rawDataTag, raw.length, at);
    at = put(bytes, raw, at);
  }
  return bytes;
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) length++;
  return length;
}

function put(target: Uint8Array, source: Uint8Array, at: number): number {
  target.set(source, at);
  return at + source.length;
}

function putLength(target: Uint8Array, tag: number, length: number, at: number): number {
  let position = at;
  target[position++] = tag;
  let rest = length;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) target[position++] = (rest % 128) | 0x80;
  target[position++] = rest;
  return position;
}
