import { type ChildProcess, fork } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { type Code, jobPolicy, ServiceError } from '@octet/contracts';
import { type JobMessage, OctetError, type PipelineEvent, type SerializedError } from '@octet/quant-core';
import type { Command, Commands, Order } from './commands.js';
import { jobProcessEntry } from './entry.js';

/** The part of a pino logger that is used. */
export interface RunnerLog {
  debug(data: object, message: string): void;
  warn(data: object, message: string): void;
}

export interface RunOptions<C extends Command> {
  command: C;
  payload: Commands[C]['payload'];
  /** Stops the process; a ServiceError given as the reason becomes the error, CANCELLED otherwise. */
  signal?: AbortSignal | undefined;
  onEvent?: ((event: PipelineEvent) => void) | undefined;
  limits: {
    /** Wall-clock seconds. */
    seconds: number;
    /** Resident memory of the process; watched on Linux only. */
    memoryBytes: number;
  };
  log: RunnerLog;
  /** Module with the commands; quant-core when left out. */
  module?: string | undefined;
}

const tailBytes = 4096;
const watchMemoryEveryMs = 200;
const niceness = 10;

/**
 * Runs one command in a process of its own and gives its result. The promise settles only when the process is gone.
 * @throws OctetError as the command threw it; ServiceError JOB_CRASHED, JOB_OUT_OF_MEMORY, JOB_TIMED_OUT or INSPECTION_TIMED_OUT
 */
export async function runJobProcess<C extends Command>(options: RunOptions<C>): Promise<Commands[C]['result']> {
  const { command, limits, log, signal } = options;
  if (signal?.aborted) throw stopped(signal);
  const kernelKills = await outOfMemoryKills();
  const child = start(limits.memoryBytes, options.module !== undefined);
  const run = new Run(child);
  lowerPriority(child);

  let outcome: Extract<JobMessage, { kind: 'result' | 'error' }> | undefined;
  let reason: Error | undefined;
  const stop = (why: Error) => {
    if (reason !== undefined || outcome !== undefined) return;
    reason = why;
    // An inspection has nothing to put in order; its files lie in the caller's directory.
    if (command === 'quantize') run.stop();
    else run.kill();
  };
  child.on('message', (message: JobMessage) => {
    if (message.kind === 'event') {
      if (reason === undefined) options.onEvent?.(message.event);
    } else {
      outcome ??= message;
      run.expectEnd();
    }
  });
  run.onLine((line) => log.debug({ pid: child.pid, line }, 'the job process says'));
  const onAbort = () => stop(stopped(signal));
  signal?.addEventListener('abort', onAbort, { once: true });
  const clock = setTimeout(() => stop(timedOut(command, limits.seconds)), limits.seconds * 1000);
  const memory = watchMemory(child, limits.memoryBytes, (bytes) => {
    reason = new ServiceError(
      'JOB_OUT_OF_MEMORY',
      `the process used ${mebibytes(bytes)}, more than the limit of ${mebibytes(limits.memoryBytes)}`,
      { logTail: run.tail() },
    );
    run.kill();
  });
  try {
    run.tell({ kind: 'run', command, payload: options.payload, module: options.module ?? '@octet/quant-core/commands' });
    const end = await run.ended;
    if (reason !== undefined) throw reason;
    if (outcome?.kind === 'result') return outcome.result as Commands[C]['result'];
    if (outcome?.kind === 'error') throw failureOfCommand(outcome.error, run.tail());
    throw await crash(end, run.tail(), memory.peak(), kernelKills);
  } finally {
    clearTimeout(clock);
    memory.stop();
    signal?.removeEventListener('abort', onAbort);
  }
}

