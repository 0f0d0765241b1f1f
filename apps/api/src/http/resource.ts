import { ServiceError } from '@octet/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { entityTag, matchAllows, noneMatchNames } from './conditional.js';
import { fingerprintOf } from './intake.js';

/** Models, datasets and jobs as they are now, with an ETag that changes with every field. */

/** Send a resource, or 304 to a client whose If-None-Match has it already. @throws ServiceError PRECONDITION_FAILED */
export function sendResource(request: FastifyRequest, reply: FastifyReply, resource: object): FastifyReply {
  const tag = entityTag(fingerprintOf(resource));
  reply.header('etag', tag).header('cache-control', 'private, no-cache');
  requireMatch(request.headers['if-match'], tag);
  return noneMatchNames(request.headers['if-none-match'], tag) ? reply.code(304).send() : reply.send(resource);
}

/**
 * Before a change: whether the resource still is what the client has seen. It is read only where the client asks.
 * @throws ServiceError PRECONDITION_FAILED, and whatever `read` throws
 */
export async function requireUnchanged(request: FastifyRequest, read: () => Promise<object>): Promise<void> {
  const { 'if-match': match, 'if-none-match': noneMatch } = request.headers;
  if (match === undefined && noneMatch === undefined) return;
  const tag = entityTag(fingerprintOf(await read()));
  requireMatch(match, tag);
  if (noneMatchNames(noneMatch, tag)) throw new ServiceError('PRECONDITION_FAILED', `If-None-Match names the present ETag ${tag}.`);
}

/** @throws ServiceError PRECONDITION_FAILED */
export function requireMatch(header: string | undefined, tag: string): void {
  if (!matchAllows(header, tag))
    throw new ServiceError('PRECONDITION_FAILED', `If-Match is ${String(header).slice(0, 200)}, the present ETag is ${tag}.`);
}
