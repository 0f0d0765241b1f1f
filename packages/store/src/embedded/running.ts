import { execFileSync } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A server that holds a data directory now; `port` is null until it has written it down. */
export interface RunningServer {
  pid: number;
  port: number | null;
}

/**
 * Reads postmaster.pid and looks whether that process is a PostgreSQL server on this very directory. After a crash, or in a fresh
 * container, the number may belong to any other process.
 */
export async function runningServer(data: string): Promise<RunningServer | null> {
  const lines = (await readFile(path.join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0) return null;
  const command = await commandOf(pid);
  if (command === null || !command.includes(data)) return null;
  return { pid, port: lines[3] ? Number(lines[3]) : null };
}

/** Removes a postmaster.pid that belongs to no living server of this directory. */
export async function clearStalePid(data: string): Promise<void> {
  if ((await runningServer(data)) === null) await rm(path.join(data, 'postmaster.pid'), { force: true });
}

/** Fast shutdown, then immediate, then SIGKILL; resolves when the process is gone. */
export async function stopServer(data: string): Promise<void> {
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    const running = await runningServer(data);
    if (running === null) return;
    try {
      process.kill(running.pid, signal);
    } catch {
      return;
    }
    for (let i = 0; i < 100; i++) {
      await sleep(100);
      if ((await commandOf(running.pid)) === null) return;
    }
  }
}

/** The command line of a living process, or null. */
async function commandOf(pid: number): Promise<string | null> {
  if (process.platform === 'linux') {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    return command === '' ? null : command;
  }
  try {
    return execFileSync('ps', ['-p', String(pid), '-o', 'command='], { stdio: 'pipe' }).toString();
  } catch {
    return null;
  }
}
