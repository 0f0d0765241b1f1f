import os from 'node:os';
import path from 'node:path';
import { createLog, openQueue, openStore, readPatience } from '@octet/store';
import closeWithGrace from 'close-with-grace';
import { readEnvironment } from './config.js';
import { startWorker } from './worker.js';

/** Longer than a job process takes to end. A database that stands still is not waited for: SIGTERM ends the process within 10 s. */
const graceMs = 9_000;

/** A worker as a process of its own: settings from the environment, until SIGTERM. */
async function main(): Promise<void> {
  const environment = readEnvironment(process.env);
  const log = createLog({ name: 'octet-worker', level: environment.logLevel });
  const patience = readPatience(process.env);
  const store = await openStore({ databaseUrl: environment.databaseUrl, log, patience });
  const queue = await openQueue({ databaseUrl: environment.databaseUrl, redisUrl: environment.redisUrl, log, patience });
  const worker = await startWorker({
    store,
    queue,
    concurrency: environment.concurrency,
    workDirectory: environment.workDirectory ?? path.join(os.tmpdir(), 'octet-work'),
    jobMemoryBytes: environment.jobMemoryBytes,
    maxStarts: environment.maxStarts,
    log,
  });
  closeWithGrace({ delay: graceMs, logger: false }, async ({ err, signal }) => {
    if (err) log.fatal({ err }, 'stopping because of an error');
    else log.info({ signal }, 'stopping');
    await worker.close();
    await queue.close();
    await store.close();
  });
}

main().catch((error: unknown) => {
  process.stderr.write(`octet worker: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
