import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import type { Engine } from '../engine/engine.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { type ChosenEngine, chooseEngine } from '../engine/select.js';
import { OctetError } from '../errors.js';
import type { PipelineEvent, QuantizeJob, Stage } from '../events.js';
import type { Report } from '../report/schema.js';
import { watchPeak } from './peak.js';
import { foldWarnings } from './warnings.js';

export interface PipelineHooks {
  signal?: AbortSignal;
  onEvent?: (event: PipelineEvent) => void;
}

type Unit = Extract<PipelineEvent, { type: 'progress' }>['unit'];

/** What all stages of one job share: settings, engine, events, clock and memory of each stage, and the warnings for the report. */
export class Context {
  readonly engine: Engine;
  readonly threads: number;
  readonly seconds: Record<string, number> = {};
  /** Most memory that the process had in each stage, bytes. */
  readonly peakBytes: Record<string, number> = {};
  private readonly noted: Report['warnings'] = [];
  private lastProgress = 0;

  constructor(
    readonly job: QuantizeJob,
    private readonly hooks: PipelineHooks,
    { engine, notes }: ChosenEngine = { engine: new OrtEngine(), notes: [] },
  ) {
    this.engine = engine;
    engine.layFilesIn?.(job.workDirectory);
    for (const { code, text } of notes) this.warn(code, text);
    this.threads = job.recipe.threads || availableParallelism();
  }

  /** A context with the engine that the recipe, or else this machine, asks for. Throws ENGINE_UNAVAILABLE. */
  static async open(job: QuantizeJob, hooks: PipelineHooks): Promise<Context> {
    return new Context(job, hooks, await chooseEngine(job.recipe.engine));
  }

  get signal(): AbortSignal | undefined {
    return this.hooks.signal;
  }

  /** Options that carry the abort signal, where there is one. */
  get abortable(): { signal?: AbortSignal } {
    return this.hooks.signal ? { signal: this.hooks.signal } : {};
  }

  emit(event: PipelineEvent): void {
    this.hooks.onEvent?.(event);
  }

  /** Announce a stage, run it and note how long it took and how much memory the process had at most. */
  async stage<T>(stage: Stage, body: () => Promise<T>): Promise<T> {
    if (this.hooks.signal?.aborted) throw new OctetError('CANCELLED', `The job was cancelled before the stage "${stage}"`);
    this.emit({ type: 'stage', stage });
    const started = performance.now();
    const peak = watchPeak();
    try {
      return await body();
    } finally {
      this.seconds[stage] = (performance.now() - started) / 1000;
      this.peakBytes[stage] = peak();
    }
  }

  /** Report progress, at most five times a second apart from the last unit. */
  progress(stage: Stage, done: number, total: number, unit: Unit, figures?: Record<string, number>): void {
    const now = performance.now();
    if (done < total && now - this.lastProgress < 200) return;
    this.lastProgress = now;
    this.emit({ type: 'progress', stage, done, total, unit, ...(figures ? { figures } : {}) });
  }

  /** Note a warning for the report and log it. Of a code with places only the first is logged: the report has the others with a count. */
  warn(code: string, text: string, place?: Report['warnings'][number]['place']): void {
    const again = place !== undefined && this.noted.some((warning) => warning.code === code);
    this.noted.push({ code, text, ...(place ? { place } : {}) });
    if (!again) this.emit({ type: 'log', level: 'warn', message: text, data: { code } });
  }

  /** The warnings for the report. */
  get warnings(): Report['warnings'] {
    return foldWarnings(this.noted);
  }
}
