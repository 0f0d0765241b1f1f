import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine } from '../engine/engine.js';
import { cutRows } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import type { Graph, Value } from '../ir/graph.js';
import type { Recipe } from '../recipe.js';
import type { QuantGrid } from '../tensor/affine.js';
import type { Tensor } from '../tensor/tensor.js';
import { observed, observingGraph, stepOver } from './observe.js';
import { createObserver, MovingAverage } from './observers.js';

/** What calibration found out about one activation. */
export interface CalibratedRange {
  /** The range to quantize. */
  range: { min: number; max: number };
  /** Moving average of the whole range, from which training goes on. */
  average: { min: number; max: number };
}

/** A value to be observed, and the grid its range is meant for. */
export interface Tap {
  value: string;
  grid: QuantGrid;
}

/** A copy of `graph` whose outputs are the values named; its own outputs where none of them can be one. */
export function withTaps(graph: Graph, names: readonly string[]): Graph {
  const copy = graph.clone();
  const values = new Map(copy.values().map((value) => [value.name, value]));
  // A graph input is observed where it is fed; it cannot be an output of its own.
  const taps = names.map((name) => values.get(name) as Value).filter((value) => value.producer);
  if (taps.length) copy.outputs.splice(0, copy.outputs.length, ...taps);
  return copy;
}

export interface Calibration {
  recipe: Recipe;
  engine: Engine;
  threads: number;
  /** Samples that `batches` hold in all. */
  samples: number;
  /** Batches must not be cut: the model takes batches of one size alone. */
  whole?: boolean;
  onProgress?: (samples: number) => void;
}

/**
 * Run the float graph over calibration batches and observe every tapped activation: its range over all elements, its distribution over
 * as many as it takes (`stepOver`). Batches are cut in two whatever the number of threads, so that the ranges do not depend on the machine.
 * Throws DATASET_NOT_FINITE when an activation is not finite.
 */
export async function calibrate(
  graph: Graph,
  taps: readonly Tap[],
  batches: AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  { recipe, engine, threads, samples, whole = false, onProgress }: Calibration,
): Promise<Map<string, CalibratedRange>> {
  const input = graph.inputs[0] as Value;
  const shapes = new Map(graph.values().map((value) => [value.name, value.shape ?? []]));
  const watched = taps.map(({ value, grid }) => ({
    value,
    grid,
    step: stepOver(
      (shapes.get(value) ?? []).slice(1).map((dim) => (typeof dim === 'number' ? dim : 1)),
      samples,
    ),
    observer: createObserver(recipe),
    average: new MovingAverage(),
  }));
  const values = watched.some(({ observer }) => observer.wantsValues);
  const shards = whole ? 1 : 2;
  const program = await engine.compileSharded(observingGraph(graph, watched, { values }), { threads, shards });
  let done = 0;
  const take = ({ results, count }: Seen) => {
    const vectors = (name: string) => results.map((result) => result[name] as Float32Array);
    const [minima, maxima, sums] = [vectors(observed.minimum), vectors(observed.maximum), vectors(observed.sum)];
    for (const [index, { value, observer, average }] of watched.entries()) {
      if (!sums.every((sum) => Number.isFinite(sum[index]))) throw notFinite(value, done, count);
      const seen = {
        min: Math.min(...minima.map((part) => part[index] as number)),
        max: Math.max(...maxima.map((part) => part[index] as number)),
      };
      observer.observe(values ? vectors(observed.values(index)) : [], seen);
      average.update(seen);
    }
    done += count;
    onProgress?.(done);
  };
  try {
    let before: Seen | undefined;
    for await (const batch of batches) {
      const running = program.run(cutRows(feedsOf(input.name, batch), shards).map((part) => part.feeds));
      running.catch(() => undefined);
      // The batch before is looked at while this one runs.
      if (before) take(before);
      before = { results: (await running).map(copied), count: batch.x.shape[0] as number };
    }
    if (before) take(before);
  } finally {
    await program.dispose();
  }
  return new Map(watched.map(({ value, grid, observer, average }) => [value, { range: observer.range(grid), average: average.value }]));
}

/** What one run gave, of each part of a batch of `count` samples. */
interface Seen {
  results: Record<string, Float32Array>[];
  count: number;
}

/** Results that outlive the next run. */
const copied = (result: Readonly<Record<string, Tensor>>): Record<string, Float32Array> =>
  Object.fromEntries(Object.entries(result).map(([name, tensor]) => [name, tensor.as('float32').data.slice()]));

function notFinite(value: string, from: number, count: number): OctetError {
  return new OctetError(
    'DATASET_NOT_FINITE',
    `Activation ${value} is not finite on calibration samples ${from} to ${from + count - 1}`,
    { tensor: value, sample: from },
    { hint: 'Check the scaling of the dataset (scale, mean, std): the float model overflows on it.' },
  );
}

/** Batch size for calibration that keeps the tapped activations of one batch below 32 M elements. */
export function calibrationBatch(wanted: number, elementsPerSample: number): number {
  return Math.max(1, Math.min(wanted, Math.floor(2 ** 25 / Math.max(1, elementsPerSample))));
}
