import { OctetError } from '../../errors.js';
import { defaultLimits, type Limits } from '../../events.js';
import type { Graph } from '../../ir/graph.js';
import { buildGraph } from './build.js';
import { checkConstants } from './check.js';
import { expandGraph } from './expand.js';
import { checkFinite } from './finite.js';
import { inlineFunctions } from './functions.js';
import { OnnxOrigin } from './origin.js';
import {
  decode,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type OpsetProto,
  standardDomain,
  toNumber,
  type ValueInfoProto,
} from './schema.js';
import { subgraphs } from './subgraph.js';
import { type ExternalData, externalLocation } from './tensors.js';
import { upgradeGraph } from './upgrade.js';
import { checkWire } from './wire.js';

/** Oldest opset that is upgraded, and the newest that ONNX Runtime 1.30 runs. */
export const oldestOpset = 7;
export const newestOpset = 26;

/** The op table is written in the forms of this opset. */
const tableOpset = 18;

/** Domains whose operators ONNX Runtime brings along. */
const runnableDomains: ReadonlySet<string> = new Set(['', 'com.microsoft', 'ai.onnx.ml']);

/** Fields of all messages allowed for each node that the limits allow: names, attributes, and their numbers. */
const fieldsPerNode = 40;

export interface OnnxSource {
  /** Name and version of the writer. */
  producer: string;
  irVersion: number;
  /** Opset of ai.onnx in the file. */
  opset: number;
  /** Operator → count, as in the file with its functions written out; with the domain in front where it is not ai.onnx. */
  ops: Record<string, number>;
  nodes: number;
  /** metadata_props of the file. */
  metadata: Readonly<Record<string, string>>;
}

/** A decoded file, before its graph is built. */
export interface ParsedModel {
  model: ModelProto & { graph: GraphProto };
  source: OnnxSource;
  /** Opset of ai.onnx that the graph is written in, with its functions in it. */
  opset: number;
  /** Locations of external data that its initializers name. */
  locations: readonly string[];
}

/**
 * Bytes of an ONNX ModelProto → Graph in the forms of opset 18 (or of the file's opset, if that is newer).
 * Tensors are views of `bytes` where alignment allows: do not write to it afterwards.
 * Throws an OctetError with a MODEL_… code for anything that is not a sound model.
 */
export function readOnnx(bytes: Uint8Array, options: { limits?: Limits; externalData?: ExternalData } = {}): Graph {
  const limits = options.limits ?? defaultLimits;
  return buildModel(parseOnnx(bytes, limits), limits, options.externalData);
}

/** Decode and check what can be told before weights are looked at. */
export function parseOnnx(bytes: Uint8Array, limits: Limits): ParsedModel {
  return guarded(() => parse(bytes, limits));
}

function parse(bytes: Uint8Array, limits: Limits): ParsedModel {
  if (bytes.length > limits.modelBytes)
    throw new OctetError('MODEL_TOO_LARGE', `The model has ${bytes.length} bytes, and ${limits.modelBytes} are allowed.`);
  checkWire(bytes, { fields: Math.max(10_000, limits.modelNodes * fieldsPerNode) });
  let model: ModelProto;
  try {
    model = decode('Model', bytes);
  } catch (error) {
    throw new OctetError(
      'MODEL_TRUNCATED',
      `The file cannot be decoded: ${error instanceof Error ? error.message : String(error)}.`,
      {},
      { cause: error },
    );
  }
  const { graph } = model;
  const irVersion = toNumber(model.irVersion);
  if (!graph || irVersion < 1)
    throw new OctetError('MODEL_NOT_ONNX', graph ? 'The file has no IR version.' : 'The file has no graph in it.');
  // Since IR version 3 the import is required; it comes after the graph, and is the first thing lost.
  if (irVersion >= 3 && !model.opsetImport)
    throw new OctetError('MODEL_TRUNCATED', 'The model imports no opset; the end of the file is missing.');
  const opset = opsetOf(model.opsetImport ?? []);
  const { $unknowns } = model;
  const whole = { ...model, graph, ...($unknowns ? { $unknowns } : {}) };
  const opsetWritten = inlineFunctions(whole, { opset, tableOpset, mostNodes: limits.modelNodes });
  const nodes = graph.node ?? [];
  const all = countNodes(nodes);
  if (all > limits.modelNodes) throw new OctetError('MODEL_TOO_LARGE', `The model has ${all} nodes, and ${limits.modelNodes} are allowed.`);
  checkDomains(nodes);
  const ops = new Map<string, number>();
  for (const node of nodes) {
    const domain = standardDomain(node.domain);
    const op = `${domain}${domain && '.'}${node.opType ?? ''}`;
    ops.set(op, (ops.get(op) ?? 0) + 1);
  }
  const locations = new Set<string>();
  for (const tensor of graph.initializer ?? [])
    if ((tensor.dataLocation ?? 0) === 1) locations.add(externalLocation(tensor, tensor.name ?? ''));
  const source = {
    producer: [model.producerName, model.producerVersion].filter(Boolean).join(' '),
    irVersion,
    opset,
    ops: Object.fromEntries(ops),
    nodes: nodes.length,
    metadata: Object.fromEntries((model.metadataProps ?? []).map(({ key, value }) => [key ?? '', value ?? ''])),
  };
  return { model: whole, source, opset: opsetWritten, locations: [...locations] };
}

