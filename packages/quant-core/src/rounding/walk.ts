import type { Engine, Program } from '../engine/engine.js';
import { extract } from '../ir/extract.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import type { Tensor } from '../tensor/tensor.js';

type Tensors = Readonly<Record<string, Tensor>>;

/** What one walk may keep of activations. */
const mostKeptBytes = 2 ** 28;

/** Nodes that the values depend on, without those that read no sample. */
function nodesBefore(values: readonly Value[], dependent: ReadonlySet<Value>, known: ReadonlySet<Node> = new Set()): Node[] {
  const found = new Set<Node>();
  const stack = [...values];
  for (let value = stack.pop(); value; value = stack.pop()) {
    const node = dependent.has(value) ? value.producer : undefined;
    if (!node || found.has(node) || known.has(node)) continue;
    found.add(node);
    for (const input of node.inputs) if (input) stack.push(input);
  }
  return [...found];
}

/**
 * Goes through a network from one value to the next, in topological order, with all samples at once: what later values need of the part that is
 * done is kept, batch by batch, so that no part is run again. Where that takes more than 256 MiB, the last that was kept stays, and the way from there is run again.
 */
export class Walk {
  private readonly dependent: ReadonlySet<Value>;
  private readonly needed: ReadonlySet<Node>;
  private readonly done = new Set<Node>();
  /** Values of the part that is done, and how many nodes to come read them. */
  private readonly frontier = new Map<Value, number>();
  private kept: { values: readonly Value[]; batches: readonly Tensors[] } | undefined;

  /** @param values every value that the walk will be asked for */
  constructor(
    private readonly graph: Graph,
    values: readonly Value[],
    private readonly engine: Engine,
    private readonly most = mostKeptBytes,
  ) {
    const dependent = new Set(graph.inputs);
    for (const node of graph.nodes)
      if (node.inputs.some((value) => value && dependent.has(value))) for (const value of node.outputs) dependent.add(value);
    this.dependent = dependent;
    this.needed = new Set(nodesBefore(values, dependent));
    for (const value of graph.inputs) this.reach(value);
  }

  /** Batches that are kept; undefined while the walk wants the samples themselves. */
  get batches(): number | undefined {
    return this.kept?.batches.length;
  }

  private reach(value: Value): void {
    const ahead = new Set(value.readers.filter((node) => this.needed.has(node) && !this.done.has(node))).size;
    if (ahead > 0) this.frontier.set(value, ahead);
  }

  private pass(node: Node): void {
    this.done.add(node);
    for (const value of new Set(node.inputs)) {
      const ahead = value && this.frontier.get(value);
      if (!value || ahead === undefined) continue;
      if (ahead > 1) this.frontier.set(value, ahead - 1);
      else this.frontier.delete(value);
    }
  }

  /**
   * Walk on to `stop` and compute `value`, which is `stop` itself or lies a little ahead of it, for `samples` samples altogether. Constants of the part from
   * here to there must not change afterwards.
   */
  async to(stop: Value, samples: number, value = stop): Promise<Step> {
    const passed = nodesBefore([stop], this.dependent, this.done);
    for (const node of passed) this.pass(node);
    for (const node of passed) for (const output of node.outputs) this.reach(output);
    const ahead = [...this.frontier.keys()];
    const worth = ahead.length > 0 && ahead.every((one) => one.type) && samples * bytesPerSample(ahead) <= this.most;
    const from = this.kept?.values ?? this.graph.inputs;
    const wanted = [...new Set([value, ...(worth ? ahead : [])])].filter((one) => !from.includes(one));
    const part = wanted.length ? extract(this.graph, from, wanted) : undefined;
    const program = part && (await this.engine.compile(part, { threads: 1, mode: 'train' }));
    return new Step(program, value, worth ? ahead : [], this.kept?.batches, this.most, samples, (batches) => {
      this.kept = { values: ahead, batches };
    });
  }
}

/** Of one sample, as far as sizes are known. */
const bytesPerSample = (values: readonly Value[]): number =>
  values.reduce(
    (sum, { shape = [] }) => sum + 4 * shape.slice(1).reduce<number>((a, dim) => a * (typeof dim === 'number' ? dim : 1), 1),
    0,
  );

/** One part of a walk. */
class Step {
  private readonly collected: Tensors[] = [];
  private collecting: boolean;

  constructor(
    private readonly program: Program | undefined,
    private readonly value: Value,
    private readonly ahead: readonly Value[],
    private readonly batches: readonly Tensors[] | undefined,
    private readonly most: number,
    private readonly samples: number,
    private readonly keep: (batches: readonly Tensors[]) => void,
  ) {
    this.collecting = ahead.length > 0;
  }

  /** Whether every batch has to be seen for the next part to begin here. */
  get wantsAll(): boolean {
    return this.collecting;
  }

  /** The value for one batch, of which `feeds` are the samples when the walk keeps none. */
  async run(batch: number, feeds: Tensors): Promise<Tensor<'float32'>> {
    const given = this.batches?.[batch] ?? feeds;
    const results = this.program ? await this.program.run(given) : {};
    const of = ({ name }: Value) => (results[name] ?? given[name]) as Tensor;
    if (this.collecting) {
      this.collected.push(Object.fromEntries(this.ahead.map((value) => [value.name, of(value)])));
      const bytes = this.ahead.reduce((sum, value) => sum + of(value).bytes, 0);
      const count = of(this.value).shape[0] ?? 1;
      if (bytes * (this.samples / count) > this.most) this.forget();
    }
    return of(this.value).as('float32');
  }

  private forget(): void {
    this.collecting = false;
    this.collected.length = 0;
  }

  /** End of the part. `all`: every batch was seen. */
  async end(all: boolean): Promise<void> {
    if (this.collecting && all) this.keep(this.collected);
    await this.program?.dispose();
  }
}
