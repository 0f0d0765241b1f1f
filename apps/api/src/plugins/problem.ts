import { failureOf, problemOf, ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { failureOfRequest } from '../http/problem.js';

const lingerMs = 15_000;
const methods: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/**
 * Every error leaves as application/problem+json (RFC 9457), every answer carries the request id, and a known path answers a method it
 * does not have with 405. To be called before any route is added.
 */
export function answerWithProblems(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });

  app.setErrorHandler((error, request, reply) => sendProblem(error, request, reply));
  app.setNotFoundHandler((request, reply) =>
    sendProblem(new ServiceError('NOT_FOUND', `Nothing answers ${request.method} ${pathOf(request)}.`), request, reply),
  );

  app.addHook('onResponse', async (request) => {
    swallowRest(request);
  });
}

/** Call after the last route: adds the answer 405 for the methods that a path lacks. */
export function refuseOtherMethods(app: FastifyInstance, routes: ReadonlyMap<string, ReadonlySet<string>>): void {
  for (const [url, have] of routes) {
    const missing = methods.filter((method) => !have.has(method));
    if (url.includes('*') || missing.length === 0) continue;
    const allow = [...have].sort().join(', ');
    app.route({
      method: missing,
      url,
      schema: { hide: true },
      onRequest: async (request, reply) => {
        reply.header('allow', allow);
        throw new ServiceError('METHOD_NOT_ALLOWED', `${pathOf(request)} answers ${allow}, not ${request.method}.`);
      },
      handler: async () => undefined,
    });
  }
}

/** Answer with the problem that an error is. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const failure = failureOfRequest(error);
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

/** A broken request line or header never reaches a route; the socket gets a problem all the same. */
export function problemForClientError(error: NodeJS.ErrnoException): string {
  const code =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? 'PAYLOAD_TOO_LARGE'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? 'UPLOAD_ABORTED'
        : 'BAD_REQUEST';
  const failure = failureOf(new ServiceError(code, `The request is not HTTP that can be read (${error.code ?? error.message}).`));
  const body = JSON.stringify(problemOf(failure, 'none'));
  return `HTTP/1.1 ${failure.status} Bad Request\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
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

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? request.url;
}
