import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, open, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '@octet/contracts';
import pg from 'pg';
import { type Account, reachableByOthers, serverAccount } from './account.js';
import { type Binaries, locateBinaries } from './binaries.js';
import { clearStalePid, runningServer, stopServer } from './running.js';

export interface EmbeddedPostgres {
  /** Connection string of the database `octet`. */
  url: string;
  stop(): Promise<void>;
}

export interface EmbeddedOptions {
  /** Where the data lies; made when missing. */
  directory: string;
  /** A free one is chosen when left out. */
  port?: number | undefined;
  /** Further settings of the server, such as fsync=off for tests. */
  settings?: Record<string, string> | undefined;
  /** Ends a start that is under way. */
  signal?: AbortSignal | undefined;
}

/** Where root keeps what the server's account must reach when the directory given lies in a private place such as /root. */
const sharedPlace = '/var/lib/octet';

/** Whoever holds this advisory lock on the database `postgres` owns the data directory. It ends with its connection, however that ends. */
const ownerLock = 0x0c7e;

const startWithinMs = 120_000;
const releaseWithinMs = 2_000;
const answerWithinMs = 10_000;

/**
 * Runs a PostgreSQL of our own, listening on 127.0.0.1 only.
 *
 * The server sits in a session of its own (Ctrl-C does not reach it before us) under a shell that stops it when this process
 * is gone, however it went. A server left over is stopped first; a crash is recovered from by the server itself.
 * @throws DATA_DIRECTORY_IN_USE while another process owns the directory; EMBEDDED_POSTGRES when the server cannot start
 */
export async function startEmbeddedPostgres({ directory, port, settings = {}, signal }: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const account = serverAccount();
  const place = await preparePlace(path.resolve(directory), account);
  const binaries = await locateBinaries({ otherAccount: account !== null, copyTo: account === null ? place : sharedPlace });
  const data = path.join(place, 'data');
  await initialise(binaries, place, data, account, signal);
  const { password } = JSON.parse(await readFile(path.join(data, 'octet.json'), 'utf8')) as { password: string };
  const urlOf = (at: number, database: string) => `postgresql://octet:${password}@127.0.0.1:${at}/${database}`;

  for (let attempt = 1; ; attempt++) {
    await takeOver(data, (at) => urlOf(at, 'postgres'), signal);
    const at = port ?? (await freePort());
    const server = await launch(binaries, place, data, at, settings, account);
    const owner = await becomeReady(server, urlOf(at, 'postgres'), place, data, signal);
    if (owner === null) {
      if (attempt < 5) continue;
      throw new ServiceError('EMBEDDED_POSTGRES', `the server ended while starting: ${await logTail(place)}`);
    }
    await ensureDatabase(owner);
    let stopping: Promise<void> | undefined;
    const stop = async () => {
      await owner.end().catch(() => undefined);
      server.child.stdin?.end();
      const late = setTimeout(() => void stopServer(data), 15_000);
      await server.ended;
      clearTimeout(late);
    };
    return {
      url: urlOf(at, 'octet'),
      stop: () => {
        stopping ??= stop();
        return stopping;
      },
    };
  }
}

/** The directory for data and log; one that the server's account cannot reach becomes a link to a place that it can. */
async function preparePlace(directory: string, account: Account | null): Promise<string> {
  if (account === null) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return directory;
  }
  await mkdir(path.dirname(directory), { recursive: true });
  let place = directory;
  if (!(await reachableByOthers(path.dirname(directory)))) {
    place = path.join(sharedPlace, createHash('sha256').update(directory).digest('hex').slice(0, 16));
    await symlink(place, directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
  await mkdir(place, { recursive: true });
  await chown(place, account.uid, account.gid);
  await chmod(place, 0o701);
  return place;
}

/** Makes the cluster in a directory beside and renames it, so that a start that is broken off leaves nothing half made. */
async function initialise(
  binaries: Binaries,
  place: string,
  data: string,
  account: Account | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  const names = await readdir(place);
  if (names.includes('data')) return;
  for (const name of names) {
    const pid = /^init-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !alive(Number(pid))) await rm(path.join(place, name), { recursive: true, force: true });
  }
  const making = path.join(place, `init-${process.pid}`);
  await mkdir(making, { recursive: true });
  try {
    const password = randomBytes(18).toString('base64url');
    const passwordFile = path.join(making, 'password');
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (account !== null) for (const file of [making, passwordFile]) await chown(file, account.uid, account.gid);
    const cluster = path.join(making, 'data');
    const flags = [
      '-D',
      cluster,
      '-U',
      'octet',
      '-A',
      'scram-sha-256',
      `--pwfile=${passwordFile}`,
      '-E',
      'UTF8',
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
    ];
    await runInitdb(binaries.initdb, flags, making, account, signal);
    await writeFile(path.join(cluster, 'octet.json'), JSON.stringify({ password }), { mode: 0o600 });
    await rename(cluster, data).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

async function runInitdb(
  program: string,
  flags: string[],
  cwd: string,
  account: Account | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  const child = spawn(program, flags, {
    cwd,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: serverEnvironment(),
    detached: true,
    ...(signal === undefined ? {} : { signal }),
    ...identity(account),
  });
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-4096);
  });
  const code = await new Promise<number | string | null>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (exit, signal) => resolve(exit ?? signal));
  });
  signal?.throwIfAborted();
  if (code !== 0) throw new ServiceError('EMBEDDED_POSTGRES', `initdb ended with ${code}: ${words.trim()}`);
}

/**
 * Stops a server that nobody owns; refuses when somebody does. An owner who was killed a moment ago still counts as one until the
 * server has seen the end of its connection.
 */
