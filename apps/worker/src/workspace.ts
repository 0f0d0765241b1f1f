import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Store } from '@octet/store';
import type { Logger } from 'pino';

/** Directories of the workers of this process; never swept by each other. */
const ours = new Set<string>();

/** A worker's place for the files of its jobs. Its name holds the process, so that a later worker knows what was left behind. */
export class Workspace {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Makes the place, and removes those of workers that died. */
  static async open(base: string, log: Logger): Promise<Workspace> {
    await mkdir(base, { recursive: true });
    for (const name of await readdir(base)) {
      const pid = /^worker-(\d+)-/.exec(name)?.[1];
      const directory = path.join(base, name);
      if (pid === undefined || ours.has(directory) || (Number(pid) !== process.pid && alive(Number(pid)))) continue;
      log.info({ directory }, 'removing what a worker left behind');
      await rm(directory, { recursive: true, force: true });
    }
    const directory = path.join(base, `worker-${process.pid}-${randomBytes(4).toString('hex')}`);
    await mkdir(directory, { mode: 0o700 });
    ours.add(directory);
    return new Workspace(directory);
  }

  /** An empty directory for one attempt of a job. */
  async forJob(name: string): Promise<JobDirectory> {
    const directory = path.join(this.directory, name);
    await rm(directory, { recursive: true, force: true });
    for (const part of ['input', 'work', 'output']) await mkdir(path.join(directory, part), { recursive: true });
    return new JobDirectory(directory);
  }

  async close(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
    ours.delete(this.directory);
  }
}

export class JobDirectory {
  readonly #directory: string;
  constructor(directory: string) {
    this.#directory = directory;
  }

  get work(): string {
    return path.join(this.#directory, 'work');
  }

  get output(): string {
    return path.join(this.#directory, 'output');
  }

  /** Lays a blob out as a file whose name ends as the upload's did. */
  async layOut(
    store: Store,
    role: string,
    { sha256, filename }: { sha256: string; filename: string },
    signal: AbortSignal,
  ): Promise<string> {
    const file = path.join(this.#directory, 'input', `${role}-${safeName(filename)}`);
    await pipeline(await store.blobs.get(sha256), createWriteStream(file, { mode: 0o600 }), { signal });
    return file;
  }

  async remove(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** A file name from outside as one that is safe to use: no directories, no control characters, not long. */
export function safeName(filename: string): string {
  return (
    path
      .basename(filename)
      .replace(/[^\w.-]+/g, '_')
      .replace(/^\.+/, '')
      .slice(-100) || 'file'
  );
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
