import type * as Ort from 'onnxruntime-node';
import { copyNode } from '../../ir/extract.js';
import { Graph, type Node, type Value } from '../../ir/graph.js';

/**
 * ONNX Runtime loads a graph in a time that grows with the square of its nodes: larger ones are cut into parts that are loaded one by one. (28,000
 * nodes of one chain: 49 s of one core in one session, 7 s in fifteen.)
 */
export const usualCut = { whole: 8000, part: 2000 };
/** Nodes this near to the inputs, weights on their way to a layer, are computed in the part that reads them. */
const nearInputs = 6;

/** The parts of a graph, in their order; the graph itself when it is small. */
export function cutGraph(graph: Graph, { whole, part: most } = usualCut): Graph[] {
  if (graph.nodes.length <= whole) return [graph];
  const nodes = lateStarts(graph);
  const ends = cutPositions(graph, nodes, most);
  return ends.map((end, i) => partOf(graph, nodes, i ? (ends[i - 1] as number) : 0, end));
}

/** The nodes in their order, but those near the inputs only where they are first needed. */
function lateStarts(graph: Graph): Node[] {
  const depths = new Map<Node, number>();
  for (const node of graph.nodes) {
    const before = node.inputs.map((value) => (value?.producer ? (depths.get(value.producer) as number) : 0));
    depths.set(node, 1 + before.reduce((a, b) => Math.max(a, b), 0));
  }
  const placed = new Set<Node>();
  const order: Node[] = [];
  const place = (node: Node): void => {
    if (placed.has(node)) return;
    placed.add(node);
    for (const value of node.inputs) if (value?.producer) place(value.producer);
    order.push(node);
  };
  const late = (node: Node) => (depths.get(node) as number) <= nearInputs;
  for (const node of graph.nodes) if (!late(node)) place(node);
  for (const node of graph.nodes) place(node);
  return order;
}

/** Ends of parts of at most `most` nodes, each where the fewest values cross from one part to the next, in the second half of what it may take. */
function cutPositions(graph: Graph, nodes: readonly Node[], most: number): number[] {
  const index = new Map(nodes.map((node, i) => [node, i]));
  const kept = new Set(graph.outputs);
  // How many values are alive after each node: written at it or before, read after it.
  const change = new Int32Array(nodes.length + 1);
  for (const [i, node] of nodes.entries()) {
    for (const value of node.outputs) {
      const last = value.readers.reduce((at, reader) => Math.max(at, index.get(reader) as number), i);
      if (last === i || kept.has(value)) continue;
      change[i] = (change[i] as number) + 1;
      change[last] = (change[last] as number) - 1;
    }
  }
  const alive = new Int32Array(nodes.length);
  for (let i = 0, now = 0; i < nodes.length; i++) {
    now += change[i] as number;
    alive[i] = now;
  }
  const ends: number[] = [];
  for (let start = 0; start < nodes.length; ) {
    let end = Math.min(nodes.length, start + most);
    if (end < nodes.length)
      for (let at = end - 1; at > start + most / 2; at--) if ((alive[at - 1] as number) < (alive[end - 1] as number)) end = at;
    ends.push(end);
    start = end;
  }
  return ends;
}

/** Nodes `from … to` as a graph whose inputs and outputs have the names they have in the whole one. */
function partOf(graph: Graph, nodes: readonly Node[], from: number, to: number): Graph {
  const piece = new Graph(graph.name);
  piece.opset = graph.opset;
  piece.origin = graph.origin;
  const own = nodes.slice(from, to);
  const inside = new Set(own);
  const twins = new Map<Value, Value>();
  const kept = new Set(graph.outputs);
  for (const node of own) {
    for (const value of node.inputs) {
      if (!value || twins.has(value)) continue;
      const type = value.type ?? { dtype: 'float32' };
      twins.set(value, value.constant ? piece.constant(value.name, value.constant) : piece.input(value.name, type));
    }
    piece.nodes.push(copyNode(piece, node, twins));
    for (const value of node.outputs)
      if (kept.has(value) || value.readers.some((reader) => !inside.has(reader))) piece.outputs.push(twins.get(value) as Value);
  }
  return piece;
}

type Tensors = Readonly<Record<string, Ort.Tensor>>;
type Fetches = Readonly<Record<string, Ort.Tensor | null>>;

/** What a program needs of a session. */
export interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** Of a session of a whole model, which may have outputs that are no tensors. */
  readonly outputMetadata?: readonly { readonly name: string; readonly isTensor: boolean }[];
  run(feeds: Tensors, fetches: Fetches): Promise<Tensors>;
  release(): Promise<void>;
  endProfiling(): void;
}

/** Sessions of the parts of a graph as one. */
export class PartedSession implements Session {
  readonly inputNames: readonly string[];

  constructor(
    private readonly parts: readonly Session[],
    readonly outputNames: readonly string[],
  ) {
    this.inputNames = parts.flatMap((session) => session.inputNames);
  }

  async run(feeds: Tensors, fetches: Fetches): Promise<Tensors> {
    const values = new Map(Object.entries(feeds));
    const uses = new Map<string, number>();
    for (const name of this.inputNames) uses.set(name, (uses.get(name) ?? 0) + 1);
    const results: Record<string, Ort.Tensor> = {};
    for (const session of this.parts) {
      const given = Object.fromEntries(session.inputNames.map((name) => [name, values.get(name) as Ort.Tensor]));
      const found = await session.run(given, Object.fromEntries(session.outputNames.map((name) => [name, fetches[name] ?? null])));
      // What no later part reads is let go.
      for (const name of session.inputNames) {
        const left = (uses.get(name) as number) - 1;
        uses.set(name, left);
        if (left === 0) values.delete(name);
      }
      for (const [name, tensor] of Object.entries(found)) {
        if (uses.get(name)) values.set(name, tensor);
        if (name in fetches) results[name] = tensor;
      }
    }
    return Object.fromEntries(this.outputNames.map((name) => [name, results[name] as Ort.Tensor]));
  }

  async release(): Promise<void> {
    for (const session of this.parts) await session.release();
  }

  endProfiling(): void {
    for (const session of this.parts) session.endProfiling();
  }
}
