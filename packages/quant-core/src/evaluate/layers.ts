import { type Batch, feedsOf } from '../data/dataset.js';
import type { Program } from '../engine/engine.js';
import { chunksOf } from '../engine/rows.js';
import { OctetError } from '../errors.js';
import { type AffineParams, dequantizeValue, quantizeValue } from '../tensor/affine.js';
import type { Tensor } from '../tensor/tensor.js';

/** A layer run alone: its inputs, weights and output are quantized, and it is fed with the float model's tensors. */
export interface LocalLayer {
  program: Program;
  /** Input of `program` → tap of the float program that feeds it. */
  feeds: Readonly<Record<string, string>>;
  output: string;
}

/** A tensor to be compared: one output of the float program and one of the quantized program. */
export interface LayerTap {
  name: string;
  floatTap: string;
  quantTap: string;
  /** Per-tensor grid of the tensor; without it nothing is said of rounding and clipping. */
  grid?: AffineParams & { qmin: number; qmax: number };
  local?: LocalLayer;
}

export interface LayerErrorsInput {
  float: Program;
  quantized: Program;
  /** Name of the first input of both programs. */
  input: string;
  layers: readonly LayerTap[];
  batches: AsyncIterable<Batch> | Iterable<Batch>;
  fixedBatch?: number;
  onProgress?: (samples: number) => void;
  signal?: AbortSignal;
}

export interface LayerError {
  name: string;
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

/** Running sums of one comparison: memory does not grow with the number of samples. */
class ErrorSums {
  private signal = 0;
  private noise = 0;

  add(x: Float32Array, y: Float32Array, name: string): void {
    if (x.length !== y.length)
      throw new OctetError('INTERNAL', `tap "${name}" has ${x.length} float and ${y.length} quantized values`, { tensor: name });
    for (let i = 0; i < x.length; i++) {
      const value = x[i] as number;
      const error = value - (y[i] as number);
      this.signal += value * value;
      this.noise += error * error;
    }
  }

  /** `20 · log10(‖x‖ / ‖x − y‖)` */
  get decibels(): number {
    return this.signal === 0 && this.noise === 0 ? Number.NaN : 10 * Math.log10(this.signal / this.noise);
  }
}

class GridSums {
  private squared = 0;
  private outside = 0;
  private count = 0;
  low = Number.POSITIVE_INFINITY;
  high = Number.NEGATIVE_INFINITY;

  constructor(private readonly grid: LayerTap['grid']) {}

  add(x: Float32Array): void {
    const { grid } = this;
    // Half a step beyond the ends still rounds onto the grid.
    const low = grid ? (grid.qmin - grid.zeroPoint - 0.5) * grid.scale : 0;
    const high = grid ? (grid.qmax - grid.zeroPoint + 0.5) * grid.scale : 0;
    for (let i = 0; i < x.length; i++) {
      const value = x[i] as number;
      if (value < this.low) this.low = value;
      if (value > this.high) this.high = value;
      if (!grid) continue;
      const error = value - dequantizeValue(quantizeValue(value, grid, grid.qmin, grid.qmax), grid);
      this.squared += error * error;
      if (value < low || value > high) this.outside++;
    }
    this.count += x.length;
  }

  get figures(): { rmseOverScale: number; clipped: number } | undefined {
    if (!this.grid || this.count === 0) return undefined;
    return { rmseOverScale: Math.sqrt(this.squared / this.count) / this.grid.scale, clipped: this.outside / this.count };
  }
}

/**
 * Signal-to-quantization-noise ratio of every tapped tensor, summed up batch by batch. Accumulated: the quantized
 * program against the float one. Local: layers that bring a program of their own, fed with float tensors.
 */
export async function layerErrors(input: LayerErrorsInput): Promise<LayerError[]> {
  const { layers } = input;
  const sums = layers.map((layer) => ({ layer, accumulated: new ErrorSums(), local: new ErrorSums(), grid: new GridSums(layer.grid) }));
  let done = 0;
  for await (const batch of input.batches) {
    for (const feeds of chunksOf(feedsOf(input.input, batch), input.fixedBatch)) {
      if (input.signal?.aborted) throw new OctetError('CANCELLED', 'the comparison of layers was cancelled');
      const float: Results = { ...(await input.float.run(feeds)), ...feeds };
      const quantized: Results = { ...(await input.quantized.run(feeds)), ...feeds };
      for (const { layer, accumulated, local, grid } of sums) {
        const signal = floatsOf(float, layer.floatTap);
        accumulated.add(signal, floatsOf(quantized, layer.quantTap), layer.name);
        grid.add(signal);
        if (layer.local) local.add(signal, await runLocal(layer.local, float), layer.name);
      }
    }
    done += batch.x.shape[0] ?? 0;
    input.onProgress?.(done);
  }
  return sums.map(({ layer, accumulated, local, grid }) => ({
    name: layer.name,
    sqnrAccumulatedDb: accumulated.decibels,
    ...(layer.local ? { sqnrLocalDb: local.decibels } : {}),
    ...grid.figures,
    range: [grid.low, grid.high],
  }));
}

type Results = Record<string, Tensor>;

function floatsOf(results: Results, name: string): Float32Array {
  const tensor = results[name];
  if (!tensor) throw new OctetError('INTERNAL', `the program has no output "${name}"`, { tensor: name });
  return tensor.as('float32').data;
}

async function runLocal({ program, feeds, output }: LocalLayer, float: Results): Promise<Float32Array> {
  const given: Results = {};
  for (const [name, tap] of Object.entries(feeds)) {
    const tensor = float[tap];
    if (!tensor) throw new OctetError('INTERNAL', `the float program has no output "${tap}"`, { tensor: tap });
    given[name] = tensor;
  }
  return floatsOf(await program.run(given), output);
}
