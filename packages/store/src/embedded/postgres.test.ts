import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../../../../tests/support/services.js';
import { locateBinaries } from './binaries.js';
import { startEmbeddedPostgres } from './postgres.js';
import { runningServer } from './running.js';

const holder = fileURLToPath(new URL('../../../../tests/support/embedded-holder.ts', import.meta.url));
let directory: string;
let data: string;
const children: ChildProcess[] = [];

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'octet-test-embedded-'));
  data = path.join(directory, 'data');
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true });
});

async function query<T extends pg.QueryResultRow>(url: string, sql: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<T>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Starts the holder process; resolves with what it says. */
async function hold(): Promise<{ child: ChildProcess; url?: string; error?: string; code?: string }> {
  const tsx = createRequire(import.meta.url).resolve('tsx');
  const child = fork(holder, [directory], { execArgv: ['--import', tsx], stdio: 'ignore' });
  children.push(child);
  const said = await new Promise<object>((resolve) => child.once('message', (message) => resolve(message as object)));
  return { child, ...said };
}

describe('an embedded Postgres', () => {
  test('starts from nothing, keeps its data, and leaves no process and no half-made cluster', async () => {
    const first = await startEmbeddedPostgres({ directory });
    await query(first.url, 'CREATE TABLE kept (x int); INSERT INTO kept VALUES (42)');
    expect((await query<{ listen_addresses: string }>(first.url, 'SHOW listen_addresses'))[0]?.listen_addresses).toBe('127.0.0.1');
    await first.stop();
    await first.stop();
    expect(await runningServer(data)).toBeNull();
    const second = await startEmbeddedPostgres({ directory });
    expect(await query(second.url, 'SELECT x FROM kept')).toEqual([{ x: 42 }]);
    await second.stop();
    expect((await readdir(directory)).filter((name) => name.startsWith('init-'))).toEqual([]);
  });

  test('is refused to a second owner, who leaves the first alone', async () => {
    const first = await startEmbeddedPostgres({ directory });
    await expect(startEmbeddedPostgres({ directory })).rejects.toMatchObject({
      code: 'DATA_DIRECTORY_IN_USE',
      message: expect.stringContaining(`process ${process.pid}`),
    });
    expect((await hold()).code).toBe('DATA_DIRECTORY_IN_USE');
    expect(await query(first.url, 'SELECT x FROM kept')).toEqual([{ x: 42 }]);
    await first.stop();
  });

  test('ends when its owner is killed, and starts again with all that was committed', async () => {
    const { child, url = '' } = await hold();
    await query(url, 'INSERT INTO kept VALUES (43)');
    child.kill('SIGKILL');
    const again = await startEmbeddedPostgres({ directory });
    expect(await query(again.url, 'SELECT x FROM kept ORDER BY x')).toEqual([{ x: 42 }, { x: 43 }]);
    await again.stop();
    expect(await runningServer(data)).toBeNull();
  });

  test('recovers when server and owner were killed, also when the number of the server is taken by another process', async () => {
    const { child, url = '' } = await hold();
    await query(url, 'INSERT INTO kept VALUES (44)');
    const server = await runningServer(data);
    process.kill(server?.pid ?? 0, 'SIGKILL');
    child.kill('SIGKILL');
    await until(async () => (await runningServer(data)) === null, 'the end of the server');
    const lines = (await readFile(path.join(data, 'postmaster.pid'), 'utf8')).split('\n');
    await writeFile(path.join(data, 'postmaster.pid'), [process.pid, ...lines.slice(1)].join('\n'));
    const again = await startEmbeddedPostgres({ directory });
    expect(await query(again.url, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 3 }]);
    await again.stop();
  });

  test('is taken over from an owner who died without it', async () => {
    const { child, url = '' } = await hold();
    const server = await runningServer(data);
    child.kill('SIGSTOP');
    const shell = Number(/^PPid:\s+(\d+)/m.exec(await readFile(`/proc/${server?.pid}/status`, 'utf8'))?.[1]);
    process.kill(shell, 'SIGKILL');
    const watchers = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
    for (const pid of watchers) {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (command.includes('octet-postgres') && command.includes(data)) process.kill(Number(pid), 'SIGKILL');
    }
    child.kill('SIGKILL');
    await until(() => query(url, 'SELECT pg_sleep(0)').then(() => true), 'the server that is left');
    const again = await startEmbeddedPostgres({ directory });
    expect(again.url).not.toBe(url);
    expect((await runningServer(data))?.pid).not.toBe(server?.pid);
    await again.stop();
  });

  test('tells why it cannot start', async () => {
    await expect(startEmbeddedPostgres({ directory, settings: { shared_buffers: 'plenty' } })).rejects.toMatchObject({
      code: 'EMBEDDED_POSTGRES',
      message: expect.stringContaining('shared_buffers'),
    });
    const well = await startEmbeddedPostgres({ directory });
    await well.stop();
  });
});

test('programs whose package was installed without its script, or without rights, are mended', async () => {
  const { postgres } = await locateBinaries({ otherAccount: false, copyTo: directory });
  const native = path.resolve(path.dirname(postgres), '..');
  const bare = path.join(directory, 'bare');
  await cp(path.dirname(native), bare, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(await readFile(path.join(bare, 'native', 'pg-symlinks.json'), 'utf8')) as { target: string }[];
  for (const { target } of links) await rm(path.join(bare, target), { force: true });
  await chmod(path.join(bare, 'native/bin/initdb'), 0o644);
  const { mend } = await import('./binaries.js');
  expect(await mend(path.join(bare, 'native'))).toBe(true);
  expect(links.length).toBeGreaterThan(3);
  for (const { target } of links) expect(existsSync(path.join(bare, target)), target).toBe(true);
});
