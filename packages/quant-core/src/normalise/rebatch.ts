import type { Graph, Node, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { OpType } from '../ir/ops.js';
import { runPasses } from '../ir/pass.js';
import { Tensor } from '../tensor/tensor.js';
import { type BatchContext, type BatchRule, batchRules } from './batchRules.js';
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
 * Give a graph that was exported with a fixed batch an open one, in place. Only where it is certain that samples keep to themselves: every node on
 * the way from the inputs to the outputs treats each sample in its own rows of the first axis. Otherwise the graph
 * is only tidied. Best after `normalise`, when sizes are constants; a graph as it was read is tidied first.
 */
export function rebatch(graph: Graph): Rebatched {
  const first = graph.inputs[0]?.shape?.[0];
  if (typeof first !== 'number') return { fixedBatch: undefined, symbol: typeof first === 'string' ? first : undefined };
  runPasses(graph, tidy);
  const symbol = freeSymbol(graph);
  const trial = graph.clone();
  const obstacle = open(trial, first, symbol) ?? check(trial, symbol);
  if (obstacle) return { fixedBatch: first, symbol: undefined, obstacle };
  open(graph, first, symbol);
  inferShapes(graph);
  return { fixedBatch: first, symbol };
}

function freeSymbol(graph: Graph): string {
  const used = new Set(graph.values().flatMap((value) => value.shape?.filter((dim) => typeof dim === 'string') ?? []));
  let symbol = 'N';
  for (let i = 1; [...used].some((dim) => dim.split(/[^\w]+/).includes(symbol)); i++) symbol = `batch_${i}`;
  return symbol;
}

/** Follow the samples through the graph and make the changes; a sentence, and nothing changed, when they do not keep to themselves. */
function open(graph: Graph, batch: number, symbol: string): string | undefined {
  const rows = new Map<Value, number>();
  const edits: (() => void)[] = [];
  const context: BatchContext = {
    batch,
    rows: (value) => value && rows.get(value),
    edit: (change) => edits.push(change),
    constant: (name, tensor) => graph.constant(name, tensor),
    repeat: (row, like, before) => repeatRow(graph, row, like, before),
  };
  const inputs = graph.inputs.filter((value) => value.shape?.[0] === batch);
  for (const value of inputs) rows.set(value, 1);
  for (const node of graph.nodes) {
    if (!node.inputs.some((value) => value && rows.has(value))) continue;
    const result = (batchRules[node.op] as BatchRule<OpType>)(node, context);
    if (typeof result === 'string') return `${node.opName} "${node.name}" ${result}`;
    for (const [port, own] of result.entries()) {
      const value = node.outputs[port];
      if (own !== undefined && value) rows.set(value, own);
    }
  }
  const without = graph.outputs.find((value) => rows.get(value) !== 1);
  if (without) return `output "${without.name}" does not have one row for each sample`;
  for (const change of edits) change();
  const openFirst = (value: Value): void => {
    if (value.type?.shape) value.type = { ...value.type, shape: [symbol, ...value.type.shape.slice(1)] };
  };
  for (const value of inputs) openFirst(value);
  for (const node of graph.nodes) {
    if (node.op !== 'Opaque') continue;
    for (const value of node.outputs) if (rows.get(value) === 1) openFirst(value);
  }
  return undefined;
}

function repeatRow(graph: Graph, row: Value, like: Value, before: Node): Value {
  const rank = row.shape?.length ?? 1;
  const count = graph.node('Shape', [like], { start: 0, end: 1 }, { name: `${row.name}_batch`, before }).output();
  const ones = graph.constant(`${row.name}_ones`, Tensor.ints(new Array<number>(rank - 1).fill(1)));
  const target = graph.node('Concat', [count, ones], { axis: 0 }, { name: `${row.name}_shape`, before }).output();
  return graph.node('Expand', [row, target], {}, { name: `${row.name}_repeated`, before }).output();
}

function check(graph: Graph, symbol: string): string | undefined {
  try {
    inferShapes(graph);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const closed = graph.outputs.find((value) => value.shape?.[0] !== symbol);
  return closed && `output "${closed.name}" would have shape [${closed.shape?.join(', ')}]`;
}
