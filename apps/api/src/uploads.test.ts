import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { form, startApi, type TestApi } from '../../../tests/support/api.js';
import { classifier, points, splitClassifier } from '../../../tests/support/samples.js';
import { until } from '../../../tests/support/services.js';

let api: TestApi;
beforeAll(async () => {
  api = await startApi({
    limits: { ...(await import('@octet/contracts')).defaultLimits, modelBytes: 100_000, datasetBytes: 200_000 },
    uploadIdleMs: 500,
  });
});
afterAll(() => api.close());

const octets = { 'content-type': 'application/octet-stream' };
const post = (path: string, body: FormData | Uint8Array, headers: Record<string, string> = {}) =>
  fetch(api.url + path, {
    method: 'POST',
    body: body instanceof FormData ? body : new Uint8Array(body),
    headers: body instanceof FormData ? headers : { ...octets, ...headers },
  });
const get = async (path: string) => (await fetch(api.url + path)).json();

describe('models', () => {
  it('takes a model as a body, says what it is, lists it and deletes it', async () => {
    const answer = await post('/v1/models?name=little', classifier());
    const model = await answer.json();
    expect(answer.status, JSON.stringify(model)).toBe(201);
    expect(answer.headers.get('location')).toBe(`/v1/models/${model.id}`);
    expect(model).toMatchObject({
      name: 'little',
      bytes: classifier().length,
      summary: { format: 'onnx', ops: { Gemm: 2, Relu: 1 }, trainable: true },
    });
    expect(await get(`/v1/models/${model.id}`)).toEqual(model);
    expect((await get(`/v1/models?sha256=${model.sha256}`)).items).toEqual([model]);

    expect((await fetch(`${api.url}/v1/models/${model.id}`, { method: 'DELETE' })).status).toBe(204);
    expect((await fetch(`${api.url}/v1/models/${model.id}`)).status).toBe(404);
  });

  it('takes a model as a part, under the name of its file', async () => {
    const body = new FormData();
    body.append('file', new Blob([new Uint8Array(classifier())]), 'C:\\models\\net v2.onnx');
    const model = await (await post('/v1/models', body)).json();
    expect(model).toMatchObject({ name: 'net v2', filename: 'net v2.onnx' });
  });

  describe('with its weights in a file beside it', () => {
    const { model: file, weights } = splitClassifier();
    const parts = (external: Record<string, Uint8Array>) => {
      const body = new FormData();
      body.append('file', new Blob([new Uint8Array(file)]), 'net.onnx');
      for (const [name, data] of Object.entries(external)) body.append('external', new Blob([new Uint8Array(data)]), name);
      return body;
    };

    it('takes both as parts, and as the same model whatever their order', async () => {
      const answers = await Promise.all([
        post('/v1/models', parts({ 'net.onnx.data': weights })),
        post('/v1/models', parts({ 'unused.bin': weights, 'net.onnx.data': weights })),
        post('/v1/models', parts({ 'net.onnx.data': weights, 'unused.bin': weights })),
      ]);
      const models = await Promise.all(answers.map((answer) => answer.json()));
      expect(models[0], JSON.stringify(models[0])).toMatchObject({
        name: 'net',
        filename: 'net.zip',
        summary: { ops: { Gemm: 2, Relu: 1 }, trainable: true },
      });
      expect(models[0].summary.bytes).toBe(file.length + weights.length);
      expect(models[1].sha256).toBe(models[2].sha256);
    });

    it('says which file is missing, and that names must differ', async () => {
      expect(await (await post('/v1/models', file)).json()).toMatchObject({
        code: 'MODEL_EXTERNAL_DATA',
        place: { file: 'net.onnx.data' },
        hint: expect.stringContaining('"external"'),
      });
      expect(await (await post('/v1/models', parts({ 'other.bin': weights }))).json()).toMatchObject({
        code: 'MODEL_EXTERNAL_DATA',
        detail: expect.stringContaining('net.onnx.data'),
      });
      expect(await (await post('/v1/models', parts({ 'net.onnx': weights }))).json()).toMatchObject({ code: 'MULTIPART_INVALID' });
      expect(await (await post('/v1/models', parts({ 'net.onnx.data': new Uint8Array(100_001) }))).json()).toMatchObject({
        code: 'MODEL_TOO_LARGE',
      });
    });
  });

  it('refuses what is larger than the limit while it comes in', async () => {
    for (const body of [new Uint8Array(100_001), form({ file: new Uint8Array(100_001) })]) {
      const answer = await post('/v1/models', body);
      expect(await answer.json()).toMatchObject({ code: 'MODEL_TOO_LARGE', status: 413, detail: expect.stringContaining('100000 bytes') });
    }
  });

  it('lets a sender that is still sending see why it was refused', async () => {
    const big = new Uint8Array(32_000_000);
    for (const body of [big, form({ file: big }), form({ nonsense: big })])
      expect([400, 413]).toContain((await post('/v1/models', body)).status);
  });

  it('stores nothing of a file that is not a model', async () => {
    const answer = await post('/v1/models', Buffer.from('PK not a model at all'));
    const problem = await answer.json();
    expect(answer.status, JSON.stringify(problem)).toBe(422);
    expect(problem.code).toMatch(/^MODEL_/);
    await until(async () => (await api.staged()).length === 0, 'the upload to be cleared away');
  });
});

