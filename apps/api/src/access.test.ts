import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApi, type TestApi } from '../../../tests/support/api.js';
import { raw } from '../../../tests/support/raw.js';
import { apiConfig, readEnvironment } from './config.js';

/** Who is answered: by Host and Origin where there are no keys, by keys where there are. */

const ask = async (api: TestApi, lines: string[], start = 'GET /v1/jobs HTTP/1.1') =>
  raw(api.url, `${[start, ...lines].join('\r\n')}\r\n\r\n`);
const codeOf = (body: string): string => JSON.parse(body).code;

describe('without keys', () => {
  let api: TestApi;
  let named: TestApi;
  let open: TestApi;
  beforeAll(async () => {
    [api, named, open] = await Promise.all([
      startApi(),
      startApi({ allowedHosts: ['octet.example', 'Box'] }),
      startApi({ host: '0.0.0.0', allowedHosts: ['*'] }),
    ]);
  });
  afterAll(() => Promise.all([api.close(), named.close(), open.close()]));

  it.each(['localhost', 'LOCALHOST:8080', 'localhost.', '127.0.0.1', '127.0.0.1:9', '[::1]', '[::1]:8080'])(
    'answers under %s',
    async (host) => {
      expect((await ask(api, [`Host: ${host}`])).status).toBe(200);
    },
  );

  it.each([
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '192.168.1.5',
    'x',
    '',
    'localhost:x',
    'a@localhost',
  ])('does not answer under "%s"', async (host) => {
    for (const start of ['GET /v1/jobs HTTP/1.1', 'GET / HTTP/1.1', 'DELETE /v1/jobs/x HTTP/1.1', 'GET /nothing HTTP/1.1']) {
      const answer = await ask(api, [`Host: ${host}`], start);
      expect(JSON.parse(answer.body)).toMatchObject({
        status: 421,
        code: 'HOST_NOT_ALLOWED',
        hint: expect.stringContaining('OCTET_ALLOWED_HOSTS'),
      });
    }
  });

  it('does not take a header of the page for the name', async () => {
    expect((await ask(api, ['Host: evil.example', 'X-Forwarded-Host: localhost'])).status).toBe(421);
    expect((await ask(api, ['Host: evil.example'], 'GET http://localhost/v1/jobs HTTP/1.1')).status).toBe(421);
  });

  it('answers under names that were allowed', async () => {
    for (const host of ['octet.example', 'OCTET.example:443', 'box', 'localhost'])
      expect((await ask(named, [`Host: ${host}`])).status).toBe(200);
    expect((await ask(named, ['Host: www.octet.example'])).status).toBe(421);
    expect((await ask(open, ['Host: anything.example'])).status).toBe(200);
  });

  it('answers under any address where other machines are let in, but not under any name', async () => {
    const wide = await startApi({ host: '0.0.0.0' });
    for (const host of ['192.168.1.5:8080', '[fe80::1]']) expect((await ask(wide, [`Host: ${host}`])).status).toBe(200);
    expect((await ask(wide, ['Host: evil.example'])).status).toBe(421);
    await wide.close();
  });

  it('lets pages of another origin change nothing', async () => {
    const { host } = new URL(api.url);
    const post = (lines: string[]) => ask(api, [`Host: ${host}`, 'Content-Length: 0', ...lines], 'POST /v1/jobs HTTP/1.1');
    for (const lines of [
      ['Origin: https://evil.example'],
      ['Origin: null'],
      ['Origin: http://localhost:1'],
      ['Origin: http://127.0.0.1'],
      ['Sec-Fetch-Site: cross-site'],
      ['Sec-Fetch-Site: same-site', `Origin: http://${host}`],
    ])
      expect(codeOf((await post(lines)).body), lines.join()).toBe('CROSS_SITE');
    for (const lines of [[], [`Origin: http://${host}`], ['Sec-Fetch-Site: same-origin'], ['Sec-Fetch-Site: none']])
      expect(codeOf((await post(lines)).body), lines.join()).toBe('BODY_EMPTY');
    expect((await ask(api, [`Host: ${host}`, 'Origin: https://evil.example'])).status).toBe(200);
  });

  it('reads the names from the environment', () => {
    const read = (hosts: string) => apiConfig(readEnvironment({ DATABASE_URL: 'postgres://x', OCTET_ALLOWED_HOSTS: hosts })).allowedHosts;
    expect(read(' a.example, [fd00::1],*')).toEqual(['a.example', '[fd00::1]', '*']);
    expect(() => read('http://a.example')).toThrow(/without scheme and port/);
  });
});

describe('with keys', () => {
  const key = 'a-long-enough-key';
  const other = 'another-long-key-1';
  const bearer = (sent: string, from = '192.0.2.1') => ['Host: octet.example', `Authorization: Bearer ${sent}`, `X-Forwarded-For: ${from}`];

  it('answers under any name', async () => {
    const api = await startApi({ apiKeys: [key] });
    expect((await ask(api, bearer(key))).status).toBe(200);
    expect((await ask(api, ['Host: octet.example', 'Origin: https://page.example', `Authorization: Bearer ${key}`])).status).toBe(200);
    await api.close();
  });

  it('tries no more keys after too many wrong ones from an address, and locks out nobody else', async () => {
    const api = await startApi({ apiKeys: [key, other], wrongKeysPerMinute: 3, trustProxy: true });
    expect((await ask(api, bearer(key))).status).toBe(200);
    for (let i = 1; i <= 3; i++) {
      const refused = await ask(api, bearer('x'.repeat(16 + i)));
      expect(refused.status).toBe(401);
      expect(refused.headers.ratelimit).toMatch(new RegExp(`^"wrong-keys";r=${3 - i};t=\\d+$`));
    }
    for (const guess of ['x'.repeat(30), other]) {
      const limited = await ask(api, bearer(guess));
      expect(JSON.parse(limited.body)).toMatchObject({ status: 429, code: 'RATE_LIMITED', retryable: true });
      expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0);
      expect(limited.headers['ratelimit-policy']).toBe('"wrong-keys";q=3;w=60');
    }
    // Who came from there with this key before, whoever comes from elsewhere, and requests without a key.
    expect((await ask(api, bearer(key))).status).toBe(200);
    expect((await ask(api, bearer(other, '192.0.2.2'))).status).toBe(200);
    expect((await ask(api, ['Host: octet.example', 'X-Forwarded-For: 192.0.2.1'])).status).toBe(401);
    await api.close();
  });

  it('counts all of an IPv6 network as one address', async () => {
    const api = await startApi({ apiKeys: [key], wrongKeysPerMinute: 2, trustProxy: true });
    const from = ['2001:db8::1', '2001:db8:0:0:ffff::2', '2001:db8::3', '2001:db8:0:1::1'];
    const statuses = [];
    for (const address of from) statuses.push((await ask(api, bearer('x'.repeat(20), address))).status);
    expect(statuses).toEqual([401, 401, 429, 401]);
    await api.close();
  });
});
