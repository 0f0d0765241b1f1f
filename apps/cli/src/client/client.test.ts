import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { EventBody, JobBody } from '@octet/contracts';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CliError, ServerError } from '../errors.js';
import { Client } from './client.js';
import { digestOf, download } from './download.js';
import { readEvents } from './event-stream.js';
import { followJob } from './follow.js';
import { multipartBody } from './multipart.js';

/** Servers that misbehave on purpose; the real one is met in tests/cli.test.ts. */

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'octet-cli-client-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A server that answers by this function, and a client of it; `log` holds the requests. */
async function serve(
  answer: (request: IncomingMessage, response: ServerResponse, count: number) => unknown,
): Promise<{ client: Client; log: string[]; server: Server }> {
  const log: string[] = [];
  const server = createServer((request, response) => {
    log.push(`${request.method} ${request.url} ${request.headers.range ?? request.headers['last-event-id'] ?? ''}`.trim());
    answer(request, response, log.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = new Client({ server: `127.0.0.1:${(server.address() as AddressInfo).port}` });
  closing.push(
    () => client.close(),
    () => new Promise((resolve) => server.closeAllConnections() === undefined && server.close(resolve)),
  );
  return { client, log, server };
}

describe('event stream', () => {
  const eventsOf = async (...chunks: string[]) => {
    const all = [];
    for await (const event of readEvents(Readable.from(chunks.map((chunk) => Buffer.from(chunk))))) all.push(event);
    return all;
  };

  it('reads ids, types, data of several lines, and skips comments and what it does not know', async () => {
    expect(await eventsOf('retry: 100\n\n: ping\n\nid: 7\nevent: stage\ndata: a\ndata: b\nother: x\n\n', 'data: c\n\n')).toEqual([
      { id: '7', type: 'stage', data: 'a\nb' },
      { id: '7', type: 'message', data: 'c' },
    ]);
  });
  it('joins what was cut anywhere, even inside a character or a line end', async () => {
    const bytes = Buffer.from('id: 1\r\ndata: über\r\n\r\n');
    const events = [];
    for await (const event of readEvents(Readable.from([...bytes].map((byte) => Buffer.from([byte]))))) events.push(event);
    expect(events).toEqual([{ id: '1', type: 'message', data: 'über' }]);
  });
  it('gives no event that was not finished', async () => {
    expect(await eventsOf('data: half')).toEqual([]);
  });
});

describe('multipart body', () => {
  it('is what others read as the same parts, and as long as it says', async () => {
    const file = path.join(directory, 'a "name".bin');
    const content = randomBytes(200_000);
    await writeFile(file, content);
    let told = 0;
    const body = await multipartBody(
      [
        { name: 'config', text: '{"a":1}', type: 'application/json' },
        { name: 'model', file },
      ],
      (sent) => {
        told = sent;
      },
    );
    const bytes = Buffer.concat(await body.stream.toArray());
    expect(bytes.length).toBe(body.bytes);
    expect(told).toBe(body.bytes);
    const form = await new Response(bytes, { headers: { 'content-type': body.type } }).formData();
    expect(form.get('config')).toBe('{"a":1}');
    const model = form.get('model') as unknown as File;
    expect(model.name).toBe('a "name".bin');
    expect(Buffer.from(await model.arrayBuffer()).equals(content)).toBe(true);
  });
  it('refuses a file that is not there, or is a directory', async () => {
    await expect(multipartBody([{ name: 'model', file: path.join(directory, 'none') }])).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });
    await expect(multipartBody([{ name: 'model', file: directory }])).rejects.toMatchObject({
      code: 'FILE_UNREADABLE',
      message: expect.stringContaining('zip it'),
    });
  });
});

describe('client', () => {
  it('gives the problem of the service as the error', async () => {
    const { client } = await serve((_request, response) =>
      response
        .writeHead(404, { 'content-type': 'application/problem+json' })
        .end(JSON.stringify({ code: 'NOT_FOUND', title: 'T', detail: 'no such job', hint: 'h', place: {}, errors: [] })),
    );
    const error = await client.job('job_1').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ServerError);
    expect(error).toMatchObject({ status: 404, trouble: { code: 'NOT_FOUND', detail: 'no such job', hint: 'h' } });
  });
  it('says that what answers is no Octet', async () => {
    const { client } = await serve((_request, response, count) =>
      count === 1 ? response.writeHead(502).end('<html>bad gateway') : response.end('<html>'),
    );
    await expect(client.job('x')).rejects.toMatchObject({
      code: 'SERVER_UNKNOWN',
      message: expect.stringContaining('502: <html>bad gateway'),
    });
    await expect(client.job('x')).rejects.toMatchObject({
      code: 'SERVER_UNKNOWN',
      message: expect.stringContaining('did not answer in JSON'),
    });
  });
  it('says that nothing listens', async () => {
    const { client, server } = await serve(() => undefined);
    await new Promise((resolve) => server.close(resolve));
    await expect(client.job('x')).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
      message: expect.stringContaining('nothing listens there'),
    });
  });
  it('sends the key, and the path of an address', async () => {
    const seen: unknown[] = [];
    const { server } = await serve((request, response) => {
      seen.push([request.url, request.headers.authorization]);
      response.end('{}');
    });
    const client = new Client({ server: `http://127.0.0.1:${(server.address() as AddressInfo).port}/octet/`, key: 'secret' });
    await client.job('job_1');
    await client.close();
    expect(seen).toEqual([['/octet/v1/jobs/job_1', 'Bearer secret']]);
  });
  it.each(['ftp://host', 'http://'])('refuses %s as an address', (server) => {
    expect(() => new Client({ server })).toThrow(CliError);
  });
});

