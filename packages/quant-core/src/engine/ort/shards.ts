import { Worker } from 'node:worker_threads';
import { OctetError } from '../../errors.js';
import type { DType } from '../../tensor/dtype.js';
import { Tensor } from '../../tensor/tensor.js';
import type { ShardedProgram } from '../engine.js';

type Feeds = Readonly<Record<string, Tensor>>;
type Plain = Record<string, { dtype: DType; shape: number[]; data: Float32Array }>;

/** One worker thread with a session of its own. */
class SessionThread {
  private readonly worker = new Worker(new URL('./session-worker.js', import.meta.url), { execArgv: [] });
  private readonly waiting = new Map<number, { resolve: (results: Plain) => void; reject: (error: Error) => void }>();
  private lastId = 0;
  /** Settles with the last request; the thread answers them in their order. */
  private idle: Promise<unknown> = Promise.resolve();
  /** Why the thread is gone. */
  private ended: Error | undefined;

  constructor() {
    this.worker.on('message', ({ id, results, error }: { id: number; results: Plain; error?: string }) => {
      const waiter = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) waiter?.resolve(results);
      else waiter?.reject(new OctetError('MODEL_RUN_FAILED', error));
    });
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) => this.fail(new Error(`a training thread ended with code ${code}`)));
  }

  private fail(error: Error): void {
    this.ended ??= error;
    for (const waiter of this.waiting.values()) waiter.reject(error);
    this.waiting.clear();
  }

  request(message: Record<string, unknown>): Promise<Plain> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.lastId;
    const answer = new Promise<Plain>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message });
    });
    this.idle = answer.catch(() => undefined);
    return answer;
  }

  /** Ends the thread when its work is done: the runtime aborts the whole process where a thread ends while it computes. */
  async close(): Promise<void> {
    await this.idle;
    await this.worker.terminate();
  }
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

/** Shards spread over worker threads, one single-threaded session each. Feeds and results pass through shared memory that the next run uses again. */
export class ThreadedShards implements ShardedProgram {
  private readonly feeds = new SharedFeeds();
  private last: Promise<unknown> = Promise.resolve();

  private constructor(private readonly threads: readonly SessionThread[]) {}

  /** @throws OctetError MODEL_RUN_FAILED */
  static async create(bytes: Uint8Array, options: object, threads: number): Promise<ThreadedShards> {
    const all = Array.from({ length: threads }, () => new SessionThread());
    try {
      await Promise.all(all.map((thread) => thread.request({ kind: 'create', bytes, options })));
    } catch (error) {
      await Promise.all(all.map((thread) => thread.close()));
      throw error;
    }
    return new ThreadedShards(all);
  }

  /** Runs wait for each other: all of them use the same shared memory. */
  run(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    const results = this.last.then(() => this.runNow(shards));
    this.last = results.catch(() => undefined);
    return results;
  }

  private async runNow(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    const { threads } = this;
    const all = await Promise.allSettled(
      this.feeds
        .place(shards)
        .map((feeds, shard) => (threads[shard % threads.length] as SessionThread).request({ kind: 'run', shard, feeds })),
    );
    return all.map((one) => {
      if (one.status === 'rejected') throw one.reason;
      return tensors(one.value);
    });
  }

  async dispose(): Promise<void> {
    await this.last;
    await Promise.all(this.threads.map((thread) => thread.close()));
  }
}
