import type { Stage } from '@octet/quant-core';
import { type Params, SingleBar } from 'cli-progress';
import { duration } from './text.js';

/** What is told of a running job, by its process or by a server. Times are milliseconds since the epoch. */
export interface ProgressFigures {
  stage: Stage;
  done: number;
  total: number;
  unit: string;
  figures: Record<string, number>;
  /** As the server sees it; reckoned here when left out. */
  etaSeconds?: number | null;
}

export interface EpochFigures {
  epoch: number;
  loss: number;
  holdoutLoss: number;
  holdoutMetric: number;
  /** Left out where the metric is the negative loss. */
  metricName?: string;
  best: boolean;
}

const titles: Record<Stage, string> = {
  load: 'load',
  baseline: 'float baseline',
  calibrate: 'calibrate',
  ptq: 'PTQ model',
  train: 'train (QAT)',
  convert: 'QAT model',
  evaluate: 'evaluate',
  report: 'report',
};

const titleWidth = Math.max(...Object.values(titles).map((title) => title.length));
const barWidth = 24;
/** Without a terminal a line is written so often: at least every 5 s, whatever the job does. */
const plainEveryMs = 4_500;
const lookEveryMs = 250;

/** A terminal, or anything that takes lines. */
export type Screen = NodeJS.WritableStream & { isTTY?: boolean };

/**
 * Shows the stages of a job as they pass: a live bar on a terminal, plain lines elsewhere.
 * Finished stages and epochs stay on the screen as lines.
 */
export class Progress {
  readonly #screen: Screen;
  readonly #bar: SingleBar | undefined;
  readonly #beat: NodeJS.Timeout;
  readonly #restore = () => this.#hide();
  #stage: Stage | undefined;
  #stageStarted = 0;
  #firstDone = { at: 0, done: 0 };
  #latest: ProgressFigures | undefined;
  #lastPlain = 0;
  #shown = false;
  #message = '';

