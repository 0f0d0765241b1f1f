import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { form, startApi, type TestApi } from '../../../tests/support/api.js';
import { jobFor, storeUploads } from '../../../tests/support/fixtures.js';
import { startRedis, until } from '../../../tests/support/services.js';
import { apiConfig, readEnvironment } from './config.js';
import { loggerOptions } from './logging.js';

describe('the service', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await startApi();
  });
  afterAll(() => api.close());
  const get = (path: string, init?: RequestInit) => fetch(api.url + path, init);

  it('says that it lives, is ready, and what it is', async () => {
    expect(await (await get('/livez')).json()).toEqual({ status: 'ok' });
    expect(await (await get('/readyz')).json()).toEqual({ status: 'ok', database: 'ok', queue: 'ok' });
    expect(await (await get('/version')).json()).toMatchObject({ name: 'octet', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  });

  it.each(['/', '/docs', '/docs/errors', '/docs/errors.md', '/openapi.json'])('shows %s', async (path) => {
    const answer = await get(path);
    expect(answer.status).toBe(200);
    expect((await answer.text()).length).toBeGreaterThan(500);
  });

  it('gives a curl line with its own address, whatever the Host header says', async () => {
    expect(await (await get('/')).text()).toContain(`${api.url}/v1/jobs`);
    const answer = await api.app.inject({ url: '/', headers: { host: '"><script>alert(1)</script>' } });
    expect(answer.body).not.toContain('<script');
  });

  it('answers every wrong way with a problem', async () => {
    const cases: [string, RequestInit, number, string][] = [
      ['/nothing', {}, 404, 'NOT_FOUND'],
      ['/v1/models/%00', {}, 404, 'NOT_FOUND'],
      ['/v1/models/..%2f..%2fetc', {}, 404, 'NOT_FOUND'],
      ['/v1/jobs/job_00000000000000000000000000', {}, 404, 'NOT_FOUND'],
      [`/v1/jobs/${'x'.repeat(500)}`, {}, 404, 'NOT_FOUND'],
      ['/v1/jobs/%zz', {}, 400, 'BAD_REQUEST'],
      ['/v1/jobs', { method: 'PUT' }, 405, 'METHOD_NOT_ALLOWED'],
      ['/v1/models', { method: 'DELETE' }, 405, 'METHOD_NOT_ALLOWED'],
      ['/v1/jobs?page=2', {}, 400, 'VALIDATION'],
      ['/v1/jobs/job_00000000000000000000000000?wait=61', {}, 400, 'VALIDATION'],
    ];
    for (const [path, init, status, code] of cases) {
      const answer = await get(path, init);
      expect(answer.headers.get('content-type'), path).toContain('application/problem+json');
      const problem = await answer.json();
      expect(problem, path).toMatchObject({
        status,
        code,
        type: `/docs/errors#${code}`,
        hint: expect.any(String),
        retryable: expect.any(Boolean),
      });
      expect(problem.requestId).toBe(answer.headers.get('x-request-id'));
    }
    expect((await get('/v1/jobs', { method: 'PUT' })).headers.get('allow')).toBe('GET, HEAD, OPTIONS, POST');
  });

  it('answers what is not HTTP', async () => {
    const { port } = new URL(api.url);
    const text = await new Promise<string>((resolve, reject) => {
      const socket = connect(Number(port), '127.0.0.1', () => socket.write('GET\0 nonsense\r\n\r\n'));
      let received = '';
      socket.on('data', (bytes) => {
        received += bytes;
      });
      socket.on('error', reject).on('close', () => resolve(received));
    });
    expect(text).toContain('400');
    expect(text).toContain('application/problem+json');
  });

  it('lets pages of other sites change nothing', async () => {
    const foreign = await api.app.inject({
      method: 'POST',
      url: '/v1/jobs',
      headers: { 'sec-fetch-site': 'cross-site', origin: 'https://example.org' },
    });
    expect(foreign.json()).toMatchObject({ status: 403, code: 'CROSS_SITE' });
    const own = await api.app.inject({ method: 'POST', url: '/v1/jobs', headers: { 'sec-fetch-site': 'same-origin' } });
    expect(own.json()).toMatchObject({ code: 'BODY_EMPTY' });
  });

  it('answers careless and hostile JSON with what is wrong in it', async () => {
    const cases: [string | Buffer<ArrayBuffer>, RegExp][] = [
      ['['.repeat(100_000) + ']'.repeat(100_000), /more than 64 deep/],
      [`{"metadata":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_001)}`, /more than 64 deep/],
      ['{"metadata": {"__proto__": 1}}', /"__proto__"/],
      ['{"model": }', /is not JSON: .*position|token/],
      [Buffer.from('{"model":"\xff"}', 'latin1'), /not UTF-8/],
    ];
    for (const [body, detail] of cases) {
      const answer = await get('/v1/jobs', { method: 'POST', body, headers: { 'content-type': 'application/json' } });
      expect(await answer.json()).toMatchObject({ status: 400, code: 'JSON_INVALID', detail: expect.stringMatching(detail) });
    }
    const poisoned = await get('/v1/jobs', {
      method: 'POST',
      body: '\ufeff{"constructor": {"prototype": {}}}',
      headers: { 'content-type': 'application/json' },
    });
    expect(await poisoned.json()).toMatchObject({ code: 'CONFIG_INVALID', detail: expect.stringContaining('/constructor') });
    const config = form({ model: new Uint8Array(1), dataset: new Uint8Array(1), config: '['.repeat(1000) + ']'.repeat(1000) });
    expect(await (await get('/v1/jobs', { method: 'POST', body: config })).json()).toMatchObject({ code: 'JSON_INVALID' });
  });

  it('names the Content-Type and the Content-Encoding that it does not take', async () => {
    const post = async (headers: Record<string, string>) => (await get('/v1/jobs', { method: 'POST', body: 'x', headers })).json();
    expect(await post({ 'content-type': 'a/b' })).toMatchObject({ status: 415, detail: 'The Content-Type is "a/b".' });
    expect(await post({ 'content-type': 'application/json', 'content-encoding': 'gzip' })).toMatchObject({
      status: 415,
      detail: expect.stringContaining('gzip'),
    });
  });

  it('clears away at the start what dead processes left', async () => {
    const tempDirectory = await mkdtemp(join(tmpdir(), 'octet-test-left-'));
    for (const name of ['octet-upload-old', 'octet-upload-new', 'other']) await mkdir(join(tempDirectory, name));
    for (const name of ['octet-upload-old', 'other']) await utimes(join(tempDirectory, name), 0, 0);
    const other = await startApi({ tempDirectory });
    expect((await readdir(tempDirectory)).sort()).toEqual(['octet-upload-new', 'other']);
    await other.close();
    await rm(tempDirectory, { recursive: true });
  });

  it('clears away at the start what a process left that is gone, and nothing of one that lives', async () => {
    const tempDirectory = await mkdtemp(join(tmpdir(), 'octet-test-left-'));
    const holder = new URL('../../../tests/support/staging-holder.ts', import.meta.url);
    const start = async () => {
      const child = spawn(process.execPath, ['--import', 'tsx', holder.pathname, tempDirectory], { stdio: ['pipe', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      return child;
    };
    const [dies, lives] = [await start(), await start()];
    const kept = (await readdir(tempDirectory)).filter((name) => name.includes(`-${lives.pid}-`));
    dies.kill('SIGKILL');
    await once(dies, 'exit');
    await (await startApi({ tempDirectory })).close();
    expect(await readdir(tempDirectory)).toEqual(kept);
    expect(kept).toHaveLength(1);
    lives.kill('SIGKILL');
    await rm(tempDirectory, { recursive: true });
  });

  it('sends headers that keep pages to themselves', async () => {
    const { headers } = await get('/');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(headers.get('content-security-policy')).not.toContain('upgrade-insecure-requests');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
  });

  it('ends waiting requests when it stops', async () => {
    const other = await startApi();
    const job = await other.store.jobs.create(jobFor(await storeUploads(other.store)));
    const waiting = fetch(`${other.url}/v1/jobs/${job.id}?wait=60`);
    const stream = await fetch(`${other.url}/v1/jobs/${job.id}/events`, { headers: { accept: 'text/event-stream' } });
    await other.close();
    expect((await (await waiting).json()).state).toBe('queued');
    expect(await stream.text()).not.toContain('event: end');
  });
});

describe('keys', () => {
  const key = 'a-long-enough-key';
  let api: TestApi;
  beforeAll(async () => {
    api = await startApi({ apiKeys: ['another-long-key-1', key] });
  });
  afterAll(() => api.close());

  it.each([
    ['none', undefined, 401],
    ['a wrong one', 'Bearer a-long-enough-kez', 401],
    ['another scheme', `Basic ${key}`, 401],
    ['an accepted one', `Bearer ${key}`, 200],
  ])('with %s', async (_what, authorization, status) => {
    const answer = await fetch(`${api.url}/v1/jobs`, authorization === undefined ? {} : { headers: { authorization } });
    expect(answer.status).toBe(status);
    if (status === 401) {
      expect(answer.headers.get('www-authenticate')).toContain('Bearer');
      expect(await answer.json()).toMatchObject({ code: 'UNAUTHENTICATED' });
    }
  });

  it('are not asked for by probes and pages, and do not tell which paths exist', async () => {
    for (const path of ['/livez', '/readyz', '/', '/docs', '/openapi.json']) expect((await fetch(api.url + path)).status, path).toBe(200);
    for (const path of ['/v1/nothing', '/v1/jobs/x']) expect((await fetch(api.url + path)).status, path).toBe(401);
  });
});

describe('limits and outages', () => {
  it('limits the rate, in the headers of the present draft', async () => {
    const api = await startApi({ requestsPerMinute: 2 });
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push(await fetch(`${api.url}/v1/jobs`));
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 429]);
    expect(answers[0]?.headers.get('ratelimit-policy')).toBe('"default";q=2;w=60');
    expect(answers[0]?.headers.get('ratelimit')).toMatch(/^"default";r=1;t=\d+$/);
    expect(Number(answers[2]?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await answers[2]?.json()).toMatchObject({ code: 'RATE_LIMITED', retryable: true });
    expect((await fetch(`${api.url}/livez`)).status).toBe(200);
    await api.close();
  });

  it('answers 503 while Redis is away, keeps no job, and goes on when it is back', async () => {
    const redis = await startRedis();
    const api = await startApi({}, { redisUrl: redis.url });
    const uploads = await storeUploads(api.store);
    const submit = () =>
      fetch(`${api.url}/v1/jobs`, { method: 'POST', body: JSON.stringify(uploads), headers: { 'content-type': 'application/json' } });
    expect((await submit()).status).toBe(202);
    await redis.stop();
    const refused = await submit();
    expect(refused.headers.get('retry-after')).not.toBeNull();
    expect(await refused.json()).toMatchObject({ status: 503, code: 'QUEUE_UNAVAILABLE' });
    expect(await (await fetch(`${api.url}/readyz`)).json()).toMatchObject({ status: 503, code: 'QUEUE_UNAVAILABLE' });
    expect((await (await fetch(`${api.url}/v1/jobs`)).json()).items).toHaveLength(1);
    await api.close();
  });

  it('answers 503 while the database is away, and goes on when it is back', async () => {
    const line = new Line();
    const api = await startApi({}, { route: (url) => line.to(url) });
    line.cut();
    for (const path of ['/v1/jobs', '/readyz']) {
      expect(await (await fetch(api.url + path)).json()).toMatchObject({ status: 503, code: 'DATABASE_UNAVAILABLE', retryable: true });
    }
    await line.mend();
    await until(async () => (await fetch(`${api.url}/v1/jobs`)).status === 200, 'the database to be back');
    await api.close();
    line.cut();
  });
});

/** A TCP connection to the database that can be cut. */
class Line {
  #server = createServer();
  #port = 0;
  #target = { host: '', port: 0 };
  readonly #sockets = new Set<Socket>();

  async to(url: string): Promise<string> {
    const address = new URL(url);
    this.#target = { host: address.hostname, port: Number(address.port) };
    await this.mend();
    address.hostname = '127.0.0.1';
    address.port = String(this.#port);
    return address.href;
  }

  cut(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async mend(): Promise<void> {
    this.#server = createServer((near) => {
      const far = connect(this.#target);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from.on('error', () => undefined).on('close', () => to.destroy()));
        from.pipe(to);
      }
    });
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }
}

describe('settings', () => {
  const environment = { DATABASE_URL: 'postgres://x' };

  it('asks for keys where other machines can reach it', () => {
    expect(apiConfig(readEnvironment({ ...environment })).host).toBe('127.0.0.1');
    const open = { ...environment, HOST: '0.0.0.0' };
    expect(() => apiConfig(readEnvironment(open))).toThrow(/OCTET_API_KEYS/);
    expect(apiConfig(readEnvironment({ ...open, OCTET_ALLOW_ANONYMOUS: '1' })).apiKeys).toEqual([]);
    expect(apiConfig(readEnvironment({ ...open, OCTET_API_KEYS: ' first-long-key-00 ,second-long-key-0' })).apiKeys).toEqual([
      'first-long-key-00',
      'second-long-key-0',
    ]);
    expect(() => apiConfig(readEnvironment({ ...open, OCTET_API_KEYS: 'short' }))).toThrow(/16 characters/);
  });

  it('names the variable that is wrong', () => {
    expect(() => readEnvironment({})).toThrow(/DATABASE_URL/);
    expect(() => readEnvironment({ ...environment, PORT: 'http' })).toThrow(/PORT/);
  });

  it('keeps secrets out of the log', () => {
    const lines: string[] = [];
    const log = pino(loggerOptions('info'), { write: (line: string) => lines.push(line) });
    log.info({ req: { headers: { authorization: 'Bearer hush', 'idempotency-key': 'hush' } } }, 'x');
    log.error({ err: new Error('cannot connect to postgres://octet:hush@db/octet') }, 'x');
    expect(lines.join('')).toContain('[redacted]');
    expect(lines.join('')).not.toContain('hush');
  });
});
