import { performance } from 'node:perf_hooks';
import type { Program } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import type { Tensor } from '../tensor/tensor.js';

export interface RaceOptions {
  feeds: Record<string, Tensor>;
  /** Measured runs of each program; fewer, but not under `fewest` (5), when `budgetMs` is spent. */
  runs: number;
  fewest?: number;
  budgetMs: number;
  /** Runs that count as one (1). */
  repeats?: number;
  onRun?: (done: number) => void;
  signal?: AbortSignal;
}

const warmUpRuns = 3;

/**
 * Times of several programs on the same feeds, ms: for each of them one for every run. They take turns, and who goes first changes with every
 * run, so that a drift of the machine hits all.
 */
export async function race(programs: readonly Program[], options: RaceOptions): Promise<number[][]> {
  const { feeds, runs, fewest = 5, budgetMs, repeats = 1, onRun, signal } = options;
  const times: number[][] = programs.map(() => []);
  const began = performance.now();
  for (let run = -warmUpRuns; run < runs; run++) {
    if (signal?.aborted) throw new OctetError('CANCELLED', 'the measurement of latency was cancelled');
    if (run >= fewest && performance.now() - began > budgetMs) break;
    for (let turn = 0; turn < programs.length; turn++) {
      const index = (turn + run + warmUpRuns * programs.length) % programs.length;
      const start = performance.now();
      for (let r = 0; r < repeats; r++) await (programs[index] as Program).run(feeds);
      if (run >= 0) (times[index] as number[]).push(performance.now() - start);
    }
    if (run >= 0) onRun?.(run + 1);
  }
  return times;
}
