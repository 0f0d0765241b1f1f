import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type JobBody, JobSchema, ProblemSchema } from '@octet/contracts';
import { type RunningWorker, startWorker } from '@octet/worker';
import { pino } from 'pino';
import Value from 'typebox/value';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { form, startApi, type TestApi } from '../../../tests/support/api.js';
import { storeUploads } from '../../../tests/support/fixtures.js';
import { classifier, points } from '../../../tests/support/samples.js';

/** Jobs over HTTP with a real queue, worker and job process; the commands of the process are those of tests/support/job-commands.ts. */

let api: TestApi;
let worker: RunningWorker;
let workDirectory: string;
beforeAll(async () => {
  api = await startApi({ heartbeatMs: 50 });
  workDirectory = await mkdtemp(join(tmpdir(), 'octet-test-worker-'));
  const module = inject('jobCommands');
  worker = await startWorker({ store: api.store, queue: api.queue, workDirectory, log: pino({ level: 'silent' }), testing: { module } });
});
afterAll(async () => {
  await worker.close();
  await api.close();
  await rm(workDirectory, { recursive: true, force: true });
});

const call = (method: string, path: string, headers: Record<string, string> = {}, body?: unknown) =>
  fetch(api.url + path, {
    method,
    headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
    body: body === undefined ? null : JSON.stringify(body),
  });
const get = async (path: string) => (await call('GET', path)).json();
const submit = (body: unknown, query = '', headers = {}) => call('POST', `/v1/jobs${query}`, headers, body);

/** A job whose process does what the word says. */
async function start(behaviour: string, more: object = {}): Promise<JobBody> {
  const uploads = await storeUploads(api.store, { model: behaviour });
  const answer = await submit({ ...uploads, ...more });
  const job = await answer.json();
  expect(answer.status, JSON.stringify(job)).toBe(202);
  return job;
}

async function finished(id: string): Promise<JobBody> {
  for (;;) {
    const job: JobBody = await get(`/v1/jobs/${id}?wait=60`);
    if (!['queued', 'running', 'cancelling'].includes(job.state)) return job;
  }
}