describe('download', () => {
  const content = randomBytes(300_000);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const headers = { etag: `"${sha256}"`, 'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:` };

  /** Sends ranges of the content; `cut` says after how many bytes the connection of a GET breaks. */
  const ranges = (cut: (get: number) => number | undefined, sent = content) => {
    let gets = 0;
    return (request: IncomingMessage, response: ServerResponse) => {
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(start > 0 ? 206 : 200, { ...headers, 'content-length': sent.length - start });
      if (request.method === 'HEAD') return response.end();
      const limit = cut(++gets);
      if (limit === undefined) return response.end(sent.subarray(start));
      return response.write(sent.subarray(start, start + limit), () => setTimeout(() => response.destroy(), 20));
    };
  };

  it('goes on with Range where the connection broke, and the file is whole', async () => {
    const { client, log } = await serve(ranges((get) => (get < 3 ? 100_000 : undefined)));
    const target = path.join(directory, 'resumed.onnx');
    expect(await download(client, '/file', target)).toEqual({ bytes: content.length, sha256 });
    expect((await readFile(target)).equals(content)).toBe(true);
    expect(log.slice(0, 2)).toEqual(['HEAD /file', 'GET /file']);
    expect(log.slice(2).every((line) => /^GET \/file bytes=[1-9]\d+-$/.test(line))).toBe(true);
    expect(log).toHaveLength(4);
  });
  it('goes on with the part of an earlier run', async () => {
    const { client, log } = await serve(ranges(() => undefined));
    const target = path.join(directory, 'later.onnx');
    await writeFile(`${target}.${sha256.slice(0, 16)}.part`, content.subarray(0, 123_456));
    await download(client, '/file', target);
    expect(log).toEqual(['HEAD /file', 'GET /file bytes=123456-']);
    expect((await readFile(target)).equals(content)).toBe(true);
  });
  it('keeps nothing of a file with another digest', async () => {
    const wrong = Buffer.from(content);
    wrong[5] = (wrong[5]! + 1) % 256;
    const { client } = await serve(ranges(() => undefined, wrong));
    const target = path.join(directory, 'wrong.onnx');
    await expect(download(client, '/file', target)).rejects.toMatchObject({ code: 'DOWNLOAD_DAMAGED' });
    expect((await readdir(directory)).filter((name) => name.startsWith('wrong'))).toEqual([]);
  });
  it('starts anew when the service sends the whole file in place of the rest', async () => {
    const { client } = await serve((request, response) =>
      response.writeHead(200, { ...headers, 'content-length': content.length }).end(request.method === 'HEAD' ? undefined : content),
    );
    const target = path.join(directory, 'anew.onnx');
    await writeFile(`${target}.${sha256.slice(0, 16)}.part`, content.subarray(0, 10));
    await download(client, '/file', target);
    expect((await readFile(target)).equals(content)).toBe(true);
  });
  it('reads the digest from either header', () => {
    expect(digestOf({ headers: { etag: headers.etag } })).toBe(sha256);
    expect(digestOf({ headers: { 'repr-digest': `md5=:abc=:, ${headers['repr-digest']}` } })).toBe(sha256);
    expect(digestOf({ headers: { etag: 'W/"abc"' } })).toBeUndefined();
  });
});

describe('following a job', () => {
  const job = (state: string) => ({ id: 'job_1', state }) as JobBody;
  const event = (seq: number) => `id: ${seq}\nevent: log\ndata: ${JSON.stringify({ seq, type: 'log', data: {}, createdAt: '' })}\n\n`;
  const end = `event: end\ndata: ${JSON.stringify(job('succeeded'))}\n\n`;
  const stream = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' });
  const follow = async (client: Client) => {
    const seen: number[] = [];
    const states: string[] = [];
    const last = await followJob(client, 'job_1', {
      onEvent: ({ seq }: EventBody) => seen.push(seq),
      onJob: ({ state }) => states.push(state),
    });
    return { last, seen, states };
  };

  it('goes on after the last event seen when the stream breaks', async () => {
    const { client, log } = await serve((_request, response, count) => {
      stream(response);
      if (count === 1)
        return response.write([event(1), event(2), 'id: 3\ndata: {"ha'].join(''), () => setTimeout(() => response.destroy(), 20));
      return response.end(event(3) + end);
    });
    expect(await follow(client)).toEqual({ last: job('succeeded'), seen: [1, 2, 3], states: [] });
    expect(log).toEqual(['GET /v1/jobs/job_1/events', 'GET /v1/jobs/job_1/events 2']);
  });
  it('asks for the job when the service has nothing more to tell', async () => {
    const { client } = await serve((request, response) =>
      request.url?.endsWith('/events') ? response.writeHead(204).end() : response.end(JSON.stringify(job('failed'))),
    );
    expect((await follow(client)).last).toEqual(job('failed'));
  });
  it('long-polls where no stream gets through', async () => {
    const { client, log } = await serve((request, response, count) => {
      if (request.url?.endsWith('/events')) return response.end('{"items": []}');
      return response.end(JSON.stringify(job(count < 4 ? 'running' : 'succeeded')));
    });
    expect(await follow(client)).toEqual({ last: job('succeeded'), seen: [], states: ['running', 'running', 'succeeded'] });
    expect(log[1]).toBe('GET /v1/jobs/job_1?wait=30');
  });
  it('stops at an answer that will not change', async () => {
    const { client, log } = await serve((_request, response) =>
      response.writeHead(404).end(JSON.stringify({ code: 'NOT_FOUND', detail: 'gone' })),
    );
    await expect(follow(client)).rejects.toMatchObject({ trouble: { code: 'NOT_FOUND' } });
    expect(log).toHaveLength(1);
  });
});
