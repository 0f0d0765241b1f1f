import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import pg from 'pg';
import { inject } from 'vitest';
import { templateDatabase } from './global-setup.js';

/** A database of its own, cloned from the migrated template. */
export async function startPostgres(): Promise<{ url: string; drop(): Promise<void> }> {
  const server = inject('postgresUrl');
  if (server === undefined) throw new Error('tests/support/global-setup.ts must be the globalSetup of this vitest project');
  const name = `test_${randomBytes(8).toString('hex')}`;
  await administer(server, `CREATE DATABASE ${name} TEMPLATE ${templateDatabase}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => administer(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

async function administer(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

export interface TestRedis {
  url: string;
  flush(): Promise<void>;
  /** Ends the server; `restart` brings up an empty one on the same port. */
  stop(): Promise<void>;
  restart(): Promise<void>;
}

/** Ends the server and removes its directory when standard input closes: when it is stopped, or the process that started it is gone, however it went. */
const redisWhileWanted = 'mkdir -p "$0"; redis-server "$@" & server=$!; cat >/dev/null; kill -9 "$server"; wait "$server"; rm -rf "$0"';

/** A Redis of its own, with nothing kept on disk. */
export async function startRedis(): Promise<TestRedis> {
  const directory = await mkdtemp(path.join(tmpdir(), 'octet-test-redis-'));
  const port = await freePort();
  const url = `redis://127.0.0.1:${port}`;
  let child: ChildProcess;
  const start = async () => {
    const settings = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      directory,
      '--maxmemory-policy',
      'noeviction',
    ];
    child = spawn('/bin/sh', ['-c', redisWhileWanted, directory, ...settings], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    const failed = new Promise<never>((_resolve, reject) =>
      child.once('error', (error) => reject(new Error(`redis-server cannot be started: ${error.message}`))),
    );
    await Promise.race([answers(url), failed]);
  };
  const end = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.stdin?.end();
    await gone;
  };
  await start();
  return {
    url,
    async flush() {
      const redis = new Redis(url);
      await redis.flushall();
      redis.disconnect();
    },
    stop: end,
    async restart() {
      await end();
      await start();
    },
  };
}

async function answers(url: string): Promise<void> {
  const redis = new Redis(url, { retryStrategy: () => 20 });
  redis.on('error', () => undefined);
  try {
    await redis.ping();
  } finally {
    redis.disconnect();
  }
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Polls until the check gives something other than undefined, null or false. */
export async function until<T>(check: () => Promise<T> | T, what: string, ms = 30_000): Promise<NonNullable<T>> {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== null && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`gave up waiting for: ${what}`);
    await sleep(25);
  }
}