describe('a job that succeeds', () => {
  let job: JobBody;
  beforeAll(async () => {
    job = await finished((await start('fine', { metadata: { note: 'first' } })).id);
  });

  it('is described as the schema says, with its result and links', async () => {
    expect(Value.Errors(JobSchema, job)).toEqual([]);
    expect(job).toMatchObject({
      state: 'succeeded',
      error: null,
      metadata: { note: 'first' },
      result: { int8: 0.89, float: 0.9 },
      links: { model: `/v1/jobs/${job.id}/model` },
    });
  });

  it('gives its model whole, in part, or not at all', async () => {
    const path = `/v1/jobs/${job.id}/model`;
    const whole = await call('GET', path);
    const etag = whole.headers.get('etag') ?? '';
    expect(await whole.text()).toBe('int8 of fine');
    expect(Object.fromEntries(whole.headers)).toMatchObject({
      'content-length': '12',
      'accept-ranges': 'bytes',
      'content-disposition': 'attachment; filename="m.int8.onnx"',
      'repr-digest': expect.stringMatching(/^sha-256=:[\w+/]{43}=:$/),
    });
    expect(etag).toMatch(/^"[0-9a-f]{64}"$/);

    const part = await call('GET', path, { range: 'bytes=5-6' });
    expect([part.status, part.headers.get('content-range'), await part.text()]).toEqual([206, 'bytes 5-6/12', 'of']);
    expect((await call('GET', path, { range: 'bytes=-4', 'if-range': etag })).status).toBe(206);
    expect((await call('GET', path, { range: 'bytes=-4', 'if-range': '"other"' })).status).toBe(200);
    expect((await call('GET', path, { 'if-none-match': etag })).status).toBe(304);
    const outside = await call('GET', path, { range: 'bytes=12-' });
    expect([outside.status, outside.headers.get('content-range')]).toEqual([416, 'bytes */12']);
    expect(await outside.json()).toMatchObject({ code: 'RANGE_NOT_SATISFIABLE' });

    const head = await call('HEAD', path, { range: 'bytes=0-1' });
    expect([head.status, head.headers.get('content-length'), head.headers.get('etag')]).toEqual([200, '12', etag]);
  });

  it('gives its accuracy report as JSON and as Markdown', async () => {
    const path = `/v1/jobs/${job.id}/accuracy-diff`;
    const json = await call('GET', path);
    expect(json.headers.get('content-type')).toContain('application/json');
    expect(await json.json()).toMatchObject({ schemaVersion: '1.0', int8: { value: 0.89 } });
    for (const answer of [await call('GET', `${path}.md`), await call('GET', path, { accept: 'text/markdown, application/json;q=0.5' })]) {
      expect(answer.headers.get('content-type')).toContain('text/markdown');
      expect(await answer.text()).toBe('# Report\n');
    }
    expect(await (await call('GET', path, { accept: 'image/png' })).json()).toMatchObject({ status: 406, code: 'NOT_ACCEPTABLE' });
  });

  it('lists its artifacts, and gives each by its id', async () => {
    const { items } = await get(`/v1/jobs/${job.id}/artifacts`);
    expect(items.map((one: { kind: string }) => one.kind)).toEqual(['model', 'report_json', 'report_md']);
    expect(await (await call('GET', `/v1/artifacts/${items[0].id}/content`)).text()).toBe('int8 of fine');
    expect((await call('GET', '/v1/artifacts/art_00000000000000000000000000/content')).status).toBe(404);
  });

  it('answers the same request again, unless a fresh run is asked for', async () => {
    const request = { model: job.model, dataset: job.dataset };
    expect(await (await submit(request)).json()).toMatchObject({ id: job.id, reused: true, state: 'succeeded' });
    const fresh: JobBody = await (await submit(request, '?reuse=false')).json();
    expect(fresh).toMatchObject({ reused: false });
    expect(fresh.id).not.toBe(job.id);
    const other: JobBody = await (await submit({ ...request, seed: 1 })).json();
    expect(other).toMatchObject({ reused: false });
    for (const { id } of [fresh, other]) await call('POST', `/v1/jobs/${id}/cancel`);
  });

  it('gives its past events as JSON in pages', async () => {
    const all = await get(`/v1/jobs/${job.id}/events`);
    expect(all.items.map((event: { type: string }) => event.type)).toEqual(expect.arrayContaining(['state', 'stage', 'epoch', 'log']));
    const first = await get(`/v1/jobs/${job.id}/events?limit=2`);
    const rest = await get(`/v1/jobs/${job.id}/events?cursor=${first.nextCursor}`);
    expect([...first.items, ...rest.items]).toEqual(all.items);
  });

  it('tells a client that has seen all events to stop', async () => {
    const last = (await get(`/v1/jobs/${job.id}/events`)).items.at(-1).seq;
    const answer = await call('GET', `/v1/jobs/${job.id}/events`, { accept: 'text/event-stream', 'last-event-id': String(last) });
    expect(answer.status).toBe(204);
  });
});

describe('a one-shot job that was done before', () => {
  it('is answered by the finished job, and leaves no second copy of its uploads', async () => {
    const send = async () =>
      (await fetch(`${api.url}/v1/jobs`, { method: 'POST', body: form({ model: classifier(), dataset: points() }) })).json();
    const count = async () => (await get('/v1/models?limit=200')).items.length + (await get('/v1/datasets?limit=200')).items.length;
    const first = await finished((await send()).id);
    expect(first).toMatchObject({ state: 'succeeded' });
    const before = await count();
    expect(await send()).toMatchObject({ id: first.id, reused: true });
    expect(await count()).toBe(before);
  });
});

