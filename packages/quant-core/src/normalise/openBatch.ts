import type { InputSpec } from '../data/materialise.js';
import type { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { runPasses } from '../ir/pass.js';
import type { DType } from '../tensor/dtype.js';
import { allocate } from '../tensor/dtype.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor, toNumbers } from '../tensor/tensor.js';
import { type Evaluate, foldConstants } from './foldConstants.js';
import { type Rebatched, rebatch } from './rebatch.js';
import { tidy } from './tidy.js';
import { toInference } from './toInference.js';

type Feeds = Readonly<Record<string, Tensor>>;

/** Runs a graph on each of several feeds. */
export type RunEach = (graph: Graph, feeds: readonly Feeds[]) => Promise<Record<string, Tensor>[]>;

/** Outputs may differ by this part of the largest number in them: sums of a larger batch are added in another order. */
const tolerance = 1e-3;

/** Sizes to try where the model leaves one open. */
const trialSizes = [8, 32, 96, 224];

/**
 * `rebatch`, with constants folded before (what an exporter wrote out for its batch shows that it repeats itself), and proved by running: the
 * graph as it was (in inference form) and the one with the open batch must give the same for the same random samples, in another order and number. When they do
 * not, or the graph does not run, it stays as it was, with the obstacle said.
 */
export async function openBatch(
  graph: Graph,
  inputs: readonly InputSpec[],
  { evaluate, run }: { evaluate: Evaluate; run: RunEach },
): Promise<Rebatched> {
  if (typeof graph.inputs[0]?.shape?.[0] !== 'number') return rebatch(graph);
  const fixed = graph.clone();
  runPasses(fixed, [toInference]);
  do runPasses(graph, tidy);
  while (await foldConstants(graph, evaluate));
  inferShapes(graph);
  const trial = graph.clone();
  const opened = rebatch(trial);
  if (opened.fixedBatch === undefined || opened.symbol === undefined) return opened;
  const obstacle = await disagreement(fixed, trial, opened.fixedBatch, inputs, run);
  return obstacle === undefined ? rebatch(graph) : { fixedBatch: opened.fixedBatch, symbol: undefined, obstacle };
}

/** What keeps the two graphs from being one on samples drawn at random; undefined when they agree. */
async function disagreement(
  fixed: Graph,
  open: Graph,
  batch: number,
  inputs: readonly InputSpec[],
  run: RunEach,
): Promise<string | undefined> {
  const count = batch === 1 ? 3 : batch;
  let samples: Feeds | undefined;
  let before: Record<string, Tensor>[] | undefined;
  let problem = '';
  for (const size of hasOpenSizes(inputs) ? trialSizes : trialSizes.slice(0, 1)) {
    samples = draw(inputs, count, size);
    try {
      before = await run(
        fixed,
        Array.from({ length: count / batch }, (_, i) => pick(samples as Feeds, range(i * batch, batch))),
      );
      break;
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
  }
  if (!samples || !before) return `the model does not run on random samples: ${problem}`;
  const rows = [count - 1, 0, count >> 1, ...(count === 3 && batch > 1 ? [1] : [])];
  let after: Record<string, Tensor> | undefined;
  try {
    [after] = await run(open, [pick(samples, rows)]);
  } catch (error) {
    return `with an open batch it does not run: ${error instanceof Error ? error.message : String(error)}`;
  }
  for (const { name } of open.outputs) {
    const wanted = rows.map((row) => rowOf(before[Math.floor(row / batch)]?.[name], row % batch, batch));
    const got = rows.map((_, i) => rowOf(after?.[name], i, rows.length));
    if (!agree(wanted, got)) return `output "${name}" of a sample changes with the samples beside it`;
  }
  return undefined;
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

const hasOpenSizes = (inputs: readonly InputSpec[]): boolean => inputs.some(({ shape }) => shape.includes(undefined));

/** Samples [count, …]: normal floats, row numbers of the tables they are looked up in, 0 and 1 for other whole numbers. */
function draw(inputs: readonly InputSpec[], count: number, openSize: number): Feeds {
  const random = Random.for(0, 'open batch');
  return Object.fromEntries(
    inputs.map(({ name, dtype, shape, table }) => {
      const sizes = [count, ...shape.map((dim) => dim ?? openSize)];
      const data = allocate(dtype, sizeOf(sizes));
      const below = dtype === 'bool' ? 2 : Math.min(table?.rows ?? 2, 127);
      for (let i = 0; i < data.length; i++) {
        const x = dtype === 'float32' ? random.normal() : Math.floor(random.uniform() * below);
        data[i] = dtype === 'int64' ? BigInt(x) : x;
      }
      return [name, new Tensor(dtype as DType, sizes, data)];
    }),
  );
}

/** The samples `rows`, in that order. */
function pick(feeds: Feeds, rows: readonly number[]): Feeds {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { dtype, shape, data, size }]) => {
      const each = size / (shape[0] as number);
      const picked = allocate(dtype, each * rows.length);
      for (const [i, row] of rows.entries()) picked.set(data.subarray(row * each, (row + 1) * each) as never, i * each);
      return [name, new Tensor(dtype, [rows.length, ...shape.slice(1)], picked)];
    }),
  );
}

/** Row `row` of `count`; undefined for a tensor that has not so many. */
function rowOf(tensor: Tensor | undefined, row: number, count: number): ArrayLike<number> | undefined {
  if (tensor?.shape[0] !== count) return undefined;
  const each = tensor.size / count;
  return toNumbers(tensor).slice(row * each, (row + 1) * each);
}

function agree(wanted: readonly (ArrayLike<number> | undefined)[], got: readonly (ArrayLike<number> | undefined)[]): boolean {
  let largest = 0;
  for (const row of wanted)
    for (let i = 0; i < (row?.length ?? 0); i++) {
      const size = Math.abs(row?.[i] as number);
      if (size > largest && size < Number.POSITIVE_INFINITY) largest = size;
    }
  return wanted.every((row, at) => {
    const other = got[at];
    if (!row || row.length !== other?.length) return false;
    for (let i = 0; i < row.length; i++) {
      const [a, b] = [row[i] as number, other[i] as number];
      if (!(Object.is(a, b) || Math.abs(a - b) <= tolerance * largest)) return false;
    }
    return true;
  });
}
