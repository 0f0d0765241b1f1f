import { problemOf, ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { failureOfRequest } from '../http/problem.js';
import { pathOf } from './methods.js';

const lingerMs = 15_000;

/** Every error leaves as application/problem+json (RFC 9457), and every answer carries the request id. To be called before any route is added. */
export function answerWithProblems(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });

  app.setErrorHandler((error, request, reply) => sendProblem(error, request, reply));
  app.setNotFoundHandler((request, reply) =>
    sendProblem(new ServiceError('NOT_FOUND', `Nothing answers ${request.method} ${pathOf(request.url)}.`), request, reply),
  );

  app.addHook('onResponse', async (request) => {
    swallowRest(request);
  });
}

/** Answer with the problem that an error is. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const failure = failureOfRequest(error);
  if (failure.code === 'UNSUPPORTED_MEDIA_TYPE' && !(error instanceof ServiceError))
    failure.detail = `The Content-Type is ${JSON.stringify(request.headers['content-type']?.slice(0, 200) ?? 'missing')}.`;
  if (failure.status >= 500) request.log.error({ err: error, code: failure.code }, failure.title);
  else request.log.info({ code: failure.code, detail: failure.detail, place: failure.place }, 'refused');
  if (failure.retryable && !reply.hasHeader('retry-after')) reply.header('retry-after', failure.status === 409 ? 2 : 5);
  reply
    .removeHeader('etag')
    .removeHeader('content-disposition')
    .removeHeader('repr-digest')
    .removeHeader('content-length')
    .removeHeader('location');
  return reply
    .code(failure.status)
    .header('x-request-id', request.id)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(failure, request.id)));
}

/**
 * Read on after an answer that came before the end of the request (an error while a file comes in), so that the client gets to see
 * the answer instead of a reset connection; a client that goes on for too long is cut off.
 */
function swallowRest(request: FastifyRequest): void {
  const { raw } = request;
  if (raw.complete || raw.destroyed) return;
  raw.unpipe();
  raw.resume();
  const linger = setTimeout(() => raw.destroy(), lingerMs).unref();
  raw.once('close', () => clearTimeout(linger));
}
