import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startApi, type TestApi } from '../../../tests/support/api.js';
import { until } from '../../../tests/support/services.js';

/** Inspections that take for ever, over HTTP with real processes; the bytes of the "model" say what its inspection does. */

let api: TestApi;
const uploads: AbortController[] = [];
beforeAll(async () => {
  api = await startApi({ inspections: 1, quickInspectMs: 1500, trustProxy: true }, { module: inject('jobCommands') });
});
afterAll(async () => {
  for (const upload of uploads) upload.abort();
  await until(async () => (await api.staged()).length === 0, 'the uploads to be cleared away');
  await api.close();
});

/** Uploads a model from an address. */
function upload(behaviour: string, from: string): { answer: Promise<Response>; leave: AbortController } {
  const leave = new AbortController();
  uploads.push(leave);
  const answer = fetch(`${api.url}/v1/models`, {
    method: 'POST',
    body: behaviour,
    headers: { 'content-type': 'application/octet-stream', 'x-forwarded-for': from },
    signal: leave.signal,
  });
  answer.catch(() => undefined);
  return { answer, leave };
}

describe('inspections that never end', () => {
  it('keep neither other uploads nor other requests waiting, and one that was put back is taken up again', async () => {
    const hanging = upload('hang', '192.0.2.1');
    await until(async () => (await api.staged()).length === 1, 'the first upload');
    for (let i = 0; i < 5; i++) upload('hang', '192.0.2.1');
    await until(async () => (await api.staged()).length === 6, 'the uploads to arrive');

    expect((await fetch(`${api.url}/v1/models`)).status).toBe(200);
    const fine = await upload('fine', '192.0.2.2').answer;
    expect(fine.status).toBe(201);

    // The slow lane is full, so this one loses its place in the quick lane, and its process.
    const gate = join(tmpdir(), `octet-test-gate-${process.pid}`);
    const patient = upload(`until ${gate}`, '192.0.2.2');
    expect((await upload('fine too', '192.0.2.3').answer).status).toBe(201);
    await writeFile(gate, '');
    hanging.leave.abort();
    expect((await patient.answer).status).toBe(201);
    await rm(gate);
  });
});
