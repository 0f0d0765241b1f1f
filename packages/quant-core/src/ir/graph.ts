import type { DType } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { type AttributeValue, type Attrs, type OpType, type ReadAttrs, spec } from './ops.js';

/** A dimension: a number, or the name of a size known only when the model runs (`'N'` for the batch). */
export type Dim = number | string;

export interface ValueType {
  dtype: DType;
  /** Absent when the rank is unknown. */
  shape?: readonly Dim[];
}

/** One tensor in a graph: a graph input, a constant, or an output of a node. Edges are references to it. */
export class Value {
  type: ValueType | undefined;
  /** What the file says of it, or the runtime infers. Shape inference takes from here what it cannot tell by its own rules. */
  declared: ValueType | undefined;
  /** Set for constants (initializers). */
  constant: Tensor | undefined;
  /** The node that writes it; absent for inputs and constants. */
  producer: Node | undefined;
  /** Which output of the producer it is. */
  port = 0;
  /** Nodes that read it, each once for every port. Maintained by Node and Graph. */
  readonly readers: Node[] = [];

  constructor(
    /** For people and files; unique inside its graph. */
    public name: string,
    type?: ValueType,
  ) {
    this.type = type;
  }

  get dtype(): DType | undefined {
    return this.type?.dtype;
  }

  get shape(): readonly Dim[] | undefined {
    return this.type?.shape;
  }
}

/** What the format door keeps of a node outside the op list, so that it is written back as it came. */
export interface OpaqueSource {
  opType: string;
  domain: string;
  /** The node as the format's own object. */
  proto: unknown;
  /** The first so many inputs are the node's own; the rest are values its subgraphs capture. */
  ownInputs: number;
}

/** One operation. Inputs are references; an omitted optional input is `undefined`. */
export class Node<out K extends OpType = OpType> {
  readonly inputs: (Value | undefined)[] = [];
  readonly outputs: Value[] = [];
  /** Only for `Opaque`. */
  opaque: OpaqueSource | undefined;

  constructor(
    readonly op: K,
    public name: string,
    public attrs: Attrs<K>,
  ) {}

  /** Whether it is of one of the ops. */
  is<T extends OpType>(...ops: readonly T[]): this is Node<T> {
    return (ops as readonly OpType[]).includes(this.op);
  }

  /** The value of an attribute, or its default. */
  attr<A extends keyof ReadAttrs<K> & string>(name: A): ReadAttrs<K>[A] {
    const own = (this.attrs as Record<string, AttributeValue>)[name];
    return (own ?? spec(this.op).attrs?.[name]?.d) as ReadAttrs<K>[A];
  }

  /** The operator's name in the user's words (`Opaque` shows what it was). */
  get opName(): string {
    return this.opaque?.opType ?? this.op;
  }

  /** Input at `port`; throws when it is absent. */
  input(port: number): Value {
    const value = this.inputs[port];
    if (!value) throw new Error(`${this.op} ${this.name} has no input ${port}`);
    return value;
  }

  /** First (or `port`-th) output. */
  output(port = 0): Value {
    const value = this.outputs[port];
    if (!value) throw new Error(`${this.op} ${this.name} has no output ${port}`);
    return value;
  }

  setInput(port: number, value: Value | undefined): void {
    const before = this.inputs[port];
    if (before) before.readers.splice(before.readers.indexOf(this), 1);
    while (this.inputs.length <= port) this.inputs.push(undefined);
    this.inputs[port] = value;
    value?.readers.push(this);
  }

  /** Replace the whole list of inputs. */
  setInputs(values: readonly (Value | undefined)[]): void {
    for (let port = 0; port < this.inputs.length; port++) this.setInput(port, undefined);
    this.inputs.length = 0;
    for (const [port, value] of values.entries()) this.setInput(port, value);
  }
}

/** Changes of the node list noted during `Graph.batch`. */
interface Pending {
  before: Map<Node, Node[]>;
  removed: Set<Node>;
}

/** A directed acyclic graph of nodes in topological order. */
export class Graph {
  readonly inputs: Value[] = [];
  readonly outputs: Value[] = [];
  /** Topologically ordered: a node comes after everything it reads. */
  nodes: Node[] = [];
  /** Opset of ai.onnx the graph is written in (18 or newer). */
  opset = 18;
  /** Whatever the format door wants back when the graph is written (metadata, doc strings, other domains). */
  origin: unknown;
  private readonly names = new Set<string>();
  /** Where the search for a free number after a name goes on. */
  private readonly counters = new Map<string, number>();
  private pending: Pending | undefined;

  constructor(public name = 'graph') {}

  /** A name not used yet, starting with `wish`. */
  freshName(wish: string): string {
    const base = wish || 'value';
    let name = base;
    if (this.names.has(name)) {
      let i = this.counters.get(base) ?? 1;
      while (this.names.has(`${base}_${i}`)) i++;
      name = `${base}_${i}`;
      this.counters.set(base, i + 1);
    }
    this.names.add(name);
    return name;
  }

  input(name: string, type: ValueType): Value {
    const value = new Value(this.freshName(name), type);
    this.inputs.push(value);
    return value;
  }

  constant(name: string, tensor: Tensor): Value {
    const value = new Value(this.freshName(name), { dtype: tensor.dtype, shape: tensor.shape });
    value.constant = tensor;
    return value;
  }

