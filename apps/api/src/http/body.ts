import type { Readable } from 'node:stream';
import { ServiceError } from '@octet/contracts';

/** A sender below this rate gives up its place: a byte a minute is not an upload. */
const slowestBytesPerSecond = 1024;

/**
 * The bytes of an upload as they come. Only the time in which the sender is waited for counts: after `idleMs` of it with less than
 * 1 KiB a second the upload is given up. The source is neither destroyed nor read on when the reader stops: the answer still has to
 * leave by the same connection.
 * @throws ServiceError UPLOAD_ABORTED when the sender is gone or too slow
 */
export async function* bytesOf(source: Readable, idleMs: number): AsyncGenerator<Buffer, void> {
  const least = Math.ceil((slowestBytesPerSecond * idleMs) / 1000);
  let [waited, received] = [0, 0];
  let total = 0;
  for (;;) {
    const chunk: Buffer | null = source.read();
    if (chunk !== null) {
      received += chunk.length;
      total += chunk.length;
      yield chunk;
      continue;
    }
    if (source.readableEnded) return;
    if (source.destroyed) throw aborted('the connection was closed', total);
    const since = performance.now();
    await somethingHappens(source, idleMs - waited);
    waited += performance.now() - since;
    if (waited < idleMs) continue;
    if (received < least)
      throw aborted(
        received === 0 ? `nothing came in for ${idleMs / 1000} s` : `only ${received} bytes came in within ${idleMs / 1000} s`,
        total,
      );
    [waited, received] = [0, 0];
  }
}

/**
 * The bytes of a short body, which must be there within a time.
 * @throws ServiceError REQUEST_TIMED_OUT; UPLOAD_ABORTED when the sender is gone
 */
export async function* bytesWithin(source: Readable, ms: number): AsyncGenerator<Buffer, void> {
  const deadline = performance.now() + ms;
  let total = 0;
  for (;;) {
    const chunk: Buffer | null = source.read();
    if (chunk !== null) {
      total += chunk.length;
      yield chunk;
      continue;
    }
    if (source.readableEnded) return;
    if (source.destroyed) throw aborted('the connection was closed', total);
    const left = deadline - performance.now();
    if (left <= 0) throw new ServiceError('REQUEST_TIMED_OUT', `The body was not complete after ${ms / 1000} s (${total} bytes came in).`);
    await somethingHappens(source, left);
  }
}

/** Settles when there is something to read, nothing more will come, or the time is over. */
function somethingHappens(source: Readable, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(clock);
      source.off('readable', done).off('end', done).off('close', done).off('error', done);
      resolve();
    };
    const clock = setTimeout(done, Math.max(0, ms));
    source.on('readable', done).on('end', done).on('close', done).on('error', done);
  });
}

function aborted(why: string, bytes: number): ServiceError {
  return new ServiceError('UPLOAD_ABORTED', `The upload broke off after ${bytes} bytes: ${why}.`);
}
