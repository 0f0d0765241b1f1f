import { mkdir, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { apiConfig, createApi, readEnvironment } from '@octet/api';
import { openQueue, openStore, type Patience, readPatience, startEmbeddedPostgres } from '@octet/store';
import { startWorker } from '@octet/worker';
import type { Logger } from 'pino';
import { CliError } from '../errors.js';

export interface ServiceOptions {
  /** Directory of the embedded database and of files on their way. */
  data: string;
  host: string;
  /** Ports to try in order; the last may be 0 for any that is free. */
  ports: readonly number[];
  /** A PostgreSQL of one's own in place of the embedded one. */
  databaseUrl?: string | undefined;
  /** BullMQ on Redis in place of PostgreSQL. */
  redisUrl?: string | undefined;
  /** Jobs at a time. */
  concurrency?: number | undefined;
  jobMemoryBytes?: number | undefined;
  /** Starts of a job that may fail through the worker. */
  jobStarts?: number | undefined;
  /** Further settings of the API. */
  environment: NodeJS.ProcessEnv;
  log: Logger;
  /** Told how long a part has been starting, while it does; the log when left out. */
  say?: ((text: string) => void) | undefined;
  /** Stops a start that is under way. */
  signal: AbortSignal;
}

export interface Service {
  /** Address for clients on this machine. */
  url: string;
  port: number;
  queue: 'redis' | 'postgres';
  /** Stops everything in the opposite order of the start; jobs that run go back to the queue. */
  close(): Promise<void>;
}

/** The port of Octet, or any other free one when none was asked for. */
export const usualPorts = [8080, 0] as const;

const slowestRequestMs = 2_000;
/** A start that takes long says so this often: within 5 s. */
const sayEveryMs = 4_500;

/**
 * API, worker and, without a database of one's own, an embedded PostgreSQL in this process. What was started is stopped again when the
 * start fails or is broken off.
 * @throws CliError SERVICE_SETTINGS, PORT_TAKEN; ServiceError EMBEDDED_POSTGRES, DATA_DIRECTORY_IN_USE, DATABASE_UNAVAILABLE, QUEUE_UNAVAILABLE
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { data, host, redisUrl, log, signal, say = (text) => log.info(text) } = options;
  const closers: (() => Promise<unknown>)[] = [];
  const started = async <T>(name: string, start: Promise<T>, close: (part: T) => Promise<unknown>): Promise<T> => {
    const since = performance.now();
    const beat = setInterval(() => say(`starting: ${name}, ${Math.round((performance.now() - since) / 1000)} s`), sayEveryMs);
    try {
      const part = await start;
      closers.push(() => close(part));
      signal.throwIfAborted();
      return part;
    } finally {
      clearInterval(beat);
    }
  };
  const close = async () => {
    for (let next = closers.pop(); next !== undefined; next = closers.pop()) {
      await next().catch((error: unknown) => log.error({ err: error }, 'a part of the service did not stop as it should'));
    }
  };

  try {
    signal.throwIfAborted();
    const files = path.join(data, 'files');
    await mkdir(files, { recursive: true });
    let { databaseUrl } = options;
    if (databaseUrl === undefined) {
      // The database is local: a crash of the machine may cost the last moments, but never what was there before.
      const postgres = await started('PostgreSQL', startEmbeddedPostgres({ directory: path.join(data, 'postgres'), signal }), (server) =>
        server.stop(),
      );
      databaseUrl = postgres.url;
      // Nobody else owns the directory now, so what lies here was left behind by a process that was killed.
      await rm(files, { recursive: true, force: true });
      await mkdir(files, { recursive: true });
    }
    const { config, patience } = settings(
      {
        OCTET_TEMP: path.join(files, 'uploads'),
        ...options.environment,
        HOST: host,
        PORT: '0',
        DATABASE_URL: databaseUrl,
      },
      signal,
    );
    const store = await started('database', openStore({ databaseUrl, log, patience }), (part) => part.close());
    const queue = await started('queue', openQueue({ databaseUrl, redisUrl, log, patience }), (part) => part.close());
    await started(
      'worker',
      startWorker({
        store,
        queue,
        concurrency: options.concurrency,
        jobMemoryBytes: options.jobMemoryBytes,
        maxStarts: options.jobStarts,
        workDirectory: path.join(files, 'jobs'),
        log,
      }),
      (part) => part.close(),
    );
    const api = await started('API', createApi({ store, queue, config, log }), async (part) => {
      // Waiting requests are answered at once; an upload that is slow to come is not waited for.
      const late = setTimeout(() => part.server.closeAllConnections(), slowestRequestMs);
      await part.close();
      clearTimeout(late);
    });
    const port = await listen(api, host, options.ports);
    signal.throwIfAborted();
    return { url: `http://${addressFor(host)}:${port}`, port, queue: queue.backend, close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Listener {
  listen(options: { host: string; port: number }): Promise<string>;
  server: { address(): AddressInfo | string | null };
}

/** Listens on the first port that is free. Fastify cannot listen twice, but a refused listen has not listened. */
async function listen(api: Listener, host: string, ports: readonly number[]): Promise<number> {
  for (const [i, port] of ports.entries()) {
    try {
      await api.listen({ host, port });
      const address = api.server.address();
      return typeof address === 'object' && address !== null ? address.port : port;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'EADDRINUSE' && code !== 'EACCES')
        throw new CliError('SERVICE_SETTINGS', `cannot listen on ${host}: ${message}`, { cause: error });
      if (i === ports.length - 1)
        throw new CliError(
          'PORT_TAKEN',
          `port ${port} of ${host} ${code === 'EACCES' ? 'may not be used by this user' : 'is in use by another process'}`,
          { cause: error },
        );
    }
  }
  throw new CliError('PORT_TAKEN', 'no port to listen on was given');
}

function settings(environment: NodeJS.ProcessEnv, signal: AbortSignal): { config: ReturnType<typeof apiConfig>; patience: Patience } {
  try {
    return { config: apiConfig(readEnvironment(environment)), patience: { ...readPatience(environment), signal } };
  } catch (error) {
    throw new CliError('SERVICE_SETTINGS', error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** An address that a client can open: a wildcard is reached by the loopback address. */
function addressFor(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
}
