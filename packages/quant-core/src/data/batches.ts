import { setImmediate } from 'node:timers/promises';
import type { Batch, Samples } from './dataset.js';
import { heed } from './stream.js';

export interface IndexedBatch extends Batch {
  /** Which samples they are, in the order of the rows. */
  indices: Uint32Array;
}

interface BatchOptions {
  batchSize: number;
  /** Leave out a last batch that is not full. */
  dropLast?: boolean;
  signal?: AbortSignal;
}

/**
 * The samples at `order`, in batches. The next batch is read while the caller works on the present one.
 * @throws OctetError CANCELLED when the signal fires
 */
export async function* batches(samples: Samples, order: Uint32Array, options: BatchOptions): AsyncGenerator<IndexedBatch> {
  const { batchSize, dropLast, signal } = options;
  const end = dropLast ? order.length - (order.length % batchSize) : order.length;
  const readAt = async (start: number): Promise<IndexedBatch> => {
    const indices = order.subarray(start, Math.min(start + batchSize, end));
    return { ...(await samples.batch(indices)), indices };
  };
  let next: Promise<IndexedBatch> | undefined;
  try {
    for (let start = 0; start < end; start += batchSize) {
      heed(signal);
      const present = await (next ?? readAt(start));
      const following = start + batchSize;
      next = following < end ? setImmediate().then(() => readAt(following)) : undefined;
      next?.catch(() => undefined);
      yield present;
    }
  } finally {
    await next?.catch(() => undefined);
  }
}