describe('a job that runs', () => {
  it('streams its events as they happen, goes on after Last-Event-ID, and is cancelled', async () => {
    const { id } = await start('slow');
    const stream = await call('GET', `/v1/jobs/${id}/events`, { accept: 'text/event-stream' });
    expect(stream.headers.get('content-type')).toBe('text/event-stream');
    const reader = new EventReader(stream);
    const progress = await reader.until((event) => event.type === 'progress');
    expect(progress.data).toMatchObject({ job: id, data: { stage: 'train', unit: 'steps' } });
    expect(await get(`/v1/jobs/${id}`)).toMatchObject({ state: 'running', stage: 'train', queuePosition: null });
    for (const path of ['/model', '/accuracy-diff']) {
      const answer = await call('GET', `/v1/jobs/${id}${path}`);
      expect(answer.headers.get('retry-after')).not.toBeNull();
      expect(await answer.json()).toMatchObject({ status: 409, code: 'JOB_NOT_FINISHED', retryable: true });
    }
    expect(await (await call('DELETE', `/v1/jobs/${id}`)).json()).toMatchObject({ status: 409, code: 'CONFLICT' });

    const late = new EventReader(
      await call('GET', `/v1/jobs/${id}/events`, { accept: 'text/event-stream', 'last-event-id': String(progress.id) }),
    );
    expect((await late.until(() => true)).id).toBeGreaterThan(progress.id);

    const waiting = get(`/v1/jobs/${id}?wait=60`);
    const cancel = await call('POST', `/v1/jobs/${id}/cancel`);
    expect([cancel.status, (await cancel.json()).state]).toEqual([202, 'cancelling']);
    expect((await waiting).state).toMatch(/^cancel/);
    for (const one of [reader, late]) {
      const end = await one.until((event) => event.type === 'end');
      expect(end.data).toMatchObject({ id, state: 'cancelled' });
      await one.ended();
    }
    expect(reader.comments).toBeGreaterThan(0);
    expect(await (await call('GET', `/v1/jobs/${id}/model`)).json()).toMatchObject({ status: 409, code: 'JOB_HAS_NO_RESULT' });
    expect((await call('DELETE', `/v1/jobs/${id}`)).status).toBe(204);
    expect((await call('GET', `/v1/jobs/${id}`)).status).toBe(404);
  });

  it('tells why it failed, inside the job', async () => {
    const job = await finished((await start('refuse')).id);
    expect(job).toMatchObject({
      state: 'failed',
      error: { code: 'MODEL_NOT_TRAINABLE', stage: 'load', place: { node: 'fc1' }, hint: expect.any(String) },
    });
    const problem = await (await call('GET', `/v1/jobs/${job.id}/model`)).json();
    expect(problem).toMatchObject({ code: 'JOB_HAS_NO_RESULT', place: { node: 'fc1' } });
    expect(problem.detail).toContain('MODEL_NOT_TRAINABLE');
  });
});

