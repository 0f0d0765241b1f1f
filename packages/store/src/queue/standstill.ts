/**
 * Notices that the database, or this process, stood still: the reconciler's rounds then came too far apart. Nobody could write a
 * heartbeat meanwhile, so their age says nothing about the workers, who get one full time-out to give a sign.
 */
export class Standstill {
  readonly #restMs: number;
  readonly #now: () => number;
  #last: number;
  #until = Number.NEGATIVE_INFINITY;

  /** @param heartbeatTimeoutMs after so long without a heartbeat a worker counts as lost; half of it between two answers is a standstill */
  constructor(heartbeatTimeoutMs: number, now: () => number = () => performance.now()) {
    this.#restMs = heartbeatTimeoutMs;
    this.#now = now;
    this.#last = now();
  }

  /** Ask after each answer of the database: whether workers may be judged by their heartbeats. */
  isOver(): boolean {
    const now = this.#now();
    if (now - this.#last > this.#restMs / 2) this.#until = now + this.#restMs;
    this.#last = now;
    return now >= this.#until;
  }
}
