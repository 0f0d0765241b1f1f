import { performance } from 'node:perf_hooks';
import type { Program } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import type { LatencyFigures } from '../report/schema.js';
import type { Tensor } from '../tensor/tensor.js';
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

const warmUpRuns = 3;
const fewestRuns = 5;

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
  budget: number,
  onRun: (done: number) => void,
): Promise<{ float: number[]; int8: number[] }> {
  const times = { float: [] as number[], int8: [] as number[] };
  const timed = async (program: Program): Promise<number> => {
    const start = performance.now();
    for (let r = 0; r < repeats; r++) await program.run(feeds);
    return performance.now() - start;
  };
  const began = performance.now();
  for (let run = -warmUpRuns; run < runs; run++) {
    if (signal?.aborted) throw new OctetError('CANCELLED', 'the measurement of latency was cancelled');
    if (run >= fewestRuns && performance.now() - began > budget) break;
    const floatFirst = run % 2 === 0;
    const first = await timed(floatFirst ? float : int8);
    const second = await timed(floatFirst ? int8 : float);
    if (run < 0) continue;
    times.float.push(floatFirst ? first : second);
    times.int8.push(floatFirst ? second : first);
    onRun(run + 1);
  }
  return times;
}

function percentiles(times: readonly number[]): { p50Ms: number; p95Ms: number } {
  const sorted = [...times].sort((a, b) => a - b);
  return { p50Ms: quantile(sorted, 0.5), p95Ms: quantile(sorted, 0.95) };
}
