import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { isTerminal, type JobRequest, type Report } from '@octet/contracts';
import { type JobQueue, openQueue, openStore, reconcile, type Store } from '@octet/store';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Done, quickRecipe, Workshop } from '../packages/quant-core/src/pipeline/testing/jobs.js';
import { images, smallNet } from '../packages/quant-core/src/train/testing/jobs.js';
import { jobFor } from './support/fixtures.js';
import { startPostgres, startRedis, type TestRedis, until } from './support/services.js';
import { datasetSummary, modelSummary } from './support/summaries.js';

const log = pino({ level: process.env.TEST_LOG ?? 'silent' });
const entry = path.join(fileURLToPath(new URL('..', import.meta.url)), 'apps/worker/dist/main.js');

/** Four bits, so that there is a rounding to be kept; many short epochs, so that there is time to be killed in. */
const recipe = quickRecipe({
  quantization: { weights: { bits: 4 }, activations: { bits: 4 } } as never,
  calibration: { roundingIterations: 64 },
  training: { epochs: 800, learningRate: 'auto' },
});
const stepsPerEpoch = 5;

let shop: Workshop;
let files: { model: string; data: string };
let undisturbed: Done;
beforeAll(async () => {
  shop = await Workshop.open();
  files = { model: await shop.model(smallNet()), data: await shop.npz(images(120)) };
  undisturbed = await shop.run(shop.job(files.model, files.data, recipe));
  expect(undisturbed.report.training?.stepsPerEpoch).toBe(stepsPerEpoch);
});
afterAll(() => shop.close());

