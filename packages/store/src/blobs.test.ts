import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startPostgres } from '../../../tests/support/services.js';
import { modelSummary } from '../../../tests/support/summaries.js';
import { openStore, type Store } from './store.js';

let database: Awaited<ReturnType<typeof startPostgres>>;
let store: Store;
let client: pg.Client;

beforeAll(async () => {
  database = await startPostgres();
  store = await openStore({ databaseUrl: database.url, log: pino({ level: 'silent' }) });
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await store.close();
  await database.drop();
});

const chunks = async () => Number((await client.query('SELECT count(*) FROM blob_chunk')).rows[0].count);
const pieces = (bytes: Buffer, size: number) =>
  Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    })(),
  );

test.each([0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3_500_000])(
  '%i bytes come back as they went in, under their hash',
  async (size) => {
    const bytes = randomBytes(size);
    const blob = await store.blobs.put(pieces(bytes, 65_537));
    expect(blob).toEqual({ sha256: createHash('sha256').update(bytes).digest('hex'), size });
    expect((await buffer(await store.blobs.get(blob.sha256))).equals(bytes)).toBe(true);
  },
);

test('ranges across chunk borders', async () => {
  const bytes = randomBytes(2_500_000);
  const { sha256 } = await store.blobs.put(pieces(bytes, 100_000));
  for (const [start, end] of [
    [0, 0],
    [5, 1_048_575],
    [1_048_575, 1_048_576],
    [1_048_576, 2_499_999],
    [2_499_999, 2_499_999],
  ] as const) {
    expect((await buffer(await store.blobs.get(sha256, { start, end }))).equals(bytes.subarray(start, end + 1)), `${start}-${end}`).toBe(
      true,
    );
  }
  await expect(store.blobs.get(sha256, { start: 0, end: 2_500_000 })).rejects.toMatchObject({ code: 'RANGE_NOT_SATISFIABLE' });
  await expect(store.blobs.get('0'.repeat(64))).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('the same content is stored once, also by two writers at once', async () => {
  const bytes = randomBytes(1_500_000);
  const before = await chunks();
  const [a, b] = await Promise.all([store.blobs.put(pieces(bytes, 10_000)), store.blobs.put(pieces(bytes, 70_000))]);
  expect(a).toEqual(b);
  expect(await chunks()).toBe(before + 2);
  await store.blobs.put(pieces(bytes, 70_000));
  expect(await chunks()).toBe(before + 2);
});

test('a stream that fails, a signal and a limit leave nothing behind', async () => {
  const before = await chunks();
  const failing = Readable.from(
    (async function* () {
      yield randomBytes(2_500_000);
      throw new Error('cable cut');
    })(),
  );
  await expect(store.blobs.put(failing)).rejects.toMatchObject({ code: 'UPLOAD_ABORTED', message: expect.stringContaining('cable cut') });

  const abort = new AbortController();
  const endless = new Readable({ read() {} });
  endless.push(randomBytes(2_000_000));
  setTimeout(() => abort.abort(), 100);
  await expect(store.blobs.put(endless, { signal: abort.signal })).rejects.toMatchObject({ code: 'UPLOAD_ABORTED' });

  await expect(store.blobs.put(pieces(randomBytes(3_000_000), 50_000), { maxBytes: 2_000_000 })).rejects.toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  });
  expect(await chunks()).toBe(before);
});

test('only blobs that nothing refers to and nobody stored lately are swept', async () => {
  const { sha256 } = await store.blobs.put(Readable.from([randomBytes(100)]));
  const held = await store.blobs.put(Readable.from([randomBytes(100)]));
  const model = await store.models.create({ name: 'm', filename: 'm.onnx', blob: held, summary: modelSummary });
  expect(await store.blobs.release(sha256)).toBe(false);
  await client.query(`UPDATE blob SET touched_at = now() - interval '1 hour'`);
  expect(await store.blobs.release(held.sha256)).toBe(false);
  expect(await store.blobs.release(sha256)).toBe(true);
  expect(await store.blobs.find(sha256)).toBeNull();
  await store.models.delete(model.id);
  expect(await store.blobs.sweep()).toBeGreaterThan(0);
  expect(await store.blobs.find(held.sha256)).toBeNull();
  expect(await chunks()).toBe(0);
});

test('names that PostgreSQL would refuse are stored with a mark instead', async () => {
  const blob = await store.blobs.put(Readable.from([randomBytes(10)]));
  const model = await store.models.create({
    name: 'a\0b',
    filename: 'x\ud800.onnx',
    blob,
    summary: { ...modelSummary, quantizable: [{ node: 'n\0\udfff', op: 'Conv', parameters: 1 }] },
  });
  expect(model).toMatchObject({ name: 'a\ufffdb', filename: 'x\ufffd.onnx', summary: { quantizable: [{ node: 'n\ufffd\ufffd' }] } });
});