/** Upgrade, build and check the graph of a decoded model, which is used up by it. */
export function buildModel(parsed: ParsedModel, limits: Limits, externalData?: ExternalData): Graph {
  return guarded(() => build(parsed, limits, externalData));
}

/** What no check foresees is still the file's fault. */
function guarded<T>(step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (error instanceof OctetError) throw error;
    throw new OctetError(
      'MODEL_INVALID',
      `The model cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
      {},
      { cause: error },
    );
  }
}

function build(parsed: ParsedModel, limits: Limits, externalData?: ExternalData): Graph {
  const { model, opset } = parsed;
  const origin = originOf(model);
  if (opset < tableOpset) upgradeGraph(model.graph, opset);
  expandGraph(model.graph, Math.max(tableOpset, opset));
  const graph = buildGraph(model.graph, { maxParameters: limits.modelParameters, ...(externalData ? { externalData } : {}) });
  checkConstants(graph);
  checkFinite(graph);
  graph.opset = Math.max(tableOpset, opset);
  graph.origin = origin;
  return graph;
}

function opsetOf(imports: readonly OpsetProto[]): number {
  const versions = new Set(imports.filter(({ domain }) => standardDomain(domain) === '').map(({ version }) => toNumber(version)));
  if (versions.size > 1) throw new OctetError('MODEL_INVALID', `The model imports ai.onnx with the opsets ${[...versions].join(' and ')}.`);
  if (versions.size === 0)
    throw new OctetError('MODEL_OPSET_UNSUPPORTED', 'The model imports no opset of ai.onnx, the standard operators.');
  const [opset = 0] = versions;
  if (!(opset >= oldestOpset && opset <= newestOpset))
    throw new OctetError(
      'MODEL_OPSET_UNSUPPORTED',
      `The model is of opset ${opset}, and opsets ${oldestOpset} to ${newestOpset} can be read.`,
    );
  return opset;
}

function countNodes(nodes: readonly NodeProto[]): number {
  let count = nodes.length;
  for (const node of nodes) for (const graph of subgraphs(node)) count += countNodes(graph.node ?? []);
  return count;
}

/** What helps with operators of a domain that the runtime does not have. */
function waysOut(domain: string): { hint?: string } {
  if (domain === 'com.microsoft.extensions' || domain === 'ai.onnx.contrib')
    return {
      hint: 'Operators of onnxruntime-extensions (decoding of images, tokenizers) come before and after a network. Send the network without them, and the samples as it takes them.',
    };
  // Written with every optimization on, a file holds kernels of one kind of processor.
  return domain.startsWith('com.microsoft.')
    ? { hint: 'The file was saved by the optimizer of ONNX Runtime. Send the model it was made from.' }
    : {};
}

/** Every operator is of a domain that the runtime has. (Functions of the model are written out by now.) */
function checkDomains(nodes: readonly NodeProto[]): void {
  const check = (node: NodeProto): void => {
    const domain = standardDomain(node.domain);
    const name = node.name || node.output?.[0] || '';
    if (!runnableDomains.has(domain)) {
      throw new OctetError(
        'MODEL_UNSUPPORTED_OP',
        `Node "${name}" is a ${node.opType} of the domain "${domain}", which ONNX Runtime does not have.`,
        { node: name, op: node.opType ?? '' },
        waysOut(domain),
      );
    }
    for (const graph of subgraphs(node)) graph.node?.forEach(check);
  };
  nodes.forEach(check);
}

function originOf(model: ModelProto & { graph: GraphProto }): OnnxOrigin {
  const { producerName, producerVersion, domain, docString, metadataProps, $unknowns, graph } = model;
  const kept = (message: { docString?: string; $unknowns?: Uint8Array[] }) => ({
    ...(message.docString ? { docString: message.docString } : {}),
    ...(message.$unknowns ? { $unknowns: message.$unknowns } : {}),
  });
  const infos = new Map<string, ValueInfoProto>([...(graph.input ?? []), ...(graph.output ?? [])].map((info) => [info.name ?? '', info]));
  const nodes = new Map(
    (graph.node ?? []).filter((node) => node.name && (node.docString || node.$unknowns)).map((node) => [node.name as string, kept(node)]),
  );
  const imports = (model.opsetImport ?? [])
    .filter((entry) => standardDomain(entry.domain) !== '')
    .map((entry) => ({ domain: entry.domain as string, version: toNumber(entry.version) }));
  return new OnnxOrigin(
    {
      ...(producerName ? { producerName } : {}),
      ...(producerVersion ? { producerVersion } : {}),
      ...(domain ? { domain } : {}),
      ...(model.modelVersion === undefined ? {} : { modelVersion: toNumber(model.modelVersion) }),
      ...(docString ? { docString } : {}),
      ...(metadataProps ? { metadataProps } : {}),
      ...($unknowns ? { $unknowns } : {}),
    },
    { ...kept(graph), ...(graph.quantizationAnnotation ? { quantizationAnnotation: graph.quantizationAnnotation } : {}) },
    imports,
    infos,
    nodes,
  );
}