  constructor(screen: Screen = process.stderr) {
    this.#screen = screen;
    this.#beat = setInterval(() => this.#tick(), lookEveryMs);
    this.#beat.unref();
    if (screen.isTTY !== true) return;
    this.#bar = new SingleBar({
      stream: screen,
      format: (_options, params) => this.#line(params),
      clearOnComplete: true,
      hideCursor: true,
      fps: 8,
      gracefulExit: false,
    });
    // The cursor comes back however the process ends.
    process.on('exit', this.#restore);
  }

  /** Something that happens before or between the stages, such as an upload. */
  activity(message: string, done = 0, total = 0): void {
    if (this.#message === '') this.#lastPlain = Date.now();
    this.#message = message;
    if (this.#bar === undefined) return;
    this.#show(total, done);
  }

  stage(stage: Stage, at = Date.now()): void {
    if (stage === this.#stage) return;
    this.#endStage(at);
    this.#message = '';
    this.#stage = stage;
    this.#stageStarted = at;
    this.#latest = undefined;
    this.#firstDone = { at, done: 0 };
    if (this.#bar === undefined) this.#print(`${titles[stage]} ...`);
    else this.#show(0, 0);
  }

  progress(progress: ProgressFigures, at = Date.now()): void {
    if (progress.stage !== this.#stage) this.stage(progress.stage, at);
    if (this.#latest === undefined || progress.total !== this.#latest.total || progress.done < this.#latest.done)
      this.#firstDone = { at, done: progress.done };
    this.#latest = { ...progress, etaSeconds: progress.etaSeconds ?? this.#eta(progress, at) };
    if (this.#bar !== undefined) {
      this.#show(progress.total, progress.done);
    } else if (Date.now() - this.#lastPlain >= plainEveryMs) {
      this.#print(`${titles[progress.stage]} ${percent(progress)}, ${this.#figures().join(', ')}`);
    }
  }

  epoch({ epoch, loss, holdoutLoss, holdoutMetric, metricName, best }: EpochFigures): void {
    const figures = [
      `epoch ${epoch}`,
      `loss ${loss.toPrecision(4)}`,
      `held-out loss ${holdoutLoss.toPrecision(4)}`,
      ...(metricName === undefined ? [] : [`held-out ${metricName} ${(100 * holdoutMetric).toFixed(2)} %`]),
    ];
    this.note(`${figures.join(', ')}${best ? ' (lowest held-out loss so far)' : ''}`);
  }

  /** A line that stays. */
  note(text: string): void {
    const wasShown = this.#shown;
    this.#hide();
    this.#print(this.#bar === undefined ? text : `${' '.repeat(titleWidth + 3)}${text}`);
    if (wasShown && this.#latest !== undefined) this.#show(this.#latest.total, this.#latest.done);
  }

  /** Takes the bar away; the last stage counts as finished unless something broke it off. */
  close({ finished }: { finished: boolean }): void {
    clearInterval(this.#beat);
    if (finished) this.#endStage(Date.now());
    this.#hide();
    this.#message = '';
    this.#stage = undefined;
    process.off('exit', this.#restore);
  }

  /** Without a terminal, a stage that tells nothing of itself: how long it has been running. (A bar draws itself anew.) */
  #tick(): void {
    const now = Date.now();
    if (this.#bar !== undefined || now - this.#lastPlain < plainEveryMs) return;
    if (this.#message !== '') this.#print(`${this.#message} ...`);
    else if (this.#stage !== undefined) this.#print(`${titles[this.#stage]}: ${duration((now - this.#stageStarted) / 1000)}`);
  }

  #endStage(at: number): void {
    if (this.#stage === undefined) return;
    const took = duration((at - this.#stageStarted) / 1000);
    this.#hide();
    if (this.#bar === undefined) this.#print(`${titles[this.#stage]} done in ${took}`);
    else this.#print(` ✓ ${titles[this.#stage].padEnd(titleWidth)} ${took}`);
  }

  #eta({ done, total }: ProgressFigures, at: number): number | null {
    const passed = done - this.#firstDone.done;
    return passed <= 0 ? null : ((at - this.#firstDone.at) / 1000 / passed) * (total - done);
  }

  #figures(): string[] {
    if (this.#latest === undefined) return [];
    const { done, total, unit, figures, etaSeconds } = this.#latest;
    const { epoch, loss, samplesPerSecond } = figures;
    return [
      `${done} of ${total} ${unit}`,
      ...(epoch === undefined ? [] : [`epoch ${epoch}`]),
      ...(loss === undefined ? [] : [`loss ${loss.toFixed(4)}`]),
      ...(samplesPerSecond === undefined ? [] : [`${Math.round(samplesPerSecond)} samples/s`]),
      ...(etaSeconds === null || etaSeconds === undefined || done >= total ? [] : [`${duration(etaSeconds)} left`]),
    ];
  }

  #line(params: Params): string {
    if (this.#message !== '') return ` … ${this.#message}${params.total > 0 ? ` ${Math.round(100 * params.progress)} %` : ''}`;
    const title = titles[this.#stage ?? 'load'].padEnd(titleWidth);
    if (this.#latest === undefined) return ` … ${title} ${duration((Date.now() - this.#stageStarted) / 1000)}`;
    const full = Math.round(Math.min(1, params.progress) * barWidth);
    return ` … ${title} ${'█'.repeat(full)}${'░'.repeat(barWidth - full)} ${percent(this.#latest).padStart(5)}  ${this.#figures().join(', ')}`;
  }

  #show(total: number, done: number): void {
    if (this.#bar === undefined) return;
    if (!this.#shown) {
      this.#bar.start(total, done);
      this.#shown = true;
    } else {
      this.#bar.setTotal(total);
      this.#bar.update(done);
    }
  }

  #hide(): void {
    if (this.#shown) this.#bar?.stop();
    this.#shown = false;
  }

  #print(text: string): void {
    this.#lastPlain = Date.now();
    this.#screen.write(`${text}\n`);
  }
}

const percent = ({ done, total }: ProgressFigures) => `${total > 0 ? Math.floor((100 * done) / total) : 0} %`;
