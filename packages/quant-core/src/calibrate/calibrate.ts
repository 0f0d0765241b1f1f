import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import type { Graph, Value } from '../ir/graph.js';
import type { Recipe } from '../recipe.js';
import type { QuantGrid } from '../tensor/affine.js';
import { createObserver, extremes, MovingAverage } from './observers.js';

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

/**
 * Run the float graph over calibration batches and observe every tapped activation.
 * On one thread, so that the ranges do not depend on the machine. Batches hold `x` of shape [n, …sample]. Throws DATASET_NOT_FINITE when an activation is not finite.
 */
export async function calibrate(
  graph: Graph,
  taps: readonly Tap[],
  batches: AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  recipe: Recipe,
  engine: Engine,
  onProgress: (samples: number) => void,
): Promise<Map<string, CalibratedRange>> {
  const input = graph.inputs[0] as Value;
  const program = await engine.compile(
    withTaps(
      graph,
      taps.map((tap) => tap.value),
    ),
    { threads: 1, mode: 'train' },
  );
  const watched = taps.map((tap) => ({ ...tap, observer: createObserver(recipe), average: new MovingAverage() }));
  let samples = 0;
  try {
    for await (const batch of batches) {
      const { x } = batch;
      const feeds = feedsOf(input.name, batch);
      const results = await program.run(feeds);
      for (const tap of watched) {
        const tensor = feeds[tap.value] ?? results[tap.value];
        const values = tensor?.as('float32').data as Float32Array;
        const seen = extremes(values);
        if (!Number.isFinite(seen.min + seen.max)) {
          throw new OctetError(
            'DATASET_NOT_FINITE',
            `Activation ${tap.value} is not finite on calibration samples ${samples} to ${samples + (x.shape[0] as number) - 1}`,
            { tensor: tap.value, sample: samples },
            {
              hint: 'Check the scaling of the dataset (scale, mean, std): the float model overflows on it.',
            },
          );
        }
        tap.observer.observe(values, seen);
        tap.average.update(seen);
      }
      samples += x.shape[0] as number;
      onProgress(samples);
    }
  } finally {
    await program.dispose();
  }
  return new Map(watched.map((tap) => [tap.value, { range: tap.observer.range(tap.grid), average: tap.average.value }]));
}

/** Batch size for calibration that keeps the tapped activations of one batch below 32 M elements. */
export function calibrationBatch(wanted: number, elementsPerSample: number): number {
  return Math.max(1, Math.min(wanted, Math.floor(2 ** 25 / Math.max(1, elementsPerSample))));
}
