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
  /** Whether no more runs are wanted, asked after every run once `fewest` are made. `runs` are made where nothing asks. */
  enough?: (times: readonly (readonly number[])[]) => boolean;
  onRun?: (done: number) => void;
  signal?: AbortSignal;
}

const warmUpRuns = 3;
/** Share of the budget that warming up may take, after its first run. */
const warmUpShare = 1 / 5;

/**
 * Times of several programs on the same feeds, ms: for each of them one for every run. They take turns, and who goes first changes with every
 * run, so that a drift of the machine hits all.
 */
export async function race(programs: readonly Program[], options: RaceOptions): Promise<number[][]> {
  const { feeds, runs, fewest = 5, budgetMs, enough, onRun, signal } = options;
  const times: number[][] = programs.map(() => []);
  const began = performance.now();
  const spent = () => performance.now() - began;
  const round = async (number: number): Promise<number[]> => {
    if (signal?.aborted) throw new OctetError('CANCELLED', 'the measurement of latency was cancelled');
    const own: number[] = [];
    for (let turn = 0; turn < programs.length; turn++) {
      const index = (turn + number) % programs.length;
      const start = performance.now();
      await (programs[index] as Program).run(feeds);
      own[index] = performance.now() - start;
    }
    return own;
  };
  for (let run = 0; run < warmUpRuns && (run === 0 || spent() < warmUpShare * budgetMs); run++) await round(run);
  for (let run = 0; run < runs; run++) {
    if (run >= fewest && (spent() > budgetMs || enough?.(times))) break;
    for (const [index, ms] of (await round(run)).entries()) times[index]?.push(ms);
    onRun?.(run + 1);
  }
  return times;
}