function start(memoryBytes: number, ownModule: boolean): ChildProcess {
  const { file, execArgv, env } = jobProcessEntry(ownModule ? ['runner'] : ['runner', 'contracts', 'quant-core']);
  const heap = `--max-old-space-size=${Math.max(256, Math.floor(memoryBytes / 2 ** 20))}`;
  return fork(file, [], {
    execArgv: [heap, ...execArgv],
    env: { ...environment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'advanced',
    detached: true,
  });
}

const passedOn =
  /^(PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|NODE_EXTRA_CA_CERTS|UV_THREADPOOL_SIZE|OCTET_ENGINE|OMP_\w+)$/;

/** Only what a computation needs: no address, password or key of the service reaches the process that opens uploads. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => passedOn.test(name)));
}

interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  error?: Error;
}

/** One process: its end, its last words, and the steps that stop it. */
class Run {
  readonly ended: Promise<End>;
  readonly #child: ChildProcess;
  readonly #timers = new Set<NodeJS.Timeout>();
  #tail = Buffer.alloc(0);
  #over = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.#tail = Buffer.concat([this.#tail, bytes]).subarray(-tailBytes);
      });
    }
    this.ended = new Promise((resolve) => {
      const end = (how: End) => {
        this.#over = true;
        for (const timer of this.#timers) clearTimeout(timer);
        resolve(how);
      };
      child.once('error', (error) => end({ code: null, signal: null, error }));
      child.once('close', (code, signal) => end({ code, signal }));
    });
  }

  /** The last 4 KB that the process wrote. */
  tail(): string {
    return this.#tail.toString('utf8').trim();
  }

  onLine(listener: (line: string) => void): void {
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        for (const line of bytes.toString('utf8').split('\n')) if (line.trim() !== '') listener(line.slice(0, 1000));
      });
    }
  }

  tell(order: Order): void {
    if (this.#child.connected) this.#child.send(order, () => undefined);
  }

  /** Asks, then SIGTERM, then SIGKILL. */
  stop(): void {
    this.tell({ kind: 'abort' });
    this.#later(jobPolicy.stopGraceMs, () => this.#child.kill('SIGTERM'));
    this.#later(2 * jobPolicy.stopGraceMs, () => this.kill());
  }

  /** The last message has come; the process has a moment to end by itself. */
  expectEnd(): void {
    this.#later(jobPolicy.stopGraceMs, () => this.kill());
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #later(ms: number, act: () => void): void {
    if (!this.#over) this.#timers.add(setTimeout(act, ms));
  }
}

function stopped(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof ServiceError || reason instanceof OctetError ? reason : new OctetError('CANCELLED', 'the job was cancelled');
}

function timedOut(command: Command, seconds: number): ServiceError {
  return command === 'quantize'
    ? new ServiceError('JOB_TIMED_OUT', `the job ran longer than limits.runSeconds = ${seconds}`)
    : new ServiceError('INSPECTION_TIMED_OUT', `inspecting took longer than ${seconds} s`);
}

const allocationFailed =
  /allocation failed|bad_alloc|out of memory|Failed to allocate memory|Cannot create a (string|Buffer) longer|ERR_MEMORY_ALLOCATION_FAILED/i;

const diskFull = /\b(ENOSPC|EDQUOT)\b/;

/** The error that the command threw. Plain exceptions of an allocation or of a full disk are named as what they are; others keep their log. */
function failureOfCommand(error: SerializedError, logTail: string): Error {
  if (error.code !== 'INTERNAL') return OctetError.fromJSON(error);
  const code: Code = allocationFailed.test(error.detail) ? 'JOB_OUT_OF_MEMORY' : diskFull.test(error.detail) ? 'STORAGE_FULL' : 'INTERNAL';
  return new ServiceError(code, error.detail, { place: error.place, logTail });
}

/** An end without a last message, named by what is known of it. */
async function crash(end: End, logTail: string, peakBytes: number, kernelKillsBefore: number): Promise<ServiceError> {
  const peak = peakBytes > 0 ? `; it used up to ${mebibytes(peakBytes)}` : '';
  if (end.error !== undefined)
    return new ServiceError('JOB_CRASHED', `the process could not be started: ${end.error.message}`, { logTail, cause: end.error });
  if (allocationFailed.test(logTail)) return new ServiceError('JOB_OUT_OF_MEMORY', `the process ran out of memory${peak}`, { logTail });
  if (end.signal === 'SIGKILL' && (await outOfMemoryKills()) > kernelKillsBefore)
    return new ServiceError('JOB_OUT_OF_MEMORY', `the system ran out of memory and killed the process${peak}`, { logTail });
  const how =
    end.signal !== null
      ? `was killed by ${end.signal} (${signalMeaning(end.signal)})`
      : `ended with exit code ${end.code} without giving a result`;
  const words = logTail === '' ? '; it wrote nothing' : `; its last line was: ${logTail.split('\n').at(-1)}`;
  return new ServiceError('JOB_CRASHED', `the process ${how}${peak}${words}`, { logTail });
}

function signalMeaning(signal: NodeJS.Signals): string {
  switch (signal) {
    case 'SIGSEGV':
      return 'it touched memory that is not its own';
    case 'SIGABRT':
      return 'native code gave up';
    case 'SIGILL':
      return 'an instruction that this processor does not have';
    case 'SIGBUS':
      return 'a file it read was cut off, or the disk is full';
    case 'SIGFPE':
      return 'a division by zero in native code';
    case 'SIGKILL':
      return 'from outside';
    default:
      return 'from outside or by native code';
  }
}

function lowerPriority(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) os.setPriority(child.pid, niceness);
  } catch {
    // The process is gone already, or this system does not allow it; priority is a courtesy.
  }
}

function watchMemory(child: ChildProcess, limit: number, tooMuch: (bytes: number) => void): { peak(): number; stop(): void } {
  let peak = 0;
  const timer = setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
    const bytes = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
    peak = Math.max(peak, bytes);
    if (bytes > limit) {
      clearInterval(timer);
      tooMuch(bytes);
    }
  }, watchMemoryEveryMs);
  return { peak: () => peak, stop: () => clearInterval(timer) };
}

/** How often the kernel has killed for want of memory since it started; 0 where it does not say. */
async function outOfMemoryKills(): Promise<number> {
  const statistics = await readFile('/proc/vmstat', 'utf8').catch(() => '');
  return Number(/^oom_kill (\d+)/m.exec(statistics)?.[1] ?? 0);
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
