import { openQueue, openStore } from '@octet/store';
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { createApi } from './app.js';
import { apiConfig, readEnvironment } from './config.js';
import { loggerOptions } from './logging.js';

const graceMs = 20_000;

/** The API as a process of its own: settings from the environment, until SIGTERM. */
async function main(): Promise<void> {
  const environment = readEnvironment();
  const config = apiConfig(environment);
  const log = pino(loggerOptions(environment.LOG_LEVEL));
  const store = await openStore({ databaseUrl: environment.DATABASE_URL, log });
  const queue = await openQueue({ databaseUrl: environment.DATABASE_URL, redisUrl: environment.REDIS_URL, log });
  const app = await createApi({ store, queue, config, log });
  closeWithGrace({ delay: graceMs, logger: false }, async ({ err, signal }) => {
    if (err) log.fatal({ err }, 'stopping because of an error');
    else log.info({ signal }, 'stopping');
    await app.close();
    await queue.close();
    await store.close();
  });
  await app.listen({ host: config.host, port: config.port });
}

main().catch((error: unknown) => {
  process.stderr.write(`octet api: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
