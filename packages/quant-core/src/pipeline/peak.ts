import { existsSync, readFileSync } from 'node:fs';

const status = '/proc/self/status';
const hasStatus = existsSync(status);
/** How often resident memory is looked at, ms. */
const every = 20;

/** The most this process has had in memory so far, bytes. `maxRSS` of systems without /proc may hold the parent's as well. */
export function highWater(): number {
  const line = hasStatus ? /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(status, 'utf8')) : undefined;
  // Both are in KiB on every platform.
  return 1024 * (line ? Number(line[1]) : process.resourceUsage().maxRSS);
}

/**
 * Watch the resident memory of this process; the function returned ends that and gives the peak, in bytes. A new high of the process is reported exactly, as the system
 * counts it; below one, the largest of what was seen every 20 ms.
 */
export function watchPeak(): () => number {
  const before = highWater();
  let seen = process.memoryUsage.rss();
  const look = () => {
    seen = Math.max(seen, process.memoryUsage.rss());
  };
  const timer = setInterval(look, every).unref();
  return () => {
    clearInterval(timer);
    look();
    const after = highWater();
    // The two counters of the system differ by a few pages.
    return after > before ? after : Math.min(seen, after);
  };
}