describe('requests that make no job', () => {
  it('names every wrong field of the settings', async () => {
    const uploads = await storeUploads(api.store);
    const answer = await submit({
      ...uploads,
      methd: 'qat',
      training: { epochs: 0 },
      target: 'gpu',
      quantization: { weights: { bits: 1 } },
    });
    const problem = await answer.json();
    expect(problem).toMatchObject({ status: 422, code: 'CONFIG_INVALID', type: '/docs/errors#CONFIG_INVALID' });
    expect(Value.Errors(ProblemSchema, problem)).toEqual([]);
    expect(problem.errors.map((one: { pointer: string }) => one.pointer).sort()).toEqual([
      '/methd',
      '/quantization/weights/bits',
      '/target',
      '/training/epochs',
    ]);
    expect(answer.headers.get('x-request-id')).toBe(problem.requestId);
  });

  it('points at ids that do not exist, and at settings that cannot be met', async () => {
    const uploads = await storeUploads(api.store);
    const missing = 'mdl_00000000000000000000000000';
    expect(await (await submit({ ...uploads, model: missing })).json()).toMatchObject({ status: 422, errors: [{ pointer: '/model' }] });
    expect(await (await submit({ ...uploads, evaluation: { metric: 'rmse' } })).json()).toMatchObject({
      status: 422,
      code: 'CONFIG_IMPOSSIBLE',
      errors: [{ pointer: '/evaluation/metric' }],
    });
  });

  it.each([
    ['no JSON', '{"model":', 'application/json', 400, 'JSON_INVALID'],
    ['no body', '', 'application/json', 400, 'BODY_EMPTY'],
    ['a list', '[]', 'application/json', 422, 'CONFIG_INVALID'],
    ['a poisoned prototype', '{"__proto__": {"a": 1}}', 'application/json', 400, 'JSON_INVALID'],
    ['another type', '<job/>', 'application/xml', 415, 'UNSUPPORTED_MEDIA_TYPE'],
    ['too much', `{"metadata": {"a": "${'x'.repeat(2_000_000)}"}}`, 'application/json', 413, 'PAYLOAD_TOO_LARGE'],
  ])('answers %s with a problem', async (_what, body, type, status, code) => {
    const answer = await fetch(`${api.url}/v1/jobs`, { method: 'POST', body, headers: { 'content-type': type } });
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(await answer.json()).toMatchObject({ status, code });
  });
});

describe('the list', () => {
  it('filters and pages', async () => {
    const uploads = await storeUploads(api.store, { model: 'listed' });
    const ids: string[] = [];
    for (let seed = 0; seed < 3; seed++) ids.unshift((await (await submit({ ...uploads, seed })).json()).id);
    const first = await get(`/v1/jobs?model=${uploads.model}&limit=2`);
    const second = await get(`/v1/jobs?model=${uploads.model}&limit=2&cursor=${first.nextCursor}`);
    expect([...first.items, ...second.items].map((job: JobBody) => job.id)).toEqual(ids);
    expect(second.nextCursor).toBeNull();
    for (const id of ids) await call('POST', `/v1/jobs/${id}/cancel`);
    for (const id of ids) await finished(id);
    const listed = (states: string) => get(`/v1/jobs?dataset=${uploads.dataset}&state=${states}`).then((page) => page.items.length);
    expect(await listed('queued,running')).toBe(0);
    expect(await listed('cancelled,succeeded')).toBe(3);
    expect(await get('/v1/jobs?state=done')).toMatchObject({ status: 400, code: 'VALIDATION', errors: [{ pointer: '/state' }] });
    expect(await get('/v1/jobs?limit=0')).toMatchObject({ status: 400, errors: [{ pointer: '/limit' }] });
    expect(await get('/v1/jobs?cursor=abc')).toMatchObject({ status: 400, code: 'VALIDATION' });
  });
});

interface ServerEvent {
  id: number;
  type: string;
  data: Record<string, unknown>;
}

/** Reads text/event-stream. */
class EventReader {
  comments = 0;
  readonly #events: AsyncGenerator<ServerEvent>;

  constructor(answer: Response) {
    this.#events = this.#read(answer);
  }

  async until(wanted: (event: ServerEvent) => boolean): Promise<ServerEvent> {
    for (;;) {
      const { value, done } = await this.#events.next();
      if (done) throw new Error('the stream ended before the event came');
      if (wanted(value)) return value;
    }
  }

  async ended(): Promise<void> {
    expect((await this.#events.next()).done).toBe(true);
  }

  async *#read(answer: Response): AsyncGenerator<ServerEvent> {
    let text = '';
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
        if (block.startsWith(':')) this.comments++;
        const data = field('data');
        if (data !== undefined) yield { id: Number(field('id')), type: field('event') ?? 'message', data: JSON.parse(data) };
      }
    }
  }
}
