import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '@octet/contracts';
import type { Logger } from 'pino';
import { translate } from './database.js';
import { reasonOf } from './log.js';

/** How long the first contact with a database may take. */
export interface Patience {
  /** Tries go on for so long, in milliseconds; 0 for one try. */
  withinMs: number;
  /** Ends the tries. */
  signal?: AbortSignal | undefined;
}

const defaultSeconds = 60;
const firstPauseMs = 250;
const longestPauseMs = 5_000;
const tellEveryMs = 15_000;

/** OCTET_DATABASE_WAIT in seconds, 60 when unset. @throws Error when it is not a number */
export function readPatience(variables: NodeJS.ProcessEnv): Patience {
  const text = variables.OCTET_DATABASE_WAIT || String(defaultSeconds);
  if (!/^\d{1,6}$/.test(text)) throw new Error(`OCTET_DATABASE_WAIT must be a whole number of seconds, not "${text}"`);
  return { withinMs: Number(text) * 1000 };
}

export const defaultPatience: Patience = { withinMs: defaultSeconds * 1000 };

/**
 * Asks a database that may not be up yet: repeats `ask` with pauses that double from 0.25 s to 5 s, for as long as the patience lasts.
 * An error that is not of the connection ends the tries at once.
 * @throws DATABASE_UNAVAILABLE when the time is over; whatever else `ask` throws; the reason of the signal
 */
export async function untilAnswered<T>(ask: () => Promise<T>, { withinMs, signal }: Patience, log: Logger): Promise<T> {
  const start = performance.now();
  const deadline = start + withinMs;
  let told = -Infinity;
  for (let pause = firstPauseMs; ; pause = Math.min(2 * pause, longestPauseMs)) {
    signal?.throwIfAborted();
    try {
      return await inTime(ask(), withinMs === 0 ? Infinity : deadline - performance.now(), signal);
    } catch (error) {
      signal?.throwIfAborted();
      const known = translate(error);
      if (!(known instanceof ServiceError) || known.code !== 'DATABASE_UNAVAILABLE') throw known;
      const now = performance.now();
      if (now + pause > deadline) {
        if (withinMs === 0) throw known;
        throw new ServiceError('DATABASE_UNAVAILABLE', `${known.message} (tried for ${Math.round((now - start) / 1000)} s)`, {
          hint: 'Check PostgreSQL and its address, or give it more time with OCTET_DATABASE_WAIT (seconds).',
          cause: error,
        });
      }
      if (now - told >= tellEveryMs) {
        log.warn({ reason: reasonOf(known), seconds: Math.round((now - start) / 1000) }, 'PostgreSQL does not answer yet; trying again');
        told = now;
      }
      await sleep(pause, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    }
  }
}

/** The same, given up when the time is over: a server that stands still answers nothing and breaks nothing. */
async function inTime<T>(answer: Promise<T>, ms: number, signal: AbortSignal | undefined): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const over = new Promise<never>((_resolve, reject) => {
    const late = () =>
      reject(new ServiceError('DATABASE_UNAVAILABLE', 'PostgreSQL does not answer: it accepts connections and says nothing'));
    if (ms < 2 ** 31) timer = setTimeout(late, Math.max(0, ms));
    onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([answer, over]);
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
  }
}
