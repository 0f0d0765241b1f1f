import type { Dim, Graph, Node, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { OpType } from '../ir/ops.js';
import { runPasses } from '../ir/pass.js';
import { alwaysEqual, multiplyDims } from '../ir/shapes/dim.js';
import { show } from '../ir/shapes/rule.js';
import { Tensor } from '../tensor/tensor.js';
import { type BatchContext, type BatchRule, isPlain, type Place } from './batch/place.js';
import { batchRules } from './batchRules.js';
import { tidy } from './tidy.js';

export interface Rebatched {
  /** The batch of the file, when it was fixed. */
  fixedBatch: number | undefined;
  /** What the batch is called now; undefined when it could not be made open. `bindDims(graph, { [symbol]: fixedBatch })` restores it. */
  symbol: string | undefined;
  /** Why it could not be made open, with the node named. */
  obstacle?: string;
}

/**
 * Give a graph that was exported with a fixed batch an open one, in place. Only where it is certain that samples keep to themselves: the place
 * of the samples is followed from the inputs to the outputs, through every node on the way, also where it is one axis with heads or time
 * ([batch·heads, time, size]). Otherwise the graph is only tidied. Best after `normalise`, when sizes are constants; a graph as it was read is tidied first.
 */
export function rebatch(graph: Graph): Rebatched {
  const first = graph.inputs[0]?.shape?.[0];
  if (typeof first !== 'number') return { fixedBatch: undefined, symbol: typeof first === 'string' ? first : undefined };
  runPasses(graph, tidy);
  const symbol = freeSymbol(graph);
  const trial = graph.clone();
  const obstacle = open(trial, first, symbol);
  if (obstacle !== undefined) return { fixedBatch: first, symbol: undefined, obstacle };
  open(graph, first, symbol);
  return { fixedBatch: first, symbol };
}

function freeSymbol(graph: Graph): string {
  const used = new Set(
    graph
      .values()
      .flatMap(({ shape, declared }) => [...(shape ?? []), ...(declared?.shape ?? [])].filter((dim) => typeof dim === 'string')),
  );
  let symbol = 'N';
  for (let i = 1; [...used].some((dim) => dim.split(/[^\w]+/).includes(symbol)); i++) symbol = `batch_${i}`;
  return symbol;
}

/** Follow the samples through the graph, make the changes and infer shapes; a sentence when it cannot be done. */
function open(graph: Graph, batch: number, symbol: string): string | undefined {
  const followed = new Followed(graph, batch);
  const obstacle = followed.run();
  if (obstacle !== undefined) return obstacle;
  const expected = new Map<Value, readonly Dim[]>();
  for (const [value, { axis, outer, inner }] of followed.places) {
    const size = multiplyDims(multiplyDims(outer, symbol), inner);
    if (value.shape)
      expected.set(
        value,
        value.shape.map((dim, at) => (at === axis ? size : dim)),
      );
  }
  for (const change of followed.edits) change();
  for (const [value, shape] of expected)
    if (value.type && (!value.producer || value.producer.op === 'Opaque')) value.type = { ...value.type, shape };
  // What the file declares holds for its own batch.
  for (const value of followed.places.keys()) {
    const shape = expected.get(value);
    if (value.declared) value.declared = { dtype: value.declared.dtype, ...(shape ? { shape } : {}) };
  }
  return check(graph, expected);
}

/** Shapes inferred anew hold the batch exactly where the samples were followed to. */
function check(graph: Graph, expected: ReadonlyMap<Value, readonly Dim[]>): string | undefined {
  try {
    inferShapes(graph);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  for (const [value, shape] of expected) {
    const same = value.shape?.length === shape.length && value.shape.every((dim, axis) => alwaysEqual(dim, shape[axis] as Dim));
    if (!same) return `"${value.name}" would have shape ${show(value.shape)}, and not ${show(shape)}`;
  }
  return undefined;
}

/** More visits to nodes than this many for each are a search that leads nowhere. */
const mostVisits = 50;

interface Choice {
  /** Index of the node. */
  at: number;
  /** The option taken. */
  taken: number;
  /** Edits and places there were before the node. */
  edits: number;
  trail: number;
}

/** The way of the samples through a graph. Where a node can be read in several ways, the likeliest is tried first. */
class Followed {
  readonly places = new Map<Value, Place>();
  readonly edits: (() => void)[] = [];
  private readonly trail: Value[] = [];
  private readonly choices: Choice[] = [];
  private taken = 0;
  private offered = 1;
  private readonly context: BatchContext;

  constructor(
    private readonly graph: Graph,
    batch: number,
  ) {
    this.context = {
      batch,
      place: (value) => value && this.places.get(value),
      choose: (options) => {
        this.offered = options.length;
        return options[this.taken] as (typeof options)[number];
      },
      edit: (change) => this.edits.push(change),
      constant: (name, tensor) => graph.constant(name, tensor),
      repeat: (row, axis, like, before) => repeatRow(graph, row, axis, like, this.places.get(like) as Place, before),
    };
    for (const value of graph.inputs) if (value.shape?.[0] === batch) this.places.set(value, { axis: 0, outer: 1, inner: 1 });
  }

  /** Fills `places` and `edits`; the sentence of the node that came furthest when no way leads to the outputs. */
  run(): string | undefined {
    const { nodes } = this.graph;
    const furthest = { at: -1, why: '' };
    let visits = mostVisits * nodes.length + 1000;
    for (let at = 0; ; at++) {
      const node = nodes[at];
      const why = node ? this.visit(node, at) : this.atOutputs();
      if (why === undefined) {
        if (!node) return undefined;
        continue;
      }
      if (at > furthest.at) Object.assign(furthest, { at, why });
      const choice = this.choices.pop();
      if (!choice || --visits < 0) return furthest.why;
      visits -= at - choice.at;
      this.undo(choice);
      this.taken = choice.taken + 1;
      at = choice.at - 1;
    }
  }

  private visit(node: Node, at: number): string | undefined {
    const { taken } = this;
    if (!node.inputs.some((value) => value && this.places.has(value))) return undefined;
    const choice = { at, taken, edits: this.edits.length, trail: this.trail.length };
    this.offered = 1;
    const result = (batchRules[node.op] as BatchRule<OpType>)(node, this.context);
    this.taken = 0;
    if (taken + 1 < this.offered) this.choices.push(choice);
    if (typeof result === 'string') return `${node.opName} "${node.name}" ${result}`;
    for (const [port, place] of result.entries()) {
      const value = node.outputs[port];
      if (!place || !value) continue;
      this.places.set(value, place);
      this.trail.push(value);
    }
    return undefined;
  }

  private undo({ edits, trail }: Choice): void {
    this.edits.length = edits;
    for (const value of this.trail.splice(trail)) this.places.delete(value);
  }

  private atOutputs(): string | undefined {
    const without = this.graph.outputs.find((value) => {
      const place = this.places.get(value);
      return place?.axis !== 0 || !isPlain(place);
    });
    return without && `output "${without.name}" does not have one row for each sample`;
  }
}

/** `row`, which has the elements of one sample on `axis`, for as many samples as `like` has. */
function repeatRow(graph: Graph, row: Value, axis: number, like: Value, { axis: from, outer, inner }: Place, before: Node): Value {
  const name = (what: string) => ({ name: `${row.name}_${what}`, before });
  const ints = (what: string, values: readonly number[]) => graph.constant(`${row.name}_${what}`, Tensor.ints([...values]));
  const shape = row.shape as readonly number[];
  const [front, after] = [shape.slice(0, axis), shape.slice(axis + 1)];
  const each = (outer as number) * (inner as number);
  const all = graph.node('Shape', [like], { start: from, end: from + 1 }, name('rows')).output();
  const count = each === 1 ? all : graph.node('Div', [all, ints('each', [each])], {}, name('batch')).output();
  const counted =
    each === 1
      ? row
      : graph
          .node('Reshape', [row, ints('split', [...front, outer as number, 1, inner as number, ...after])], {}, name('counted'))
          .output();
  const ones = (length: number) => (length > 0 ? [ints('ones', new Array<number>(length).fill(1))] : []);
  const parts = each === 1 ? [...ones(axis), count, ...ones(after.length)] : [...ones(axis + 1), count, ...ones(after.length + 1)];
  const target = graph.node('Concat', parts, { axis: 0 }, name('shape')).output();
  const repeated = graph.node('Expand', [counted, target], {}, name('repeated')).output();
  if (each === 1) return repeated;
  return graph.node('Reshape', [repeated, ints('joined', [...front, -1, ...after])], {}, name('joined')).output();
}
