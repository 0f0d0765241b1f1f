import { createHash, timingSafeEqual } from 'node:crypto';
import { ServiceError } from '@octet/contracts';
import type { FastifyInstance } from 'fastify';
import { WrongKeys } from './wrong-keys.js';

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
 * @param wrongKeysPerMinute of one address, after which no more are tried; 0 for any number
 */
export function requireKeys(app: FastifyInstance, keys: readonly string[], wrongKeysPerMinute: number): void {
  const hashes = keys.map(sha256);
  app.decorateRequest('apiKeyName', undefined);
  if (hashes.length === 0) return;
  const wrongKeys = new WrongKeys(wrongKeysPerMinute);
  app.addHook('onRequest', async (request, reply) => {
    if (!(request.routeOptions.url ?? request.url).startsWith('/v1')) return;
    const [, sent = ''] = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '') ?? [];
    const hash = sha256(sent);
    let known = false;
    for (const accepted of hashes) known = timingSafeEqual(accepted, hash) || known;
    if (!known) {
      if (sent !== '') wrongKeys.refuse(request.ip, reply);
      reply.header('www-authenticate', 'Bearer realm="octet"');
      throw new ServiceError(
        'UNAUTHENTICATED',
        sent === '' ? 'The request has no bearer key.' : 'The key is not one that this service accepts.',
      );
    }
    const name = hash.toString('hex', 0, 6);
    wrongKeys.accept(request.ip, name, reply);
    request.apiKeyName = name;
  });
}