describe.each(['redis', 'postgres'] as const)('with the queue on %s', (backend) => {
  let database: Awaited<ReturnType<typeof startPostgres>>;
  let redis: TestRedis | undefined;
  let store: Store;
  let queue: JobQueue;
  let workDirectory: string;
  const workers: ChildProcess[] = [];

  beforeAll(async () => {
    database = await startPostgres();
    redis = backend === 'redis' ? await startRedis() : undefined;
    store = await openStore({ databaseUrl: database.url, log });
    queue = await openQueue({ databaseUrl: database.url, redisUrl: redis?.url, log });
    workDirectory = await mkdtemp(path.join(tmpdir(), 'octet-test-resume-'));
  });
  afterAll(async () => {
    for (const worker of workers) worker.kill('SIGKILL');
    await queue.close();
    await store.close();
    await redis?.stop();
    await database.drop();
    await rm(workDirectory, { recursive: true, force: true });
  });

  const submit = async () => {
    const put = (file: string) => store.blobs.put(createReadStream(file));
    const model = await store.models.create({ name: 'm', filename: 'model.onnx', blob: await put(files.model), summary: modelSummary });
    const data = { name: 'd', filename: 'data.npz', blob: await put(files.data), config: {}, summary: datasetSummary };
    const dataset = await store.datasets.create(data);
    const job = await store.jobs.create(jobFor({ model: model.id, dataset: dataset.id }, { ...recipe } as Partial<JobRequest>));
    await queue.enqueue(job.id);
    return job.id;
  };

  const startWorker = () => {
    const env = {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      OCTET_WORK_DIR: workDirectory,
      LOG_LEVEL: process.env.TEST_LOG ?? 'silent',
      ...(redis === undefined ? {} : { REDIS_URL: redis.url }),
    };
    const worker = spawn(process.execPath, [entry], { env, stdio: 'inherit' });
    workers.push(worker);
    return worker;
  };

  const query = async (sql: string, values: unknown[] = []) => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      return await client.query(sql, values);
    } finally {
      await client.end();
    }
  };

  /** Waits until there is a checkpoint of the training beyond `step`, stored by this attempt. */
  const checkpointAfter = (id: string, step: number) =>
    until(
      async () => {
        const { checkpoint, state } = await store.jobs.get(id);
        if (isTerminal(state)) throw new Error(`the job is ${state} before it could be killed`);
        return checkpoint?.stage === 'train' && checkpoint.step > step ? checkpoint.step : null;
      },
      `a checkpoint after step ${step}`,
      100_000,
    );

  const end = async (worker: ChildProcess, signal: 'SIGKILL' | 'SIGTERM') => {
    const ended = once(worker, 'exit');
    worker.kill(signal);
    return ended;
  };

  test('a job whose worker is killed twice and stopped once goes on from where it was, and ends in the same bytes', async () => {
    const id = await submit();
    let step = 0;
    for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
      const worker = startWorker();
      step = await checkpointAfter(id, step);
      await end(worker, signal);
      if (signal === 'SIGTERM') expect((await store.jobs.get(id)).state).toBe('queued');
      // What every worker does after the time of a heartbeat.
      else expect(await reconcile(store, queue, log, { heartbeatTimeoutMs: 0 })).toMatchObject({ requeued: 1, lost: 0 });
      const { checkpoint } = await store.jobs.get(id);
      step = checkpoint?.step ?? 0;
      expect(step).toBeLessThan(recipe.training.epochs * stepsPerEpoch);
    }
    startWorker();
    const job = await until(
      async () => {
        const now = await store.jobs.get(id);
        return isTerminal(now.state) ? now : null;
      },
      'the end of the job',
      100_000,
    );
    expect(job).toMatchObject({ state: 'succeeded', attempts: 4, error: null, checkpoint: null, resumedFrom: { stage: 'train', step } });

    const artifact = await store.artifacts.ofJob(id, 'model');
    expect(artifact?.sha256).toBe(undisturbed.report.provenance.artifactSha256);
    expect((await buffer(await store.blobs.get(artifact?.sha256 ?? ''))).equals(undisturbed.model)).toBe(true);
    expect(timeless((await store.reports.get(id)) as Report)).toEqual(timeless(undisturbed.report));

    const told = (await store.events.list(id, 0, 100_000)).filter((event) => event.type === 'attempt').map(({ data }) => data);
    expect(told.map((data) => data.attempt)).toEqual([2, 3, 4]);
    expect(told.map((data) => data.message)).toEqual(
      told.map((data) => `resumed from step ${(data.resumedFrom as { step: number }).step}`),
    );
    expect(told.at(-1)?.resumedFrom).toEqual({ stage: 'train', step });

    // Model, data, and the three files that came out: no bytes of a checkpoint are left, soon after the end is seen.
    await until(async () => (await query('SELECT sha256 FROM blob')).rows.length === 5, 'the bytes of the checkpoint to go');
    await end(workers.at(-1) as ChildProcess, 'SIGTERM');
    expect(await readdir(workDirectory)).toEqual([]);
  });

  test.runIf(backend === 'postgres').each<[string, string, RegExp]>([
    [
      'that was changed',
      'UPDATE blob_chunk SET bytes = set_byte(bytes, 3000, 255 - get_byte(bytes, 3000))',
      /checkpoint (cannot be read|is damaged)/,
    ],
    ['that is not whole', 'DELETE FROM blob_chunk', /chunk 0 of file \w+ is missing/],
  ])('a checkpoint %s is dropped, and the job starts from the beginning', async (_what, damage, reason) => {
    const id = await submit();
    const first = startWorker();
    await checkpointAfter(id, 0);
    await end(first, 'SIGKILL');
    await reconcile(store, queue, log, { heartbeatTimeoutMs: 0 });
    await query(`${damage} WHERE blob_id = (SELECT b.id FROM blob b JOIN checkpoint c ON c.sha256 = b.sha256 WHERE c.job_id = $1)`, [id]);
    const second = startWorker();
    const told = await until(
      async () => (await store.events.list(id, 0, 100_000)).find((event) => event.type === 'attempt'),
      'a word on the checkpoint',
      100_000,
    );
    expect(told.data).toEqual({ attempt: 2, resumedFrom: null, message: expect.stringMatching(/^starts from nothing: /) });
    expect(told.data.message).toMatch(reason);
    await until(async () => (await store.jobs.get(id)).checkpoint, 'a new checkpoint', 100_000);
    await store.jobs.requestCancel(id);
    await until(async () => (await store.jobs.get(id)).state === 'cancelled', 'the end of the job', 100_000);
    await end(second, 'SIGTERM');
  });
});

/** The report without what is measured in seconds or bytes of memory, and what names files. */
function timeless({ verdict: _, latency: _1, runtime: _2, provenance, training, ...report }: Report): unknown {
  const { artifactSha256, modelSha256, datasetSha256 } = provenance;
  const { samplesPerSecond: _3, epochs, ...figures } = training ?? { epochs: [] };
  const digests = { artifactSha256, modelSha256, datasetSha256 };
  return { ...report, digests, training: { ...figures, epochs: epochs.map(({ seconds: _4, ...epoch }) => epoch) } };
}
