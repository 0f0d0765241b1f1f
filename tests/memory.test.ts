import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { npy } from '../packages/quant-core/src/data/testing/files.js';
import { freePort, startPostgres, until } from './support/services.js';

/** What the API process itself needs while a large upload passes through it; inspection has a process of its own. */

const samples = 131_072;
const features = 1_000;
const allowedGrowth = 150 * 2 ** 20;

let database: Awaited<ReturnType<typeof startPostgres>>;
let service: ChildProcess;
let url: string;
beforeAll(async () => {
  database = await startPostgres();
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  service = spawn(
    process.execPath,
    ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, 'apps/api/src/main.ts'],
    {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      env: {
        PATH: process.env.PATH,
        TSX_TSCONFIG_PATH: 'tsconfig.json',
        DATABASE_URL: database.url,
        PORT: String(port),
        LOG_LEVEL: 'warn',
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  await until(
    () =>
      fetch(`${url}/readyz`).then(
        (answer) => answer.ok,
        () => false,
      ),
    'the service to be ready',
    90_000,
  );
});
afterAll(async () => {
  const gone = new Promise((resolve) => service.once('exit', resolve));
  service.kill('SIGTERM');
  await gone;
  await database.drop();
});

it.skipIf(process.platform !== 'linux')(
  'grows by less than 150 MB while a dataset of 500 MB is uploaded',
  { timeout: 600_000 },
  async () => {
    await upload(npy('<f4', [2, 4], Buffer.alloc(32)).length, [npy('<f4', [2, 4], Buffer.alloc(32))]);
    const before = await residentBytes();
    let peak = before;
    const watch = setInterval(async () => {
      peak = Math.max(peak, await residentBytes());
    }, 50);
    const header = npy('<f4', [samples, features], Buffer.alloc(0));
    const row = Buffer.alloc(features * 4);
    const dataset = await upload(header.length + samples * row.length, rows(header, row));
    clearInterval(watch);
    expect(dataset).toMatchObject({
      bytes: header.length + samples * row.length,
      summary: { samples, sampleShape: [features], range: { min: 0, max: 0 } },
    });
    expect(dataset.bytes).toBeGreaterThan(500e6);
    expect(peak - before).toBeLessThan(allowedGrowth);
  },
);

function* rows(header: Buffer, row: Buffer): Generator<Buffer> {
  yield header;
  const block = Buffer.concat(Array.from({ length: 64 }, () => row));
  for (let i = 0; i < samples; i += 64) yield block;
}

/** As a browser or curl sends it: multipart, whose parser has most to do. */
async function upload(bytes: number, chunks: Iterable<Buffer>) {
  const start = Buffer.from('--edge\r\nContent-Disposition: form-data; name="file"; filename="zeros.npy"\r\n\r\n');
  const end = Buffer.from('\r\n--edge--\r\n');
  function* body() {
    yield start;
    yield* chunks;
    yield end;
  }
  const answer = await fetch(`${url}/v1/datasets`, {
    method: 'POST',
    body: Readable.toWeb(Readable.from(body())) as ReadableStream,
    headers: { 'content-type': 'multipart/form-data; boundary=edge', 'content-length': String(start.length + bytes + end.length) },
    duplex: 'half',
  } as RequestInit);
  const dataset = await answer.json();
  expect(answer.status, JSON.stringify(dataset)).toBe(201);
  return dataset;
}

async function residentBytes(): Promise<number> {
  const status = await readFile(`/proc/${service.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}
