import { type Artifact, ServiceError } from '@octet/contracts';
import type { Store } from '@octet/store';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { contentDisposition, entityTag, noneMatchNames, parseRange, rangeStillCounts, readDate, reprDigest } from './conditional.js';
import { requireMatch } from './resource.js';

/**
 * Send a stored file: whole, in part (Range, If-Range) or not at all (If-Match, If-None-Match and their dates, HEAD). It streams; memory
 * does not grow with it.
 * @param attachment name to save the file under; without it a browser shows the file
 * @throws ServiceError RANGE_NOT_SATISFIABLE, PRECONDITION_FAILED
 */
export async function sendFile(
  store: Store,
  request: FastifyRequest,
  reply: FastifyReply,
  file: Artifact,
  attachment?: string,
): Promise<FastifyReply> {
  const tag = entityTag(file.sha256);
  const modified = Math.floor(new Date(file.createdAt).getTime() / 1000) * 1000;
  reply
    .header('etag', tag)
    .header('accept-ranges', 'bytes')
    .header('cache-control', 'private, no-cache')
    .header('last-modified', new Date(modified).toUTCString());
  const { headers } = request;
  requireMatch(headers['if-match'], tag);
  if (headers['if-match'] === undefined && modified > (readDate(headers['if-unmodified-since']) ?? Number.POSITIVE_INFINITY))
    throw new ServiceError('PRECONDITION_FAILED', 'The file is newer than If-Unmodified-Since.');
  if (
    headers['if-none-match'] === undefined
      ? modified <= (readDate(headers['if-modified-since']) ?? -1)
      : noneMatchNames(headers['if-none-match'], tag)
  )
    return reply.code(304).send();

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
