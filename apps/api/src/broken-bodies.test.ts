import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApi, type TestApi } from '../../../tests/support/api.js';
import { RawConnection, raw } from '../../../tests/support/raw.js';
import { classifier } from '../../../tests/support/samples.js';
import { until } from '../../../tests/support/services.js';

/** Bodies that are broken, cut off or slow: each is answered without waiting for a clock, and no staging folder stays. */

let api: TestApi;
beforeAll(async () => {
  // The clocks are set so late that a test which waits for one of them fails.
  api = await startApi({ uploadIdleMs: 600_000, jsonMs: 600_000 });
});
afterAll(async () => {
  await until(async () => (await api.staged()).length === 0, 'the uploads to be cleared away');
  await api.close();
});

const head = (path: string, length: number | string, type = 'multipart/form-data; boundary=B', more = '') =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n${more}\r\n`;
const part = (name: string, value: string, more = '') => `--B\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`;
const bare = (bytes: number) => `--B\r\nX-Y: 1\r\n\r\n${'x'.repeat(bytes)}\r\n`;
const model = 'application/octet-stream';

describe('a multipart body that is complete and wrong', () => {
  it.each<[string, string, string, RegExp]>([
    ['a part without Content-Disposition', '/v1/models', `${bare(20_000)}--B--\r\n`, /no Content-Disposition/],
    ['a short one', '/v1/models', `${bare(10)}--B--\r\n`, /no Content-Disposition/],
    ['one before another part', '/v1/jobs', `${bare(20_000)}${part('config', '{}')}--B--\r\n`, /no Content-Disposition/],
    ['one after another part', '/v1/jobs', `${part('config', '{}')}${bare(20_000)}--B--\r\n`, /no Content-Disposition/],
    ['a part without headers', '/v1/models', '--B\r\n\r\nabc\r\n--B--\r\n', /no Content-Disposition/],
    [
      'a file without the closing boundary',
      '/v1/models',
      part('file', 'x'.repeat(20_000), '; filename="m.onnx"'),
      /ends inside the part "file"/,
    ],
    ['a config without the closing boundary', '/v1/jobs', part('config', '{"method":"ptq"}').trimEnd(), /ends inside the part "config"/],
    ['a boundary that does not close', '/v1/jobs', `${part('config', '{}')}--B\r\n`, /ends inside the headers/],
    [
      'headers without a body',
      '/v1/models',
      '--B\r\nContent-Disposition: form-data; name="file"\r\n--B--\r\n',
      /which is not a header|inside the headers/,
    ],
    ['a part without a name', '/v1/models', '--B\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--B--\r\n', /form-data with a name/],
    ['a part with an empty name', '/v1/models', `${part('', 'abc')}--B--\r\n`, /form-data with a name/],
    ['an attachment', '/v1/models', '--B\r\nContent-Disposition: attachment; name="file"\r\n\r\nabc\r\n--B--\r\n', /form-data with a name/],
    ['another boundary than announced', '/v1/models', part('file', 'abc').replaceAll('--B', '--C'), /does not begin with the boundary/],
    ['no boundary at all', '/v1/models', 'x'.repeat(20_000), /does not begin with the boundary/],
    ['a boundary with a tail', '/v1/models', `${part('file', 'abc')}--Bx\r\n`, /followed by something other/],
    [
      'bare line feeds',
      '/v1/models',
      `${part('file', 'abc')}--B--\r\n`.replaceAll('\r\n', '\n'),
      /does not begin|followed by something|inside the headers/,
    ],
    ['no part', '/v1/models', '--B--\r\n', /"file" is missing/],
    ['an empty body', '/v1/models', '', /does not begin with the boundary/],
    ['a header of 20 kB', '/v1/models', `--B\r\nX: ${'y'.repeat(20_000)}\r\n\r\nabc\r\n--B--\r\n`, /as the headers of a part/],
    ['a header twice', '/v1/models', '--B\r\nA: 1\r\na: 2\r\n\r\nabc\r\n--B--\r\n', /twice/],
    ['a part twice', '/v1/jobs', `${part('config', '{}')}${part('config', '{}')}--B--\r\n`, /came twice/],
    ['an unknown part', '/v1/models', `${part('constructor', 'abc')}--B--\r\n`, /no part "constructor"/],
    [
      'a base64 part',
      '/v1/models',
      '--B\r\nContent-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--B--\r\n',
      /base64/,
    ],
  ])('%s', async (_what, path, body, detail) => {
    const answer = await raw(api.url, head(path, Buffer.byteLength(body)) + body);
    expect(answer.headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(answer.body)).toMatchObject({ status: 400, code: 'MULTIPART_INVALID', detail: expect.stringMatching(detail) });
  });

  it('an empty part, and one that is not text', async () => {
    for (const [body, code] of [
      [`${part('file', '')}--B--\r\n`, 'BODY_EMPTY'],
      [`${part('file', 'abc')}${part('name', '\u00ff')}--B--\r\n`, 'JSON_INVALID'],
    ] as const) {
      const answer = await raw(api.url, Buffer.from(head('/v1/models', body.length) + body, 'latin1'));
      expect(JSON.parse(answer.body)).toMatchObject({ status: 400, code });
    }
  });

  it('is refused before all of it has come', async () => {
    for (const start of [bare(20_000), part('nonsense', 'x'), 'x'.repeat(20_000)])
      expect((await raw(api.url, head('/v1/models', 1_000_000_000) + start)).status).toBe(400);
  });

  it('wants a boundary in the Content-Type', async () => {
    for (const type of [
      'multipart/form-data',
      'multipart/form-data; boundary=',
      'multipart/form-data; boundary="B',
      `multipart/form-data; boundary=${'B'.repeat(80)}`,
    ])
      expect(JSON.parse((await raw(api.url, `${head('/v1/models', 5, type)}hello`)).body)).toMatchObject({ code: 'MULTIPART_INVALID' });
  });
});

describe('a sender that leaves', () => {
  const upload = part('file', 'x'.repeat(1000));
  it.each([
    ['a multipart body', head('/v1/models', 50_000) + upload.slice(0, -2)],
    ['a one-shot job', head('/v1/jobs', 50_000) + part('model', 'x'.repeat(1000)).slice(0, -2)],
    ['a raw body', `${head('/v1/models', 50_000, model)}${'x'.repeat(1000)}`],
    [
      'a chunked body',
      `POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${model}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
    ],
  ])('in the middle of %s leaves nothing, whether it cuts the line or only its half', async (_what, bytes) => {
    for (const leave of ['destroy', 'end'] as const) {
      const connection = new RawConnection(api.url).write(bytes);
      await until(async () => (await api.staged()).length > 0, 'the upload to arrive');
      if (leave === 'destroy') connection.close();
      else {
        connection.socket.end();
        expect(JSON.parse((await connection.answer()).body)).toMatchObject({ status: 400, code: 'UPLOAD_ABORTED' });
      }
      await until(async () => (await api.staged()).length === 0, 'the upload to be cleared away');
      connection.close();
    }
  });

  it('in the middle of JSON gets an answer as well', async () => {
    const connection = new RawConnection(api.url).write(`${head('/v1/jobs', 500, 'application/json')}{"model"`);
    connection.socket.end();
    expect(JSON.parse((await connection.answer()).body)).toMatchObject({ status: 400, code: 'UPLOAD_ABORTED' });
  });

  it('during the inspection leaves nothing', async () => {
    const body = Buffer.from(classifier());
    const connection = new RawConnection(api.url).write(head('/v1/models', body.length, model)).write(body);
    await until(async () => (await api.staged()).length > 0, 'the upload to arrive');
    connection.close();
    await until(async () => (await api.staged()).length === 0, 'the upload to be cleared away');
  });
});

