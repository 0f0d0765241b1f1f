import { type Batch, feedsOf } from '../data/dataset.js';
import type { Program } from '../engine/engine.js';
import { chunksOf } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import { type ComparedTensor, comparisonOutput, type FigureName, figures } from './comparison.js';

export interface LayerErrorsInput {
  /** A compiled `comparisonGraph` of `tensors`. */
  program: Program;
  /** Name of its first input. */
  input: string;
  tensors: readonly Pick<ComparedTensor, 'grid' | 'from'>[];
  batches: AsyncIterable<Batch> | Iterable<Batch>;
  fixedBatch?: number;
  onProgress?: (samples: number) => void;
  signal?: AbortSignal;
}

export interface LayerError {
  /** dB with everything quantized; `Infinity` when nothing differs, `NaN` when the tensor is all zero. */
  sqnrAccumulatedDb: number;
  /** dB with only this layer quantized. */
  sqnrLocalDb?: number;
  /** RMS rounding error of the float tensor on its own grid, over the scale: 1/√12 = 0.289 for ideal rounding, more when values are clipped. */
  rmseOverScale?: number;
  /** Share of float values that fall outside the grid. */
  clipped?: number;
  /** Least and largest float value seen. */
  range: [number, number];
}

type Sums = Record<FigureName, number>;

const nothing = (): Sums => ({
  count: 0,
  signal: 0,
  noise: 0,
  local: 0,
  low: Number.POSITIVE_INFINITY,
  high: Number.NEGATIVE_INFINITY,
  rounding: 0,
  inside: 0,
});

/** How the figures of two batches become those of both. */
const join: Record<FigureName, (a: number, b: number) => number> = {
  count: (a, b) => a + b,
  signal: (a, b) => a + b,
  noise: (a, b) => a + b,
  local: (a, b) => a + b,
  low: Math.min,
  high: Math.max,
  rounding: (a, b) => a + b,
  inside: (a, b) => a + b,
};

/** `20 · log10(‖x‖ / ‖x − y‖)` from the squares. */
const decibels = (signal: number, noise: number) => (signal === 0 && noise === 0 ? Number.NaN : 10 * Math.log10(signal / noise));

/**
 * Signal-to-quantization-noise ratio of every compared tensor, summed up batch by batch, and how its own grid takes it. The sums over a batch are made inside the
 * runtime, so that memory does not grow with the number of tensors or samples. Throws INTERNAL when the program is not a comparison of these
 * tensors, CANCELLED on abort.
 */
export async function layerErrors({ program, input, tensors, batches, fixedBatch, ...hooks }: LayerErrorsInput): Promise<LayerError[]> {
  const sums = tensors.map(nothing);
  let done = 0;
  for await (const batch of batches) {
    for (const feeds of chunksOf(feedsOf(input, batch), fixedBatch)) {
      if (hooks.signal?.aborted) throw new OctetError('CANCELLED', 'the comparison of layers was cancelled');
      const found = (await program.run(feeds))[comparisonOutput]?.as('float32').data;
      if (found?.length !== tensors.length * figures.length)
        throw new OctetError('INTERNAL', `the comparison gives ${found?.length} figures for ${tensors.length} tensors`);
      for (const [index, own] of sums.entries()) {
        // The last tensor comes first.
        const at = (tensors.length - 1 - index) * figures.length;
        for (const [offset, name] of figures.entries()) own[name] = join[name](own[name], found[at + offset] as number);
      }
    }
    done += batch.x.shape[0] ?? 0;
    hooks.onProgress?.(done);
  }
  return sums.map((own, index) => {
    const { grid, from } = tensors[index] as (typeof tensors)[number];
    return {
      range: [own.low, own.high],
      sqnrAccumulatedDb: decibels(own.signal, own.noise),
      ...(from ? { sqnrLocalDb: decibels(own.signal, own.local) } : {}),
      ...(grid && own.count > 0
        ? { rmseOverScale: Math.sqrt(own.rounding / own.count) / grid.scale, clipped: (own.count - own.inside) / own.count }
        : {}),
    };
  });
}
