import { Worker } from 'node:worker_threads';
import { OctetError } from '../../errors.js';
import type { DType } from '../../tensor/dtype.js';
import { Tensor } from '../../tensor/tensor.js';
import type { ShardedProgram } from '../engine.js';
import type { Plain } from './binding.js';
import type { Vectors } from './vectors.js';

type Feeds = Readonly<Record<string, Tensor>>;
type Plains = Record<string, Plain>;
interface Answer {
  feeds: Plains;
  results: Plains;
}

/** One worker thread that hosts sessions. It does not keep the process alive while it has nothing to do. */
class SessionThread {
  private readonly worker = new Worker(new URL('./session-worker.js', import.meta.url), { execArgv: [] });
  private readonly waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  /** Memory for feeds by their name, of all programs: one of them runs at a time, and the parameters of a network are fed to several. */
  readonly feeds = new Map<string, ArrayBuffer>();
  private lastId = 0;
  /** Why the thread is gone. */
  private ended: Error | undefined;

  constructor() {
    this.worker.unref();
    this.worker.on('message', ({ id, error, ...answer }: Answer & { id: number; error?: string }) => {
      const waiter = this.waiting.get(id);
      this.waiting.delete(id);
      if (!this.waiting.size) this.worker.unref();
      if (error === undefined) waiter?.resolve(answer);
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

  request(message: Record<string, unknown>, lent: readonly ArrayBuffer[] = []): Promise<Answer> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.lastId;
    this.worker.ref();
    return new Promise<Answer>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message }, lent);
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

/** Memory of the run before, where it is large enough. */
function take(memory: Map<string, ArrayBuffer>, slot: string, bytes: number): ArrayBuffer {
  const kept = memory.get(slot);
  memory.delete(slot);
  return kept && kept.byteLength >= bytes ? kept : new ArrayBuffer(bytes);
}

const tensors = (results: Plains) =>
  Object.fromEntries(Object.entries(results).map(([name, { dtype, shape, data }]) => [name, new Tensor(dtype as DType, shape, data)]));

let hosts = 0;
/** Programs that are not disposed. */
let living = 0;

/**
 * Shards spread over worker threads, one single-threaded session each. Feeds, and vectors among the results, lie in memory that passes from hand to hand: it is
 * lent to a thread with a run, and comes back with the answer. Neither side copies what the other has written, and the next run uses it again.
 */
export class ThreadedShards implements ShardedProgram {
  /** Memory for the vectors among the results of each shard. */
  private readonly memory: Map<string, ArrayBuffer>[] = [];
  private last: Promise<unknown> = Promise.resolve();
  private disposed = false;

  private constructor(
    private readonly threads: readonly SessionThread[],
    /** Number of this program's session in every thread. */
    private readonly host: number,
    private readonly vectors: Vectors,
  ) {}

  /** @throws OctetError MODEL_RUN_FAILED */
  static async create(bytes: Uint8Array, options: object, vectors: Vectors, threads: number): Promise<ThreadedShards> {
    const host = ++hosts;
    const program = new ThreadedShards(threadsFor(threads), host, vectors);
    living++;
    const all = await Promise.allSettled(
      program.threads.map((thread) => thread.request({ kind: 'create', host, bytes, options, vectors })),
    );
    for (const one of all) {
      if (one.status === 'fulfilled') continue;
      await program.dispose();
      throw one.reason;
    }
    return program;
  }

  /** Runs wait for each other: all of them use the same memory. */
  run(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    if (this.disposed) return Promise.reject(new OctetError('MODEL_RUN_FAILED', 'The program has been disposed'));
    const results = this.last.then(() => this.runNow(shards));
    this.last = results.catch(() => undefined);
    return results;
  }

  private async runNow(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    const all = await Promise.allSettled(shards.map((feeds, shard) => this.runShard(feeds, shard)));
    return all.map((one) => {
      if (one.status === 'rejected') throw one.reason;
      return tensors(one.value);
    });
  }

  private async runShard(given: Feeds, shard: number): Promise<Plains> {
    const { host, vectors } = this;
    const thread = this.threads[shard % this.threads.length] as SessionThread;
    const own = this.memory[shard] ?? new Map<string, ArrayBuffer>();
    this.memory[shard] = own;
    const feeds: Plains = {};
    const memory: Record<string, Float32Array> = {};
    for (const [name, { dtype, shape, data }] of Object.entries(given)) {
      const lent = new (data.constructor as Float32ArrayConstructor)(take(thread.feeds, name, data.byteLength), 0, data.length);
      lent.set(data as Float32Array);
      feeds[name] = { dtype, shape, data: lent };
    }
    for (const [name, { size }] of Object.entries(vectors.results)) memory[name] = new Float32Array(take(own, name, 4 * size), 0, size);
    const lent = [...Object.values(feeds).map(({ data }) => data), ...Object.values(memory)].map(({ buffer }) => buffer as ArrayBuffer);
    const { feeds: back, results } = await thread.request({ kind: 'run', host, feeds, memory }, lent);
    for (const [name, { data }] of Object.entries(back)) thread.feeds.set(name, data.buffer as ArrayBuffer);
    for (const name of Object.keys(memory)) own.set(name, results[name]?.data.buffer as ArrayBuffer);
    return results;
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    await this.last;
    this.memory.length = 0;
    // A thread that is gone has taken its sessions along.
    await Promise.allSettled(this.threads.map((thread) => thread.request({ kind: 'release', host: this.host })));
    if (--living === 0) for (const thread of pool) thread.feeds.clear();
  }
}
