import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isTerminal } from '@octet/contracts';
import { type JobQueue, openQueue, openStore, type Store } from '@octet/store';
import { startWorker } from '@octet/worker';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jobFor } from './support/fixtures.js';
import { startPostgres, startRedis, type TestRedis, until } from './support/services.js';
import { datasetSummary, modelSummary } from './support/summaries.js';

const log = pino({ level: process.env.TEST_LOG ?? 'silent' });
const root = fileURLToPath(new URL('..', import.meta.url));
const example = path.join(root, 'examples', 'fashion-mnist');

/** Processes whose command line has this text, by /proc. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text) && pid !== process.pid;
      } catch {
        return false;
      }
    });
}

function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  } catch {
    return 0;
  }
}

describe.skipIf(process.platform !== 'linux').each(['redis', 'postgres'] as const)('with the queue on %s', (backend) => {
  let database: Awaited<ReturnType<typeof startPostgres>>;
  let redis: TestRedis | undefined;
  let store: Store;
  let queue: JobQueue;
  let workDirectory: string;
  let first: ChildProcess;

  beforeAll(async () => {
    database = await startPostgres();
    redis = backend === 'redis' ? await startRedis() : undefined;
    store = await openStore({ databaseUrl: database.url, log });
    queue = await openQueue({ databaseUrl: database.url, redisUrl: redis?.url, log });
    workDirectory = await mkdtemp(path.join(tmpdir(), 'octet-test-crash-'));
  });
  afterAll(async () => {
    first?.kill('SIGKILL');
    await queue.close();
    await store.close();
    await redis?.stop();
    await database.drop();
    await rm(workDirectory, { recursive: true, force: true });
  });

  test('a worker that is killed takes its job process with it, and another finishes the job', async () => {
    const put = (name: string) => store.blobs.put(createReadStream(path.join(example, name)));
    const model = await store.models.create({ name: 'cnn', filename: 'model.onnx', blob: await put('model.onnx'), summary: modelSummary });
    const dataset = await store.datasets.create({
      name: 'test',
      filename: 'test.zip',
      blob: await put('test.zip'),
      config: {},
      summary: datasetSummary,
    });
    const request = jobFor({ model: model.id, dataset: dataset.id });
    request.settings.method = 'ptq';
    request.settings.calibration.samples = 64;
    request.settings.evaluation.latencyRuns = 5;
    const { id } = await store.jobs.create(request);
    await queue.enqueue(id);

    const env = {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      OCTET_WORK_DIR: workDirectory,
      LOG_LEVEL: 'silent',
      ...(redis === undefined ? {} : { REDIS_URL: redis.url }),
    };
    first = spawn(process.execPath, [path.join(root, 'apps/worker/dist/main.js')], { env, stdio: 'inherit' });
    await until(async () => (await store.jobs.get(id)).stage !== null, 'the job to be under way', 60_000);
    const jobProcess = processesWith('job-process').find((pid) => parentOf(pid) === first.pid);
    expect(jobProcess).toBeGreaterThan(0);
    await redis?.flush();
    first.kill('SIGKILL');
    await until(() => !processesWith('job-process').includes(jobProcess ?? 0), 'the end of the job process');
    expect((await store.jobs.get(id)).state).toBe('running');

    const second = await startWorker({
      store,
      queue,
      workDirectory,
      jobMemoryBytes: 4 * 2 ** 30,
      log,
      testing: { reconcileEveryMs: 200, heartbeatTimeoutMs: 6_000 },
    });
    expect(await readdir(workDirectory)).toEqual([expect.stringContaining(`worker-${process.pid}-`)]);
    const job = await until(
      async () => {
        const now = await store.jobs.get(id);
        return isTerminal(now.state) ? now : null;
      },
      'the end of the job',
      110_000,
    );
    await second.close();
    expect(job).toMatchObject({ state: 'succeeded', attempts: 2, error: null });
    const states = (await store.events.list(id)).filter((event) => event.type === 'state').map((event) => event.data.state);
    expect(states).toEqual(['queued', 'running', 'queued', 'running', 'succeeded']);
    const report = await store.reports.get(id);
    expect(report?.int8.value).toBeGreaterThan(0.85);
    expect(await readdir(workDirectory)).toEqual([]);
  });
});
