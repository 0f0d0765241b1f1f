import { expireQueued, openQueue, openStore, readPatience, seldom } from '@octet/store';
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { createApi } from './app.js';
import { apiConfig, readEnvironment } from './config.js';
import { loggerOptions } from './logging.js';

/** SIGTERM ends the process within 10 s, also while the database stands still. */
const graceMs = 9_000;
/** Jobs that waited too long fail also while no worker is there. */
const expireEveryMs = 5_000;

/** The API as a process of its own: settings from the environment, until SIGTERM. */
async function main(): Promise<void> {
  const environment = readEnvironment();
  const config = apiConfig(environment);
  const log = pino(loggerOptions(environment.LOG_LEVEL));
  const patience = readPatience(process.env);
  const store = await openStore({ databaseUrl: environment.DATABASE_URL, log, patience });
  const queue = await openQueue({ databaseUrl: environment.DATABASE_URL, redisUrl: environment.REDIS_URL, log, patience });
  const app = await createApi({ store, queue, config, log });
  const warn = seldom(log);
  let expiring: Promise<unknown> | undefined;
  const expiry = setInterval(() => {
    expiring ??= expireQueued(store)
      .catch((error: unknown) => warn({ err: error }, 'jobs that waited too long cannot be searched for now'))
      .finally(() => {
        expiring = undefined;
      });
  }, expireEveryMs);
  closeWithGrace({ delay: graceMs, logger: false }, async ({ err, signal }) => {
    if (err) log.fatal({ err }, 'stopping because of an error');
    else log.info({ signal }, 'stopping');
    clearInterval(expiry);
    await app.close();
    await expiring;
    await queue.close();
    await store.close();
  });
  await app.listen({ host: config.host, port: config.port });
}

main().catch((error: unknown) => {
  process.stderr.write(`octet api: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
