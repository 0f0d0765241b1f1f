import type { Logger } from 'pino';

/** A repeated trouble is told so often. */
const tellEveryMs = 60_000;

/**
 * Warnings of troubles that repeat while something is away: the first of each message is told at once; those that follow within
 * `everyMs` are counted, and the next one told says how many there were (`times`). An outage is a few lines, however long it lasts.
 */
export function seldom(log: Logger, everyMs = tellEveryMs): (facts: object, message: string) => void {
  const told = new Map<string, { at: number; untold: number }>();
  return (facts, message) => {
    const before = told.get(message);
    const now = performance.now();
    if (before !== undefined && now - before.at < everyMs) {
      before.untold++;
      return;
    }
    const times = (before?.untold ?? 0) + 1;
    log.warn(times === 1 ? facts : { ...facts, times }, message);
    told.set(message, { at: now, untold: 0 });
  };
}
