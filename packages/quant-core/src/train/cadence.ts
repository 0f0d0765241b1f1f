/** Steps between checkpoints inside an epoch, and seconds of training after which one is due whatever the step. */
const steps = 500;
const seconds = 30;
/** Checkpoints larger than the first are written no faster than the second, bytes a second: copying them must not hold training up. */
const [smallBytes, bytesPerSecond] = [2 ** 20, 10e6];
/** Seconds that a checkpoint may be put off for its size. */
const longestPause = 20;

/** Decides when a run makes a checkpoint. The clock has a say in that, and in nothing that the run computes. */
export class Cadence {
  private readonly pause: number;

  /** For checkpoints of so many bytes, no faster than every `pause` seconds; `last` is the time of the last one, in seconds as well. */
  constructor(
    bytes: number,
    pause: number,
    private last: number,
  ) {
    this.pause = Math.max(pause, bytes <= smallBytes ? 0 : Math.min(longestPause, bytes / bytesPerSecond));
  }

  /** Whether one is due after step number `step`; if so, it is counted as made. `last`: of its epoch, whose end is about to come. */
  afterStep(step: number, last: boolean, now: number): boolean {
    return this.due(step % steps === 0 && !last, now);
  }

  /** The same after the end of an epoch: always after the last one. */
  afterEpoch(finished: boolean, now: number): boolean {
    return this.due(true, finished ? Number.POSITIVE_INFINITY : now, now);
  }

  private due(milestone: boolean, until: number, now = until): boolean {
    const passed = until - this.last;
    if (passed < (milestone ? this.pause : seconds)) return false;
    this.last = now;
    return true;
  }
}