  /**
   * Append a node (or insert it before `options.before`). Outputs are made here, named after the node;
   * their types are left to shape inference.
   */
  node<K extends OpType>(
    op: K,
    inputs: readonly (Value | undefined)[],
    attrs: Attrs<K> = {} as Attrs<K>,
    options: { name?: string; outputs?: number; outputNames?: readonly string[]; before?: Node } = {},
  ): Node<K> {
    const node = new Node(op, options.name ?? '', attrs);
    for (const [port, value] of inputs.entries()) node.setInput(port, value);
    const count = options.outputNames?.length ?? options.outputs ?? 1;
    for (let port = 0; port < count; port++) {
      const value = new Value(this.freshName(options.outputNames?.[port] ?? `${options.name || op}${count > 1 ? `_${port}` : ''}`));
      value.producer = node;
      value.port = port;
      node.outputs.push(value);
    }
    if (!node.name) node.name = node.outputs[0]?.name ?? op;
    this.place(node, options.before);
    return node;
  }

  private place(node: Node, before: Node | undefined): void {
    if (!before) this.nodes.push(node);
    else if (this.pending) {
      const waiting = this.pending.before.get(before);
      if (waiting) waiting.push(node);
      else this.pending.before.set(before, [node]);
    } else this.nodes.splice(this.nodes.indexOf(before), 0, node);
  }

  /**
   * Run `edit` while nodes put before others and nodes taken out are only noted; `nodes` is rebuilt once at the end.
   * `nodes` may be walked meanwhile: it still shows what was there before, and what was appended.
   */
  batch<T>(edit: () => T): T {
    if (this.pending) return edit();
    const pending: Pending = { before: new Map(), removed: new Set() };
    this.pending = pending;
    try {
      return edit();
    } finally {
      this.pending = undefined;
      if (pending.before.size > 0 || pending.removed.size > 0) {
        const nodes: Node[] = [];
        const emit = (node: Node): void => {
          pending.before.get(node)?.forEach(emit);
          if (!pending.removed.has(node)) nodes.push(node);
        };
        this.nodes.forEach(emit);
        this.nodes = nodes;
      }
    }
  }

  /**
   * Let every reader of `from`, and the graph outputs, use `to` instead. A graph output keeps its name:
   * the two values swap names, or an Identity is put between where `to` cannot be renamed.
   */
  replaceAll(from: Value, to: Value): void {
    if (from === to) return;
    for (const reader of new Set(from.readers)) {
      for (let port = 0; port < reader.inputs.length; port++) {
        if (reader.inputs[port] !== from) continue;
        reader.inputs[port] = to;
        to.readers.push(reader);
      }
    }
    from.readers.length = 0;
    to.declared ??= from.declared;
    if (!this.outputs.includes(from)) return;
    let successor = to;
    if (!to.producer || this.outputs.includes(to)) {
      successor = this.node('Identity', [to]).output();
      successor.type = to.type;
    }
    [successor.name, from.name] = [from.name, successor.name];
    this.outputs.splice(0, this.outputs.length, ...this.outputs.map((value) => (value === from ? successor : value)));
  }

  /** Take a node out. Its outputs must have no reader left. */
  remove(node: Node): void {
    node.setInputs([]);
    if (this.pending) {
      this.pending.removed.add(node);
      return;
    }
    const at = this.nodes.indexOf(node);
    if (at >= 0) this.nodes.splice(at, 1);
  }

  /** Every value once: inputs, constants that are read, node outputs; in order of appearance. */
  values(): Value[] {
    const seen = new Set<Value>(this.inputs);
    for (const node of this.nodes) {
      for (const value of node.inputs) if (value) seen.add(value);
      for (const value of node.outputs) seen.add(value);
    }
    for (const value of this.outputs) seen.add(value);
    return [...seen];
  }

  /** The constants that nodes or outputs read. */
  constants(): Value[] {
    return this.values().filter((value) => value.constant);
  }

  /** Put nodes in topological order, stable with respect to the present order. Returns false on a cycle. */
  sort(): boolean {
    const waiting = new Map<Node, number>();
    for (const node of this.nodes) waiting.set(node, new Set(node.inputs.filter((v) => v?.producer).map((v) => v?.producer)).size);
    const index = new Map(this.nodes.map((node, i) => [node, i]));
    const ready = this.nodes.filter((node) => waiting.get(node) === 0);
    const sorted: Node[] = [];
    let inOrder = true;
    for (let at = 0; at < ready.length; at++) {
      const node = ready[at] as Node;
      if (index.get(node) !== sorted.length) inOrder = false;
      sorted.push(node);
      const readers = new Set(node.outputs.flatMap((value) => value.readers));
      for (const reader of [...readers].sort((a, b) => (index.get(a) ?? 0) - (index.get(b) ?? 0))) {
        const left = (waiting.get(reader) ?? 0) - 1;
        waiting.set(reader, left);
        if (left === 0) ready.push(reader);
      }
    }
    if (sorted.length !== this.nodes.length) return false;
    if (!inOrder) this.nodes = sorted;
    return true;
  }

  /** A deep copy that shares constant tensors. `map` receives every value of this graph and its copy. */
  clone(map: Map<Value, Value> = new Map()): Graph {
    const copy = new Graph(this.name);
    copy.opset = this.opset;
    copy.origin = this.origin;
    for (const value of this.values()) {
      const twin = new Value(copy.freshName(value.name), value.type);
      twin.constant = value.constant;
      twin.declared = value.declared;
      map.set(value, twin);
    }
    const of = (value: Value) => map.get(value) as Value;
    copy.inputs.push(...this.inputs.map(of));
    for (const node of this.nodes) {
      const twin = new Node(node.op, node.name, { ...node.attrs });
      twin.opaque = node.opaque;
      for (const [port, value] of node.inputs.entries()) twin.setInput(port, value && of(value));
      for (const value of node.outputs) {
        const out = of(value);
        out.producer = twin;
        out.port = value.port;
        twin.outputs.push(out);
      }
      copy.nodes.push(twin);
    }
    copy.outputs.push(...this.outputs.map(of));
    return copy;
  }
}
