import { type Artifact, ServiceError } from '@octet/contracts';
import type { Store } from '@octet/store';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { contentDisposition, entityTag, noneMatchNames, parseRange, rangeStillCounts, reprDigest } from './conditional.js';

/**
 * Send a stored file: whole, in part (Range, If-Range) or not at all (If-None-Match, HEAD). It streams; memory does not grow with it.
 * @param attachment name to save the file under; without it a browser shows the file
 * @throws ServiceError RANGE_NOT_SATISFIABLE
 */
export async function sendFile(
  store: Store,
  request: FastifyRequest,
  reply: FastifyReply,
  file: Artifact,
  attachment?: string,
): Promise<FastifyReply> {
  const tag = entityTag(file.sha256);
  reply
    .header('etag', tag)
    .header('accept-ranges', 'bytes')
    .header('cache-control', 'private, no-cache')
    .header('last-modified', new Date(file.createdAt).toUTCString());
  if (noneMatchNames(request.headers['if-none-match'], tag)) return reply.code(304).send();

  const asked =
    request.method === 'GET' && rangeStillCounts(request.headers['if-range'] as string | undefined, tag)
      ? request.headers.range
      : undefined;
  const range = parseRange(asked, file.bytes);
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${file.bytes}`);
    throw new ServiceError('RANGE_NOT_SATISFIABLE', `${asked} lies outside the ${file.bytes} bytes of the file.`);
  }
  const length = range === undefined ? file.bytes : range.end - range.start + 1;
  reply.type(file.mediaType).header('content-length', length).header('repr-digest', reprDigest(file.sha256));
  if (attachment !== undefined) reply.header('content-disposition', contentDisposition(attachment));
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${range.start}-${range.end}/${file.bytes}`);
  if (request.method === 'HEAD') return reply.send('');
  return reply.send(await store.blobs.get(file.sha256, range));
}
