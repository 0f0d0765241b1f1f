import pg from 'pg';
import type { Logger } from 'pino';
import { reasonOf } from './log.js';
import { seldom } from './trouble.js';

const firstPauseMs = 1_000;
const longestPauseMs = 10_000;

/** The NOTIFY channel on which every change of a job is told, with the id of the job as payload. */
export const jobChannel = 'octet_job';

/**
 * One connection of the process that listens for changes of jobs. A broken connection is opened again; as notifications
 * may have been missed meanwhile, every subscriber is then called once.
 */
export class Changes {
  readonly #url: string;
  readonly #warn: (facts: object, message: string) => void;
  readonly #subscribers = new Map<string, Set<() => void>>();
  #client: pg.Client | undefined;
  #starting: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #pauseMs = firstPauseMs;
  #closed = false;

  constructor(url: string, log: Logger) {
    this.#url = url;
    this.#warn = seldom(log);
  }

  /** Calls `listener` after each change of the job, until the function returned is called. */
  subscribe(jobId: string, listener: () => void): () => void {
    const set = this.#subscribers.get(jobId) ?? new Set();
    this.#subscribers.set(jobId, set.add(listener));
    void this.#start();
    return () => {
      set.delete(listener);
      if (set.size === 0 && this.#subscribers.get(jobId) === set) this.#subscribers.delete(jobId);
    };
  }

  /**
   * Waits until `changed` says so; it is asked at once, after each notification, and after a connection was opened again.
   * @returns false when `ms` have passed or the signal fired
   */
  async wait(jobId: string, ms: number, signal: AbortSignal | undefined, changed: () => Promise<boolean>): Promise<boolean> {
    let told = false;
    let wake: () => void = () => undefined;
    const tell = () => {
      told = true;
      wake();
    };
    let over = false;
    const stop = () => {
      over = true;
      wake();
    };
    const unsubscribe = this.subscribe(jobId, tell);
    signal?.addEventListener('abort', stop, { once: true });
    const timer = setTimeout(stop, ms);
    try {
      await this.#start();
      for (;;) {
        told = false;
        if (signal?.aborted) return false;
        if (await changed()) return true;
        if (over) return false;
        if (!told) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      unsubscribe();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    await this.#starting;
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => undefined);
  }

  #start(): Promise<void> {
    if (this.#client !== undefined || this.#closed) return Promise.resolve();
    this.#starting ??= this.#connect().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#url,
      application_name: 'octet-listen',
      keepAlive: true,
      connectionTimeoutMillis: 5_000,
    });
    const lost = () => {
      if (this.#client !== client) return;
      this.#client = undefined;
      this.#later();
    };
    client.on('error', (error) => {
      this.#warn({ reason: reasonOf(error) }, 'the connection that listens for changes broke');
      lost();
    });
    client.on('end', lost);
    client.on('notification', ({ payload }) => {
      for (const listener of [...(this.#subscribers.get(payload ?? '') ?? [])]) listener();
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${jobChannel}`);
      this.#client = client;
      this.#pauseMs = firstPauseMs;
      for (const set of this.#subscribers.values()) for (const listener of [...set]) listener();
    } catch (error) {
      this.#warn({ reason: reasonOf(error) }, 'cannot listen for changes yet');
      await client.end().catch(() => undefined);
      this.#later();
    }
  }

  #later(): void {
    if (this.#closed) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#start(), this.#pauseMs);
    this.#retry.unref();
    this.#pauseMs = Math.min(2 * this.#pauseMs, longestPauseMs);
  }
}
