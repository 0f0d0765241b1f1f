import { METHODS } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApi, type TestApi } from '../../../tests/support/api.js';
import { storeUploads } from '../../../tests/support/fixtures.js';
import { raw } from '../../../tests/support/raw.js';

/** Methods, bodies that nobody wants, and preconditions. */

let api: TestApi;
let uploads: { model: string; dataset: string };
beforeAll(async () => {
  api = await startApi();
  uploads = await storeUploads(api.store);
});
afterAll(() => api.close());

const submit = async (seed = 0) => {
  const answer = await fetch(`${api.url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...uploads, seed }),
  });
  return `${api.url}/v1/jobs/${(await answer.json()).id}`;
};
const job = '/v1/jobs/job_00000000000000000000000000';
const paths: Record<string, string> = {
  '/': 'GET, HEAD, OPTIONS',
  '/livez': 'GET, HEAD, OPTIONS',
  '/openapi.json': 'GET, HEAD, OPTIONS',
  '/v1/jobs': 'GET, HEAD, OPTIONS, POST',
  '/v1/jobs/': 'GET, HEAD, OPTIONS, POST',
  [job]: 'DELETE, GET, HEAD, OPTIONS',
  [`${job}/cancel`]: 'OPTIONS, POST',
  [`${job}/events?limit=1`]: 'GET, HEAD, OPTIONS',
  [`${job}/accuracy-diff.md`]: 'GET, HEAD, OPTIONS',
};

describe('methods', () => {
  const methods = [...new Set([...METHODS, 'QUERY', 'TRACE', 'BREW', 'get'])].filter((method) => method !== 'CONNECT');

  it.each(Object.entries(paths))('%s answers %s, and all others with 405', async (path, allow) => {
    for (const method of methods.filter((one) => !allow.split(', ').includes(one))) {
      const answer = await raw(
        api.url,
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Type: text/x\r\n\r\nabc`,
      );
      expect([answer.status, answer.headers.allow], method).toEqual([405, allow]);
      if (method !== 'HEAD') expect(JSON.parse(answer.body)).toMatchObject({ code: 'METHOD_NOT_ALLOWED' });
    }
    const options = await raw(api.url, `OPTIONS ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    expect([options.status, options.headers.allow, options.body]).toEqual([204, allow, '']);
  });

  it('unknown paths are 404 with every method', async () => {
    for (const method of methods.filter((one) => one !== 'HEAD')) {
      const answer = await raw(api.url, `${method} /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc`);
      expect([answer.status, JSON.parse(answer.body).code], method).toEqual([404, 'NOT_FOUND']);
    }
  });

  it('answers OPTIONS * and CONNECT', async () => {
    const all = await raw(api.url, 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect([all.status, all.headers.allow]).toEqual([204, 'DELETE, GET, HEAD, OPTIONS, POST']);
    expect((await raw(api.url, 'CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n')).status).toBe(404);
  });

  it.each(['/', '/livez', '/v1/jobs', '/v1/models', '/openapi.json', '/docs/errors'])('HEAD %s is GET without its body', async (path) => {
    const [head, get] = [await fetch(api.url + path, { method: 'HEAD' }), await fetch(api.url + path)];
    expect([head.status, await head.text()]).toEqual([200, '']);
    for (const name of ['content-type', 'content-length']) expect(head.headers.get(name)).toBe(get.headers.get(name));
  });

  it('takes the absolute form of a target', async () => {
    expect((await raw(api.url, `GET ${api.url}/v1/jobs?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n`)).status).toBe(200);
    expect((await raw(api.url, `GET ${api.url} HTTP/1.1\r\nHost: localhost\r\n\r\n`)).status).toBe(200);
  });
});

describe('a request that needs no body', () => {
  const bodies: [string, Record<string, string>, string | undefined][] = [
    ['nothing', {}, undefined],
    ['a JSON type and nothing', { 'content-type': 'application/json' }, undefined],
    ['a JSON type and an empty text', { 'content-type': 'application/json' }, ''],
    ['an empty object', { 'content-type': 'application/json' }, '{}'],
    ['broken JSON', { 'content-type': 'application/json' }, '{"a'],
    ['an empty form', { 'content-type': 'application/x-www-form-urlencoded' }, ''],
    ['a multipart type', { 'content-type': 'multipart/form-data' }, ''],
    ['a text', { 'content-type': 'text/plain' }, 'please'],
    ['a type that is none', { 'content-type': 'nonsense' }, 'x'],
  ];

  it.each(bodies)('is answered with %s', async (_what, headers, body) => {
    const url = await submit();
    const cancel = await fetch(`${url}/cancel`, { method: 'POST', headers, ...(body === undefined ? {} : { body }) });
    expect([cancel.status, (await cancel.json()).state]).toEqual([202, 'cancelled']);
    const remove = await fetch(url, { method: 'DELETE', headers, ...(body === undefined ? {} : { body }) });
    expect(remove.status).toBe(204);
  });

  it('is answered over raw HTTP, with every way to say that there is none', async () => {
    for (const lines of [
      'Content-Type: application/json\r\nContent-Length: 0\r\n',
      'Content-Type: application/json\r\n',
      'Content-Length: 0\r\n',
      'Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n',
    ]) {
      const { pathname } = new URL(await submit());
      const tail = lines.startsWith('Transfer') ? '0\r\n\r\n' : '';
      expect((await raw(api.url, `POST ${pathname}/cancel HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n${tail}`)).status, lines).toBe(202);
    }
  });
});

describe('preconditions', () => {
  it('gives 304 to a client that has the job, and lets nobody delete or cancel what has changed', async () => {
    const url = await submit();
    const first = await fetch(url);
    const tag = first.headers.get('etag') ?? '';
    expect(tag).toMatch(/^"[0-9a-f]{64}"$/);
    const again = await fetch(url, { headers: { 'if-none-match': `"other", W/${tag}` } });
    expect([again.status, again.headers.get('etag'), await again.text()]).toEqual([304, tag, '']);

    const act = (method: string, path: string, headers: Record<string, string>) => fetch(url + path, { method, headers });
    const wrong: Record<string, string>[] = [
      { 'if-match': '"other"' },
      { 'if-match': `W/${tag}` },
      { 'if-none-match': tag },
      { 'if-none-match': '*' },
    ];
    for (const headers of wrong) {
      const refused = await act('POST', '/cancel', headers);
      expect(await refused.json(), JSON.stringify(headers)).toMatchObject({ status: 412, code: 'PRECONDITION_FAILED' });
    }
    expect((await fetch(url, { headers: { 'if-match': '"other"' } })).status).toBe(412);
    expect((await act('POST', '/cancel', { 'if-match': `"other", ${tag}` })).status).toBe(202);

    const changed = await fetch(url, { headers: { 'if-none-match': tag } });
    expect([changed.status, (await changed.json()).state]).toEqual([200, 'cancelled']);
    expect((await act('DELETE', '', { 'if-match': tag })).status).toBe(412);
    expect((await act('DELETE', '', { 'if-match': '*' })).status).toBe(204);
    expect((await act('DELETE', '', { 'if-match': '*' })).status).toBe(404);
  });

  it('holds for models and datasets too', async () => {
    const fresh = await storeUploads(api.store, { model: 'another' });
    for (const path of [`/v1/models/${fresh.model}`, `/v1/datasets/${fresh.dataset}`]) {
      const tag = (await fetch(api.url + path)).headers.get('etag') ?? '';
      expect((await fetch(api.url + path, { headers: { 'if-none-match': tag } })).status).toBe(304);
      expect((await fetch(api.url + path, { method: 'DELETE', headers: { 'if-match': '"other"' } })).status).toBe(412);
      expect((await fetch(api.url + path, { method: 'DELETE', headers: { 'if-match': tag } })).status).toBe(204);
    }
  });
});