describe('a sender that is slow', () => {
  let hasty: TestApi;
  beforeAll(async () => {
    hasty = await startApi({ uploadIdleMs: 400, jsonMs: 400, headersMs: 400 });
  });
  afterAll(() => hasty.close());

  /** Sends a byte every 20 ms until there is an answer. */
  async function drip(bytes: string): Promise<{ status: number; code: string }> {
    const connection = new RawConnection(hasty.url).write(bytes);
    const drops = setInterval(() => connection.write(' '), 20);
    const { body } = await connection.answer().finally(() => clearInterval(drops));
    connection.close();
    return JSON.parse(body);
  }

  it('is given up whatever it drips: a model, a part, JSON, headers', async () => {
    expect(await drip(head('/v1/models', 50_000, model))).toMatchObject({ status: 400, code: 'UPLOAD_ABORTED' });
    expect(await drip(head('/v1/models', 50_000) + part('file', 'x').slice(0, -2))).toMatchObject({ status: 400, code: 'UPLOAD_ABORTED' });
    expect(await drip(`${head('/v1/jobs', 50_000, 'application/json')}{`)).toMatchObject({ status: 408, code: 'REQUEST_TIMED_OUT' });
    expect(await drip('GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX: ')).toMatchObject({ status: 408, code: 'REQUEST_TIMED_OUT' });
    await until(async () => (await hasty.staged()).length === 0, 'the uploads to be cleared away');
  });
});
