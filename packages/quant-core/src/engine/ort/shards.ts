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
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message });
    });
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }
}

/** A view is copied first: a structured clone would take all of its buffer along. */
const compact = (data: Tensor['data']) => (data.byteLength === data.buffer.byteLength ? data : data.slice());

const plain = (feeds: Feeds) =>
  Object.fromEntries(Object.entries(feeds).map(([name, { dtype, shape, data }]) => [name, { dtype, shape, data: compact(data) }]));

const tensors = (results: Plain) =>
  Object.fromEntries(Object.entries(results).map(([name, { dtype, shape, data }]) => [name, new Tensor(dtype, shape, data)]));

/** Shards spread over worker threads, one single-threaded session each. */
export class ThreadedShards implements ShardedProgram {
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

  async run(shards: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
    const { threads } = this;
    const all = await Promise.all(
      shards.map((feeds, i) => (threads[i % threads.length] as SessionThread).request({ kind: 'run', feeds: plain(feeds) })),
    );
    return all.map(tensors);
  }

  async dispose(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.close()));
  }
}
