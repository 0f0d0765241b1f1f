import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ApiConfig, createApi, defaultConfig } from '@octet/api';
import { type JobQueue, openQueue, openStore, type Store } from '@octet/store';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { startPostgres } from './services.js';

/** The API on a database of its own and a listening socket. */
export interface TestApi {
  app: FastifyInstance;
  store: Store;
  queue: JobQueue;
  /** Where it listens, without a slash at the end. */
  url: string;
  databaseUrl: string;
  /** Uploads that lie in its temporary directory. */
  staged(): Promise<string[]>;
  close(): Promise<void>;
}

/**
 * Start the API; nothing works on its jobs. `route` may lead its connections to the database another way; `module` holds other commands
 * for the processes of its inspections.
 */
export async function startApi(
  settings: Partial<ApiConfig> = {},
  {
    redisUrl,
    module,
    route = async (url: string) => url,
  }: { redisUrl?: string; module?: string; route?: (databaseUrl: string) => Promise<string> } = {},
): Promise<TestApi> {
  const log = pino({ level: process.env.OCTET_TEST_LOG ?? 'silent' });
  const { url: directUrl, drop } = await startPostgres();
  const databaseUrl = await route(directUrl);
  const tempDirectory = await mkdtemp(join(tmpdir(), 'octet-test-api-'));
  const store = await openStore({ databaseUrl, log });
  const queue = await openQueue({ databaseUrl, redisUrl, log });
  const config = { ...defaultConfig, tempDirectory, requestsPerMinute: 0, ...settings };
  const app = await createApi({ store, queue, config, log, testing: { module } });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return {
    app,
    store,
    queue,
    url,
    databaseUrl,
    staged: () => readdir(tempDirectory),
    async close() {
      await app.close();
      await queue.close();
      await store.close();
      await drop();
      await rm(tempDirectory, { recursive: true, force: true });
    },
  };
}

/** A multipart body for `fetch`: texts as they are, bytes as files. */
export function form(parts: Record<string, string | Uint8Array>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(parts)) {
    if (typeof value === 'string') data.append(name, value);
    else data.append(name, new Blob([new Uint8Array(value)]), `${name}.bin`);
  }
  return data;
}
