import { createHash, timingSafeEqual } from 'node:crypto';
import { ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifyRequest } from 'fastify';

declare module 'fastify' {
  interface FastifyRequest {
    /** First characters of the hash of the key that was sent; undefined where none is needed. */
    apiKeyName: string | undefined;
  }
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/**
 * Lets requests to `/v1` through only with `Authorization: Bearer` and one of the keys. The comparison takes the same time for every
 * key: hashes are compared, all of them, each in constant time. Without keys everybody is let in.
 */
export function requireKeys(app: FastifyInstance, keys: readonly string[]): void {
  const hashes = keys.map(sha256);
  app.decorateRequest('apiKeyName', undefined);
  if (hashes.length === 0) {
    app.addHook('onRequest', async (request) => refuseOtherSites(request));
    return;
  }
  app.addHook('onRequest', async (request, reply) => {
    if (!(request.routeOptions.url ?? request.url).startsWith('/v1')) return;
    const [, sent = ''] = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '') ?? [];
    const hash = sha256(sent);
    let known = false;
    for (const accepted of hashes) known = timingSafeEqual(accepted, hash) || known;
    if (!known) {
      reply.header('www-authenticate', 'Bearer realm="octet"');
      throw new ServiceError(
        'UNAUTHENTICATED',
        sent === '' ? 'The request has no bearer key.' : 'The key is not one that this service accepts.',
      );
    }
    request.apiKeyName = hash.toString('hex', 0, 6);
  });
}

/**
 * Without keys the address of a request is its only proof, and a browser sends requests of any page from the same address: a foreign
 * page may not change anything here. Programs do not send the header.
 */
function refuseOtherSites(request: FastifyRequest): void {
  const site = request.headers['sec-fetch-site'];
  if ((site !== 'cross-site' && site !== 'same-site') || request.method === 'GET' || request.method === 'HEAD') return;
  throw new ServiceError('CROSS_SITE', `${request.method} was sent by a page of another site (${request.headers.origin ?? 'unknown'}).`);
}
