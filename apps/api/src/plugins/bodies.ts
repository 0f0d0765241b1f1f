import { Readable } from 'node:stream';
import { ServiceError } from '@octet/contracts';
import type { FastifyInstance } from 'fastify';
import { bytesWithin } from '../http/body.js';
import { parseJson } from '../http/json.js';

/** JSON is parsed with care and must be there within a time, and no body may be compressed. Bodies that are files have a clock of their own. */
export function limitBodies(app: FastifyInstance, jsonMs: number): void {
  app.addHook('onRequest', async (request, reply) => {
    const encoding = request.headers['content-encoding'];
    if (encoding === undefined || encoding.trim() === '' || /^\s*identity\s*$/i.test(encoding)) return;
    reply.header('accept-encoding', 'identity');
    throw new ServiceError('UNSUPPORTED_MEDIA_TYPE', `The body is sent with the Content-Encoding ${encoding.slice(0, 80)}.`, {
      hint: 'Send the body as it is, without a Content-Encoding; a file may itself be a .zip or .gz where the path takes it.',
    });
  });
  app.removeContentTypeParser(['text/plain', 'application/json']);
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes, done) => {
    try {
      if (bytes.length === 0) throw new ServiceError('BODY_EMPTY', 'The request has no body.');
      done(null, parseJson(Buffer.from(bytes), 'The body'));
    } catch (error) {
      done(error as Error);
    }
  });
  app.addHook('preParsing', async (request, _reply, payload) => {
    if (!/^application\/json/i.test(request.headers['content-type'] ?? '') || !(payload instanceof Readable)) return payload;
    return Readable.from(bytesWithin(payload, jsonMs), { objectMode: false });
  });
}

/** In this scope requests have no body: whatever type one claims to have, it is neither read nor refused. */
export function ignoreBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', async (request) => {
    delete request.raw.headers['content-type'];
  });
  app.addContentTypeParser('*', (_request, _payload, done) => done(null, undefined));
}
