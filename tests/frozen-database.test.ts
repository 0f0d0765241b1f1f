import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { JobBody } from '@octet/contracts';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { classifier, points } from './support/samples.js';
import { freePort, startRedis, type TestRedis, until } from './support/services.js';

/** `octet serve` while its PostgreSQL stands still (SIGSTOP): connections are accepted and nothing is answered. */

const root = fileURLToPath(new URL('..', import.meta.url));
const main = process.env.OCTET_TEST_MAIN ?? path.join(root, 'apps/cli/dist/main.js');
/** Freezes during a job, in milliseconds, and queues; `npm run test:long` has all of them. */
const long = process.env.OCTET_LONG_TESTS === '1';
const freezes = long ? [30_000, 300_000] : [12_000];
const queues = long ? (['postgres', 'redis'] as const) : (['postgres'] as const);
/** Lines of the log that a freeze may cost, whatever its length. */
const fewLines = 40;

interface Service {
  child: ChildProcess;
  data: string;
  url: string;
  /** Of the log, without those of requests. */
  lines(): string[];
  listens(): boolean;
  ended: Promise<number | string | null>;
}

const services: Service[] = [];
let directory: string;
let redis: TestRedis;
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('apps/cli is not built; run "npm run build" first');
  directory = await mkdtemp(path.join(tmpdir(), 'octet-test-frozen-'));
  redis = await startRedis();
});
afterEach(async () => {
  for (const { child, data, ended } of services.splice(0)) {
    signalServer(await serverOf(data), 'SIGCONT');
    child.kill('SIGKILL');
    await ended;
  }
});
afterAll(async () => {
  await redis.stop();
  await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 500 });
});

async function serve(name: string, redisUrl?: string): Promise<Service> {
  const port = await freePort();
  const data = path.join(directory, name);
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(OCTET_|DATABASE_URL|REDIS_URL|PORT|HOST)/.test(key)),
  );
  const child = spawn(
    process.execPath,
    [main, 'serve', '--port', String(port), '--data', data, ...(redisUrl === undefined ? [] : ['--redis-url', redisUrl])],
    { env: inherited, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const ended = new Promise<number | string | null>((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)));
  const service = {
    child,
    data,
    url: `http://127.0.0.1:${port}`,
    lines: () => err.split('\n').filter((line) => line !== '' && !line.includes('"reqId"')),
    listens: () => out.includes('Octet listens'),
    ended,
  };
  services.push(service);
  return service;
}

/** The postmaster of a data directory; null before it has started. */
async function serverOf(data: string): Promise<number | null> {
  const text = await readFile(path.join(data, 'postgres/data/postmaster.pid'), 'utf8').catch(() => '');
  return text === '' ? null : Number(text.split('\n')[0]);
}

/** Sends a signal to a server and to every process of it. Linux only. */
function signalServer(postmaster: number | null, signal: NodeJS.Signals): void {
  if (postmaster === null) return;
  for (const pid of [postmaster, ...childrenOf(postmaster)]) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended.
    }
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) === parent;
      } catch {
        return false;
      }
    });
}

/** Lets the server stand still for a while; processes that it has forked meanwhile cannot be, as it stands still first. */
async function freeze(data: string, ms: number): Promise<void> {
  const postmaster = await serverOf(data);
  signalServer(postmaster, 'SIGSTOP');
  await sleep(ms);
  signalServer(postmaster, 'SIGCONT');
}

async function submit(url: string, epochs: number): Promise<string> {
  const body = new FormData();
  body.append('model', new Blob([new Uint8Array(classifier())]), 'model.onnx');
  body.append('dataset', new Blob([new Uint8Array(points({ samples: 120 }))]), 'train.npz');
  body.append('config', JSON.stringify({ training: { epochs }, evaluation: { latencyRuns: 5 }, calibration: { samples: 16 } }));
  const answer = await fetch(`${url}/v1/jobs`, { method: 'POST', body });
  expect(answer.status).toBe(202);
  return ((await answer.json()) as JobBody).id;
}

const jobOf = async (url: string, id: string) => (await (await fetch(`${url}/v1/jobs/${id}`)).json()) as JobBody;

async function stopsInTime({ child, ended }: Service): Promise<void> {
  const asked = performance.now();
  child.kill('SIGTERM');
  await ended;
  expect(performance.now() - asked).toBeLessThan(10_000);
}

describe.skipIf(process.platform !== 'linux').each(queues)('octet serve with the queue on %s', (backend) => {
  const start = (name: string) => serve(`${name}-${backend}`, backend === 'redis' ? redis.url : undefined);
  const listening = async (service: Service) => {
    await Promise.race([
      until(() => service.listens(), 'the service to listen', 100_000),
      service.ended.then(() => {
        throw new Error(`the service ended: ${service.lines().slice(-20).join('\n')}`);
      }),
    ]);
  };

  it('starts when its database stands still for 8 s at the start, and works', async () => {
    const service = await start('start');
    // The connections of the queue are the next ones to be opened.
    await until(() => service.lines().some((line) => line.includes('migration applied')), 'the migrations', 100_000);
    await freeze(service.data, 8_000);
    await listening(service);
    const id = await submit(service.url, 1);
    await until(async () => (await jobOf(service.url, id)).state === 'succeeded', 'the job to succeed', 60_000);
    expect(service.lines().length).toBeLessThan(fewLines);
    await stopsInTime(service);
  });

  it.each(freezes)(
    'goes on with its job after its database stood still for %i ms',
    async (ms) => {
      const service = await start(`job-${ms}`);
      await listening(service);
      const id = await submit(service.url, 300);
      await until(async () => (await jobOf(service.url, id)).stage === 'train', 'training to begin', 60_000);
      await freeze(service.data, ms);
      const job = await until(
        async () => {
          const now = await jobOf(service.url, id);
          return ['succeeded', 'failed', 'cancelled'].includes(now.state) ? now : null;
        },
        'the end of the job',
        100_000,
      );
      expect(job).toMatchObject({ state: 'succeeded', attempts: 1, error: null });
      expect(service.lines().length).toBeLessThan(fewLines);
      await stopsInTime(service);
    },
    600_000,
  );

  it('ends within 10 s of SIGTERM while its database stands still', async () => {
    const service = await start('term');
    await until(() => serverOf(service.data), 'the server to start', 100_000);
    signalServer(await serverOf(service.data), 'SIGSTOP');
    await sleep(4_000);
    await stopsInTime(service);
  });
});