describe('datasets', () => {
  it('takes a dataset with its config, and checks it against a model', async () => {
    const answer = await post('/v1/datasets', form({ config: '{"scale": 0.5}', file: points() }));
    const dataset = await answer.json();
    expect(answer.status, JSON.stringify(dataset)).toBe(201);
    expect(dataset).toMatchObject({ config: { scale: 0.5 }, summary: { samples: 60, classes: 3, sampleShape: [4] } });
    const model = await (await post('/v1/models', classifier())).json();
    expect((await get(`/v1/datasets/${dataset.id}?model=${model.id}`)).fit).toMatchObject({ model: model.id, fits: true });

    const wide = await (await post('/v1/datasets', points({ features: 5 }))).json();
    expect((await get(`/v1/datasets/${wide.id}?model=${model.id}`)).fit).toMatchObject({ fits: false, problem: { code: 'DATASET_SHAPE' } });
    const many = await (await post('/v1/datasets', points({ classes: 4 }))).json();
    expect((await get(`/v1/datasets/${many.id}?model=${model.id}`)).fit).toMatchObject({
      fits: false,
      problem: { code: 'DATASET_CLASSES' },
    });
  });

  it('takes the config of a raw body from the query, and names each wrong field', async () => {
    const config = encodeURIComponent('{"scal": 1, "layout": "HWC"}');
    const problem = await (await post(`/v1/datasets?config=${config}`, points())).json();
    expect(problem).toMatchObject({ status: 422, code: 'DATASET_CONFIG' });
    expect(problem.errors.map((one: { pointer: string }) => one.pointer).sort()).toEqual(['/config/layout', '/config/scal']);
  });
});

describe('bodies that are not what they should be', () => {
  it.each([
    ['an unknown part', form({ file: new Uint8Array(1), extra: 'x' }), 'MULTIPART_INVALID'],
    ['no part', form({}), 'MULTIPART_INVALID'],
    ['an empty part', form({ file: new Uint8Array(0) }), 'BODY_EMPTY'],
    ['an empty body', new Uint8Array(0), 'BODY_EMPTY'],
  ])('answers %s with 400', async (_what, body, code) => {
    const answer = await post('/v1/models', body);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ code });
  });

  it('answers a part that came twice, a broken boundary and a cut-off body', async () => {
    const twice = new FormData();
    for (let i = 0; i < 2; i++) twice.append('file', new Blob([new Uint8Array(3)]), 'a');
    expect(await (await post('/v1/models', twice)).json()).toMatchObject({
      code: 'MULTIPART_INVALID',
      detail: expect.stringContaining('twice'),
    });
    const raw = (type: string, body: string) => fetch(`${api.url}/v1/models`, { method: 'POST', body, headers: { 'content-type': type } });
    expect(await (await raw('multipart/form-data', 'x')).json()).toMatchObject({ status: 400, code: 'MULTIPART_INVALID' });
    expect(
      await (
        await raw('multipart/form-data; boundary=b', '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc')
      ).json(),
    ).toMatchObject({ status: 400 });
  });

  it.each(['application/json', 'text/plain', 'image/png'])('answers the content type %s with 415', async (type) => {
    const answer = await fetch(`${api.url}/v1/models`, { method: 'POST', body: '{}', headers: { 'content-type': type } });
    expect(answer.status).toBe(415);
    expect(await answer.json()).toMatchObject({ code: 'UNSUPPORTED_MEDIA_TYPE' });
  });

  it('gives up an upload that stops sending, and one whose sender is gone, and keeps nothing of them', async () => {
    const { port } = new URL(api.url);
    const open = () => request({ port, path: '/v1/models', method: 'POST', headers: { ...octets, 'content-length': 50_000 } });
    const stalled = open();
    const answer = new Promise<number | undefined>((resolve, reject) =>
      stalled.on('response', (response) => resolve(response.statusCode)).on('error', reject),
    );
    stalled.write(Buffer.alloc(1000));
    expect(await answer).toBe(400);
    stalled.destroy();

    const gone = open();
    gone.on('error', () => undefined);
    gone.write(Buffer.alloc(1000));
    await until(async () => (await api.staged()).length > 0, 'the upload to arrive');
    gone.destroy();
    await until(async () => (await api.staged()).length === 0, 'the upload to be cleared away');
    expect((await fetch(`${api.url}/livez`)).status).toBe(200);
  });
});

describe('Idempotency-Key', () => {
  it('replays the answer for the same request, and refuses another one', async () => {
    const headers = { 'idempotency-key': 'upload-1' };
    const first = await post('/v1/models', classifier(), headers);
    const again = await post('/v1/models', classifier(), headers);
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(await again.json()).toEqual(await first.json());
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    expect([first.headers.get('idempotency-replayed'), again.headers.get('idempotency-replayed')]).toEqual([null, 'true']);
    expect(await (await post('/v1/models?name=other', classifier(), headers)).json()).toMatchObject({
      status: 422,
      code: 'IDEMPOTENCY_MISMATCH',
    });
  });

  it('lets one of two requests at the same time through', async () => {
    const send = () => post('/v1/datasets', points(), { 'idempotency-key': 'both' });
    const answers = await Promise.all([send(), send()]);
    const codes = await Promise.all(answers.map(async (answer) => (answer.status === 201 ? 'created' : (await answer.json()).code)));
    expect(codes.sort()).toEqual(['IDEMPOTENCY_IN_PROGRESS', 'created'].sort());
  });

  it('frees the key when the request failed', async () => {
    const headers = { 'idempotency-key': 'mended' };
    expect((await post('/v1/models', Buffer.from('no model'), headers)).status).toBe(422);
    expect((await post('/v1/models', classifier(), headers)).status).toBe(201);
  });

  it('refuses a key that is none', async () => {
    expect(await (await post('/v1/models', classifier(), { 'idempotency-key': 'a b' })).json()).toMatchObject({
      status: 400,
      code: 'IDEMPOTENCY_KEY_INVALID',
    });
  });
});
