import { ServiceError } from '@octet/contracts';
import { type KeptAnswer, renewEveryMs, type Store } from '@octet/store';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** The Idempotency-Key of a request. @throws ServiceError IDEMPOTENCY_KEY_INVALID */
export function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key))
    throw new ServiceError('IDEMPOTENCY_KEY_INVALID', 'The Idempotency-Key is empty, too long or not printable ASCII.');
  return key;
}

/**
 * Answer a creating request once for each Idempotency-Key: the same request again gets the answer kept from the first time. An error
 * is not kept, so that a corrected or repeated request can use the key.
 * @param requestHash fingerprint of all that the request asks for
 */
export async function answerOnce(
  store: Store,
  request: FastifyRequest,
  reply: FastifyReply,
  requestHash: string,
  answer: () => Promise<KeptAnswer>,
): Promise<FastifyReply> {
  const sent = idempotencyKey(request);
  if (sent === undefined) return send(reply, await answer());
  const key = `${request.apiKeyName ?? 'anyone'} ${request.method} ${request.routeOptions.url} ${sent}`;
  const begun = await store.idempotency.begin(key, requestHash);
  if (!('holder' in begun)) return send(reply.header('idempotency-replayed', 'true'), begun);
  // The key is held by signs of life: when this process dies, the next request with it is answered after seconds.
  const renewal = setInterval(() => {
    store.idempotency.renew(begun).catch((cause: unknown) => request.log.debug({ err: cause }, 'an idempotency key was not renewed'));
  }, renewEveryMs);
  try {
    const fresh = await answer();
    await store.idempotency.finish(begun, fresh);
    return send(reply, fresh);
  } catch (error) {
    await store.idempotency
      .abandon(begun)
      .catch((cause: unknown) => request.log.warn({ err: cause }, 'an idempotency key is held for some seconds more'));
    throw error;
  } finally {
    clearInterval(renewal);
  }
}

function send(reply: FastifyReply, { status, headers, body }: KeptAnswer): FastifyReply {
  return reply.code(status).headers(headers).send(body);
}
