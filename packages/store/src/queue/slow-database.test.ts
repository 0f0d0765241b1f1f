import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startPostgres, until } from '../../../../tests/support/services.js';
import { type SlowLine, slowLine } from '../../../../tests/support/slow-line.js';
import { openQueue } from './queue.js';

/** Longer than the queue waits for one connection. */
const lateMs = 4_000;

describe('a queue on a Postgres whose first connections come too late', () => {
  let database: Awaited<ReturnType<typeof startPostgres>>;
  let line: SlowLine;
  let lines: string[];
  let log: pino.Logger;
  beforeEach(async () => {
    database = await startPostgres();
    line = await slowLine(database.url);
    lines = [];
    log = pino({ level: 'info' }, { write: (text: string) => void lines.push(text) });
  });
  afterEach(async () => {
    line.close();
    await database.drop();
  });

  test('is opened all the same', async () => {
    line.slow(1, lateMs);
    const queue = await openQueue({ databaseUrl: line.url, log });
    await queue.enqueue(`job_${randomUUID()}`);
    expect(await queue.counts()).toEqual({ waiting: 1, active: 0 });
    expect(lines.length).toBeLessThan(5);
    await queue.close();
  });

  test('has workers that take jobs, and says little', async () => {
    const queue = await openQueue({ databaseUrl: line.url, log });
    line.slow(1, lateMs);
    const seen: string[] = [];
    const worker = await queue.createWorker(async (id) => void seen.push(id), { concurrency: 1 });
    const id = `job_${randomUUID()}`;
    await queue.enqueue(id);
    await until(() => seen.length > 0, 'the job to be taken');
    expect(seen).toEqual([id]);
    expect(lines.length).toBeLessThan(5);
    await worker.close();
    await queue.close();
  });
});
