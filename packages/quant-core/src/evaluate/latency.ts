import { performance } from 'node:perf_hooks';
import type { Program } from '../engine/engine.js';
import type { LatencyFigures, Report } from '../report/schema.js';
import type { Tensor } from '../tensor/tensor.js';
import { watchLoad } from './load.js';
import { race } from './race.js';
import { type Interval, medianInterval, quantile } from './statistics.js';

export interface LatencyOptions {
  float: Program;
  int8: Program;
  /** Feeds of a batch of the size asked for, the same for both programs. */
  feeds: (batch: number) => Record<string, Tensor> | Promise<Record<string, Tensor>>;
  /** Runs of each program at each batch size; up to four times as many are made until the medians are known well. */
  runs: number;
  /** Batch size that the model is fixed to: its times are reported as those of batch 1, and scaled to 32 samples as those of batch 32. */
  fixedBatch?: number;
  /** Largest batch that memory allows (32). */
  largestBatch?: number;
  /** Time for all of it, seconds (10); slow models are run three times all the same. */
  budgetSeconds?: number;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export type Latency = Pick<Report['latency'], 'float' | 'int8' | 'ratio' | 'busy' | 'load'>;

/** Half of the interval of a median, over the median, that is narrow; and from which on nothing is certain. */
const [narrow, wide] = [0.03, 0.1];
/** Runs that a median needs: with five, its interval is all of them. */
const [fewest, worthAsking] = [3, 11];
/** Rounds that should fit into what is left of the time for the larger batch. */
const wantedRounds = 6;
/** Share of a core that must be free for a figure to count. */
const freeCore = 0.7;

interface Turns {
  float: number[];
  int8: number[];
}

/** Time of int8 over that of float, run by run: both are hit by what the machine did meanwhile. */
const ratiosOf = ({ float, int8 }: Turns) => int8.map((ms, run) => ms / (float[run] as number));

const halfWidth = (values: readonly number[]): number => {
  const [low, high] = medianInterval(values);
  return (high - low) / 2 / medianOf(values);
};

const medianOf = (values: readonly number[]) =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

/** The widest interval, as half its width over the median, of the times and of their ratio. */
const uncertainty = (turns: Turns) => Math.max(...[turns.float, turns.int8, ratiosOf(turns)].map(halfWidth));

/**
 * Milliseconds for one run at batch 1 and at batch 32. Runs of float and int8 take turns, and which goes first alternates, so that a drift of the machine hits both. They
 * are repeated until the 95 % intervals of the medians and of their ratio are within ±3 %, or time is up. Where an interval stays beyond ±10 %, or others left no core free, the
 * figures are marked as taken on a busy machine.
 */
export async function measureLatency(options: LatencyOptions): Promise<Latency> {
  const { runs, fixedBatch, onProgress } = options;
  const budget = 1000 * (options.budgetSeconds ?? 10);
  const total = runs * 2;
  const began = performance.now();
  const load = watchLoad();
  const single = await takeTurns(options, fixedBatch ?? 1, budget / 2, (done) => onProgress?.(Math.min(done, runs), total));
  const left = Math.max(budget / 4, budget - (performance.now() - began));
  // What one sample takes in both models decides how many can be run together in time.
  const each = (medianOf(single.float) + medianOf(single.int8)) / (fixedBatch ?? 1);
  const batch = fixedBatch ?? batchFor(left / wantedRounds / each, options.largestBatch ?? 32);
  const many = await takeTurns(options, batch, left, (done) => onProgress?.(runs + Math.min(done, runs), total));
  onProgress?.(total, total);
  const machine = load();
  const scale = Math.max(1, Math.ceil(32 / batch));
  const figures = (name: keyof Turns): LatencyFigures => ({
    ...percentiles(single[name], 1),
    batch32: { ...percentiles(many[name], scale), samples: batch },
  });
  const spread = Math.max(uncertainty(single), uncertainty(many));
  return {
    float: figures('float'),
    int8: figures('int8'),
    ratio: { batch1: medianOfRatios(single), batch32: medianOfRatios(many) },
    busy: spread > wide || machine.otherCores > machine.cores - freeCore,
    load: { ...machine, spread },
  };
}

/** The largest power of two up to `most` that is no more than `wanted`, one at least. */
function batchFor(wanted: number, most: number): number {
  let batch = 1;
  while (2 * batch <= Math.min(32, most, wanted)) batch *= 2;
  return batch;
}

async function takeTurns(
  { float, int8, runs, feeds, signal }: LatencyOptions,
  batch: number,
  budgetMs: number,
  onRun: (done: number) => void,
): Promise<Turns> {
  const turns = ([own = [], other = []]: readonly (readonly number[])[]): Turns => ({ float: [...own], int8: [...other] });
  const times = await race([float, int8], {
    feeds: await feeds(batch),
    runs: 4 * runs,
    fewest,
    budgetMs,
    enough: (sofar) => (sofar[0]?.length ?? 0) >= Math.max(runs, worthAsking) && uncertainty(turns(sofar)) <= narrow,
    onRun,
    ...(signal ? { signal } : {}),
  });
  return turns(times);
}

const medianOfRatios = (turns: Turns): { value: number; ci95: Interval } => {
  const ratios = ratiosOf(turns);
  return { value: medianOf(ratios), ci95: medianInterval(ratios) };
};

function percentiles(times: readonly number[], scale: number): { p50Ms: number; p95Ms: number; ci95: Interval; runs: number } {
  const sorted = times.map((ms) => scale * ms).sort((a, b) => a - b);
  return { p50Ms: quantile(sorted, 0.5), p95Ms: quantile(sorted, 0.95), ci95: medianInterval(sorted), runs: sorted.length };
}
