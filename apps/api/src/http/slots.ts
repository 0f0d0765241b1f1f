import { ServiceError } from '@octet/contracts';

/** Gives a place back; to be called once. */
export type Release = () => void;

interface Waiter {
  start(): void;
}

/**
 * At most so many of something at a time. The rest wait: those of one owner in the order in which they came, the owners in turn, so that
 * one who asks for much does not keep the others out.
 */
export class Slots {
  #free: number;
  readonly #mostWaiting: number;
  readonly #waiting = new Map<string, Waiter[]>();

  /** @param mostWaiting of one owner */
  constructor(count: number, mostWaiting: number) {
    this.#free = count;
    this.#mostWaiting = mostWaiting;
  }

  /** A place if one is free now. */
  take(): Release | undefined {
    if (this.#free === 0) return undefined;
    this.#free--;
    return () => this.#next();
  }

  /** A place, as soon as it is this owner's turn. @throws ServiceError OVERLOADED when too many wait; the reason of the signal */
  async acquire(owner: string, signal: AbortSignal): Promise<Release> {
    signal.throwIfAborted();
    const place = this.take();
    if (place !== undefined) return place;
    const queue = this.#waiting.get(owner) ?? [];
    if (queue.length >= this.#mostWaiting)
      throw new ServiceError('OVERLOADED', `${queue.length} uploads of this client wait for their inspection already.`);
    this.#waiting.set(owner, queue);
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        queue.splice(queue.indexOf(waiter), 1);
        if (queue.length === 0) this.#waiting.delete(owner);
        reject(signal.reason);
      };
      const waiter: Waiter = {
        start: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      queue.push(waiter);
    });
    return () => this.#next();
  }

  #next(): void {
    const [turn] = this.#waiting;
    if (turn === undefined) {
      this.#free++;
      return;
    }
    const [owner, queue] = turn;
    const waiter = queue.shift();
    this.#waiting.delete(owner);
    if (queue.length > 0) this.#waiting.set(owner, queue);
    waiter?.start();
  }
}
