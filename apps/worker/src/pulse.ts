import type { PipelineEvent } from '@octet/contracts';

/** Silence of a stage that is broken; below the 5 s within which a job says something. */
const silenceMs = 4_500;

/** Says how long a stage has been running while it tells nothing of itself: "calibrate: 25 s". */
export class Pulse {
  readonly #say: (message: string) => void;
  readonly #timer: NodeJS.Timeout;
  #stage = 'start';
  #since = performance.now();

  constructor(say: (message: string) => void, everyMs: number = silenceMs) {
    this.#say = say;
    this.#timer = setInterval(() => this.#say(`${this.#stage}: ${Math.round((performance.now() - this.#since) / 1000)} s`), everyMs);
  }

  /** The job has told something itself. */
  saw(event: PipelineEvent): void {
    if (event.type === 'stage') {
      this.#stage = event.stage;
      this.#since = performance.now();
    }
    this.#timer.refresh();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
