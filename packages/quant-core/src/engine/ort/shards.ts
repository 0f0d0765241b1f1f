import { Worker } from 'node:worker_threads';
import { OctetError } from '../../errors.js';
import type { DType } from '../../tensor/dtype.js';
import { Tensor } from '../../tensor/tensor.js';
import type { ShardedProgram } from '../engine.js';

type Feeds = Readonly<Record<string, Tensor>>;
type Plain = Record<string, { dtype: DType; shape: number[]; data: Float32Array }>;

/** One worker thread that hosts sessions. It does not keep the process alive while it has nothing to do. */
class SessionThread {
  private readonly worker = new Worker(new URL('./session-worker.js', import.meta.url), { execArgv: [] });
  private readonly waiting = new Map<number, { resolve: (results: Plain) => void; reject: (error: Error) => void }>();
  private lastId = 0;
  /** Why the thread is gone. */
  private ended: Error | undefined;

  constructor() {
    this.worker.unref();
    this.worker.on('message', ({ id, results, error }: { id: number; results: Plain; error?: string }) => {
      const waiter = this.waiting.get(id);
      this.waiting.delete(id);
      if (!this.waiting.size) this.worker.unref();
      if (error === undefined) waiter?.resolve(results);
      else waiter?.reject(new OctetError('MODEL_RUN_FAILED', error));
    });
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) => this.fail(new Error(`a training thread ended with code ${code}`)));
  }

  get alive(): boolean {
    return !this.ended;
  }

  private fail(error: Error): void {
    this.ended ??= error;
    for (const waiter of this.waiting.values()) waiter.reject(error);
    this.waiting.clear();
  }

  request(message: Record<string, unknown>): Promise<Plain> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.lastId;
    this.worker.ref();
    return new Promise<Plain>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message });
    });
  }
}

/**
 * The threads of this process. A thread takes as long to start as a small network takes to train for a step, so that programs share them, and they
 * are never ended: the runtime aborts the whole process where a thread ends while it computes.
 */
const pool: SessionThread[] = [];

/** The first `count` threads, started where they are missing or gone. */
function threadsFor(count: number): SessionThread[] {
  return Array.from({ length: count }, (_, index) => {
    if (!pool[index]?.alive) pool[index] = new SessionThread();
    return pool[index];
  });
}

/** Parts that batches are cut into, in calibration and in training. */
const usualShards = 2;

/** Let the threads that a job takes start, while something else is done. */
export function startThreads(): void {
  threadsFor(usualShards);
}

/**
 * Feeds on their way to the threads, in shared memory that is kept for the next run. What several shards are fed lies there once.
 * Without it every thread's copy of the weights would be made twice, in new memory, at every step.
 */
class SharedFeeds {
  private readonly slots = new Map<string, SharedArrayBuffer>();

  /** The feeds of each shard, copied. They stay valid until the next call. */
  place(shards: readonly Feeds[]): Plain[] {
    const placed = new Map<Tensor, Plain[string]>();
    return shards.map((feeds, shard) =>
      Object.fromEntries(
        Object.entries(feeds).map(([name, tensor]) => {
          const known = placed.get(tensor) ?? this.copy(`${shard} ${name}`, tensor);
          placed.set(tensor, known);
          return [name, known];
        }),
      ),
    );
  }

  private copy(slot: string, { dtype, shape, data }: Tensor): Plain[string] {
    let buffer = this.slots.get(slot);
    if (!buffer || buffer.byteLength < data.byteLength) {
      buffer = new SharedArrayBuffer(data.byteLength);
      this.slots.set(slot, buffer);
    }
    const Values = data.constructor as Float32ArrayConstructor;
    const shared = new Values(buffer, 0, data.length);
    shared.set(data as Float32Array);
    return { dtype, shape: [...shape], data: shared };
  }
}

const tensors = (results: Plain) =>
  Object.fromEntries(Object.entries(results).map(([name, { dtype, shape, data }]) => [name, new Tensor(dtype, shape, data)]));

let hosts = 0;

/** Shards spread over worker threads, one single-threaded session each. Feeds and results pass through shared memory that the next run uses again. */
export class ThreadedShards implements ShardedProgram {
  private readonly feeds = new SharedFeeds();
  private last: Promise<unknown> = Promise.resolve();
  private disposed = false;

  private constructor(
    private readonly threads: readonly SessionThread[],
    /** Number of this program's session in every thread. */
    private readonly host: number,
  ) {}

  /** @throws OctetError MODEL_RUN_FAILED */
  static async create(bytes: Uint8Array, options: object, threads: number): Promise<ThreadedShards> {
    const host = ++hosts;
    const program = new ThreadedShards(threadsFor(threads), host);
    const all = await Promise.allSettled(program.threads.map((thread) => thread.request({ kind: 'create', host, bytes, options })));
    for (const one of all) {
      if (one.status === 'fulfilled') continue;
      await program.dispose();
      throw one.reason;
    }
    return program;
  }

  /** Runs wait for each other: all of them use the same shared memory. */
  run(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    if (this.disposed) return Promise.reject(new OctetError('MODEL_RUN_FAILED', 'The program has been disposed'));
    const results = this.last.then(() => this.runNow(shards));
    this.last = results.catch(() => undefined);
    return results;
  }

  private async runNow(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    const { threads, host } = this;
    const all = await Promise.allSettled(
      this.feeds
        .place(shards)
        .map((feeds, shard) => (threads[shard % threads.length] as SessionThread).request({ kind: 'run', host, shard, feeds })),
    );
    return all.map((one) => {
      if (one.status === 'rejected') throw one.reason;
      return tensors(one.value);
    });
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    await this.last;
    // A thread that is gone has taken its sessions along.
    await Promise.allSettled(this.threads.map((thread) => thread.request({ kind: 'release', host: this.host })));
  }
}