async function takeOver(data: string, urlOf: (port: number) => string, signal: AbortSignal | undefined): Promise<void> {
  const answerBy = Date.now() + startWithinMs;
  const releaseBy = Date.now() + releaseWithinMs;
  for (;;) {
    signal?.throwIfAborted();
    const running = await runningServer(data);
    if (running === null) return clearStalePid(data);
    const client = running.port === null ? null : await connect(urlOf(running.port)).catch(() => null);
    if (client !== null) {
      try {
        if (await own(client)) break;
        if (Date.now() > releaseBy) throw await inUse(client, data);
      } finally {
        await client.end().catch(() => undefined);
      }
    } else if (Date.now() > answerBy) {
      throw new ServiceError('EMBEDDED_POSTGRES', `process ${running.pid} holds ${data} but does not answer`, {
        hint: `Stop process ${running.pid}, or give Octet another directory.`,
      });
    }
    await sleep(100);
  }
  await stopServer(data);
}

interface Server {
  child: ChildProcess;
  ended: Promise<void>;
  hasEnded(): boolean;
}

/** Runs the server until this process goes away: the shell's input is a pipe that only this process holds open. */
const untilParentIsGone = `exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ cat <&3 >/dev/null; kill -INT "$server" 2>/dev/null; } &
watch=$!
exec 3<&-
wait "$server"
code=$?
kill "$watch" 2>/dev/null
exit "$code"`;

async function launch(
  binaries: Binaries,
  place: string,
  data: string,
  port: number,
  settings: Record<string, string>,
  account: Account | null,
): Promise<Server> {
  const logFile = path.join(place, 'server.log');
  await rename(logFile, `${logFile}.1`).catch(() => undefined);
  const log = await open(logFile, 'a', 0o600);
  const all = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '200',
    timezone: 'UTC',
    log_timezone: 'UTC',
    cluster_name: 'octet',
    ...settings,
  };
  const flags = ['-D', data, '-p', String(port), ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const child = spawn('/bin/sh', ['-c', untilParentIsGone, 'octet-postgres', binaries.postgres, ...flags], {
    cwd: place,
    stdio: ['pipe', log.fd, log.fd],
    env: serverEnvironment(),
    detached: true,
    ...identity(account),
  });
  await log.close();
  let over = false;
  const ended = new Promise<void>((resolve) => {
    const finish = () => {
      over = true;
      child.stdin?.destroy();
      resolve();
    };
    child.once('error', finish);
    child.once('exit', finish);
  });
  child.stdin?.on('error', () => undefined);
  child.unref();
  return { child, ended, hasEnded: () => over };
}

/**
 * Waits until the server answers and takes the owner's lock.
 * @returns the connection that holds the lock; null when the server ended and another try is worth it
 */
async function becomeReady(
  server: Server,
  url: string,
  place: string,
  data: string,
  signal: AbortSignal | undefined,
): Promise<pg.Client | null> {
  const deadline = Date.now() + startWithinMs;
  for (;;) {
    const client = await connect(url).catch(() => null);
    const mine = client === null ? null : await own(client).catch(() => null);
    if (signal?.aborted) {
      server.child.stdin?.end();
      throw signal.reason;
    }
    if (client !== null && mine === null) {
      // A server that stands still: its connection is dropped, and another one is tried.
      void client.end().catch(() => undefined);
    } else if (client !== null) {
      if (mine === true) return client;
      const error = await inUse(client, data);
      await client.end().catch(() => undefined);
      server.child.stdin?.end();
      throw error;
    }
    if (server.hasEnded()) {
      const words = await logTail(place);
      if (/Address already in use|lock file "postmaster.pid" already exists|could not bind/i.test(words)) return null;
      throw new ServiceError('EMBEDDED_POSTGRES', `the server ended while starting: ${words}`);
    }
    if (Date.now() > deadline) {
      server.child.stdin?.end();
      throw new ServiceError('EMBEDDED_POSTGRES', `the server does not answer within ${startWithinMs / 1000} s: ${await logTail(place)}`);
    }
    await sleep(50);
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: `octet-owner ${process.pid}`,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
  });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** @throws Error when the server does not answer in time */
async function own(client: pg.Client): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${answerWithinMs / 1000} s`)), answerWithinMs);
  });
  try {
    const asked = client.query<{ mine: boolean }>('SELECT pg_try_advisory_lock($1) AS mine', [ownerLock]);
    const { rows } = await Promise.race([asked, late]);
    return rows[0]?.mine === true;
  } finally {
    clearTimeout(timer);
  }
}

async function inUse(client: pg.Client, data: string): Promise<ServiceError> {
  const { rows } = await client.query<{ application_name: string }>(
    `SELECT application_name FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE l.locktype = 'advisory' AND l.objid = $1 AND l.granted`,
    [ownerLock],
  );
  const holder = rows[0]?.application_name.replace('octet-owner', 'process') ?? 'another process';
  return new ServiceError('DATA_DIRECTORY_IN_USE', `${path.dirname(data)} is in use by ${holder}`);
}

async function ensureDatabase(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query(`SELECT 1 FROM pg_database WHERE datname = 'octet'`);
  if (rowCount === 0) await client.query('CREATE DATABASE octet');
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new ServiceError('EMBEDDED_POSTGRES', 'no free port found');
  return address.port;
}

async function logTail(place: string): Promise<string> {
  const text = await readFile(path.join(place, 'server.log'), 'utf8').catch(() => '');
  return text.slice(-2048).trim() || 'it said nothing';
}

function identity(account: Account | null): { uid?: number; gid?: number } {
  return account === null ? {} : { uid: account.uid, gid: account.gid };
}

function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' };
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
