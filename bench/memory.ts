import { existsSync, readFileSync } from 'node:fs';

const status = '/proc/self/status';

/**
 * Peak of the resident memory of this process in MiB. Linux tells it of the present program alone (`VmHWM`); `maxRSS` of elsewhere may
 * hold the parent's as well.
 */
export function peakMiB(): number {
  const line = existsSync(status) ? /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(status, 'utf8')) : undefined;
  const kib = line ? Number(line[1]) : process.resourceUsage().maxRSS;
  return kib / 1024;
}
