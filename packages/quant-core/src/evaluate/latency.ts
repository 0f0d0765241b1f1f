import type { Program } from '../engine/engine.js';
import type { LatencyFigures } from '../report/schema.js';
import type { Tensor } from '../tensor/tensor.js';
import { race } from './race.js';
import { quantile } from './statistics.js';

export interface LatencyOptions {
  float: Program;
  int8: Program;
  /** Feeds of a batch of the size asked for, the same for both programs. */
  feeds: (batch: number) => Record<string, Tensor> | Promise<Record<string, Tensor>>;
  /** Measured runs of each program at each batch size. */
  runs: number;
  /** Batch size that the model insists on: one run is measured as batch 1, and as many as make 32 samples as batch 32. */
  fixedBatch?: number;
  /** Time for all of it, seconds (30): fewer runs are made, never under 5, when the model is slow. */
  budgetSeconds?: number;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/**
 * Milliseconds for one run at batch 1 and at batch 32. Runs of float and int8 take turns, and which goes first
 * alternates, so that a drift of the machine hits both.
 */
export async function measureLatency(options: LatencyOptions): Promise<{ float: LatencyFigures; int8: LatencyFigures; runs: number }> {
  const budget = (1000 * (options.budgetSeconds ?? 30)) / 2;
  const { fixedBatch, onProgress } = options;
  const total = options.runs * 2;
  const single = await takeTurns(options, await options.feeds(fixedBatch ?? 1), 1, budget, (done) => onProgress?.(done, total));
  const repeats = fixedBatch ? Math.ceil(32 / fixedBatch) : 1;
  const many = await takeTurns(options, await options.feeds(fixedBatch ?? 32), repeats, budget, (done) =>
    onProgress?.(options.runs + done, total),
  );
  onProgress?.(total, total);
  return {
    float: { ...percentiles(single.float), batch32: percentiles(many.float) },
    int8: { ...percentiles(single.int8), batch32: percentiles(many.int8) },
    runs: Math.min(single.float.length, many.float.length),
  };
}

async function takeTurns(
  { float, int8, runs, signal }: LatencyOptions,
  feeds: Record<string, Tensor>,
  repeats: number,
  budgetMs: number,
  onRun: (done: number) => void,
): Promise<{ float: number[]; int8: number[] }> {
  const times = await race([float, int8], { feeds, runs, budgetMs, repeats, onRun, ...(signal ? { signal } : {}) });
  return { float: times[0] as number[], int8: times[1] as number[] };
}

function percentiles(times: readonly number[]): { p50Ms: number; p95Ms: number } {
  const sorted = [...times].sort((a, b) => a - b);
  return { p50Ms: quantile(sorted, 0.5), p95Ms: quantile(sorted, 0.95) };
}
