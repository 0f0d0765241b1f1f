import { OctetError } from '../../errors.js';
import { Tensor } from '../../tensor/tensor.js';
import { type AttributeProto, attributeTypes, type GraphProto, type NodeProto } from './schema.js';
import { innerNames, subgraphs } from './subgraph.js';
import { tensorProto } from './tensors.js';
import { readsOf, TypeTrace } from './trace.js';

/** What a rule may ask and make while it rewrites one node. */
export class Rewriter {
  /** Nodes that go before the one being rewritten. */
  before: NodeProto[] = [];
  /** Nodes that go after it. */
  after: NodeProto[] = [];

  constructor(
    private readonly graph: GraphProto,
    private readonly taken: Set<string>,
    readonly trace: TypeTrace,
    private readonly reads: ReadonlySet<string>,
    private readonly counters: Map<string, number>,
  ) {}

  name(wish: string): string {
    let name = wish;
    let i = this.counters.get(wish) ?? 1;
    while (this.taken.has(name)) name = `${wish}_${i++}`;
    this.counters.set(wish, i);
    this.taken.add(name);
    return name;
  }

  /** A new initializer; gives its name. */
  constant(wish: string, tensor: Tensor): string {
    const name = this.name(wish);
    const proto = tensorProto(name, tensor);
    this.graph.initializer ??= [];
    this.graph.initializer.push(proto);
    this.trace.learn(name, proto);
    return name;
  }

  /** A scalar of the element type of tensor `like` (float32 where that is not known). */
  scalar(wish: string, value: number, like: string): string {
    const name = this.constant(wish, Tensor.scalar(value));
    const type = this.trace.elementType(like);
    if (type === undefined || type === 1) return name;
    const cast = this.name(`${wish}_cast`);
    this.before.push({ opType: 'Cast', name: cast, input: [name], output: [cast], attribute: [int('to', type)] });
    return cast;
  }

  /** A node in front of the one being rewritten; gives the name of its output. */
  put(node: NodeProto, opType: string, input: readonly string[], attribute: AttributeProto[] = []): string {
    const output = this.name(`${nameOf(node)}_${opType}`);
    this.before.push({ opType, name: output, input: [...input], output: [output], attribute });
    return output;
  }

  isRead(name: string | undefined): boolean {
    return name !== undefined && name !== '' && this.reads.has(name);
  }
}

export const int = (name: string, i: number): AttributeProto => ({ name, type: attributeTypes.int, i });
export const float = (name: string, f: number): AttributeProto => ({ name, type: attributeTypes.float, f });
export const text = (name: string, value: string): AttributeProto => ({ name, type: attributeTypes.string, s: Buffer.from(value) });

/** Take an attribute off a node. */
export function take(node: NodeProto, name: string): AttributeProto | undefined {
  const found = node.attribute?.find((attribute) => attribute.name === name);
  if (found) node.attribute = (node.attribute ?? []).filter((attribute) => attribute !== found);
  return found;
}

export function setInput(node: NodeProto, port: number, name: string): void {
  const inputs = [...(node.input ?? [])];
  while (inputs.length <= port) inputs.push('');
  inputs[port] = name;
  node.input = inputs;
}

export const nameOf = (node: NodeProto) => node.name || node.output?.[0] || node.opType || 'node';

export function refuse(node: NodeProto, why: string): OctetError {
  const name = nameOf(node);
  return new OctetError(
    'MODEL_UNSUPPORTED_OP',
    `${node.opType} node "${name}" ${why}.`,
    { node: name, op: node.opType ?? '' },
    { hint: 'Export the model with opset 18.' },
  );
}

/** Changes a node in place, with what it needs before and after it. */
export type RewriteRule = (node: NodeProto, up: Rewriter) => void;

/** Apply, to every node of a graph and its subgraphs, the rules that `rulesOf` gives for it, in place. */
export function rewriteGraph(graph: GraphProto, rulesOf: (node: NodeProto) => readonly RewriteRule[]): void {
  rewrite(graph, rulesOf, new Set(innerNames({ attribute: [{ g: graph }] })), undefined);
}

function rewrite(
  graph: GraphProto,
  rulesOf: (node: NodeProto) => readonly RewriteRule[],
  taken: Set<string>,
  outer: TypeTrace | undefined,
): void {
  const trace = new TypeTrace(graph, outer);
  const reads = readsOf(graph);
  const counters = new Map<string, number>();
  const result: NodeProto[] = [];
  for (const node of graph.node ?? []) {
    for (const inner of subgraphs(node)) rewrite(inner, rulesOf, taken, trace);
    const up = new Rewriter(graph, taken, trace, reads, counters);
    for (const rule of rulesOf(node)) rule(node, up);
    for (const made of [...up.before, node, ...up.after]) {
      trace.follow(made);
      result.push(made);
    }
  }
  graph.node = result;
}
