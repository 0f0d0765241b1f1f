import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type Code, failureOf, problemOf, ServiceError } from '@octet/contracts';
import { type Methods, methodNotAllowed, pathOf } from '../plugins/methods.js';

/** Answers to what never becomes a request: broken request lines and headers, methods that HTTP does not know, and CONNECT. */

/** What Node's reader of HTTP reports, and what it is called here. */
const reasons: Record<string, { code: Code; detail: string }> = {
  HPE_HEADER_OVERFLOW: { code: 'HEADERS_TOO_LARGE', detail: 'Request line and headers have more than 16 KiB.' },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: { code: 'HEADERS_TOO_LARGE', detail: 'The chunk extensions have more than 16 KiB.' },
  ERR_HTTP_REQUEST_TIMEOUT: { code: 'REQUEST_TIMED_OUT', detail: 'The headers were not complete in time.' },
  HPE_INVALID_EOF_STATE: { code: 'UPLOAD_ABORTED', detail: 'The connection was closed before the request was complete.' },
};

/** Answer an error of Node's reader of HTTP, and close the connection. */
export function answerUnreadable(error: NodeJS.ErrnoException, socket: Duplex, methods: Methods): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return;
  const packet = 'rawPacket' in error && Buffer.isBuffer(error.rawPacket) ? error.rawPacket.toString('latin1', 0, 8192) : '';
  const [, method, target] = /^([!#$%&'*+.^_`|~\w-]{1,40}) (\/\S*) HTTP\/1\.[01]\r?\n/.exec(packet) ?? [];
  if (error.code === 'HPE_INVALID_METHOD' && method !== undefined && target !== undefined) {
    socket.end(refuseMethod(method, target, methods));
    return;
  }
  const { code, detail } = reasons[error.code ?? ''] ?? {
    code: 'BAD_REQUEST',
    detail: `This is not HTTP that can be read (${error.code ?? error.message}).`,
  };
  socket.end(answer(new ServiceError(code, detail)));
}

/** The answer to a request for `target` with a method that no path has. */
export function refuseMethod(method: string, target: string, methods: Methods): string {
  const path = pathOf(target);
  const allowed = methods.of(path);
  return allowed.length === 0
    ? answer(new ServiceError('NOT_FOUND', `Nothing answers ${method} ${path}.`))
    : answer(methodNotAllowed(path, allowed, method), `Allow: ${allowed.join(', ')}\r\n`);
}

function answer(error: ServiceError, headers = ''): string {
  const failure = failureOf(error);
  const body = JSON.stringify(problemOf(failure, 'none'));
  return (
    `HTTP/1.1 ${failure.status} ${STATUS_CODES[failure.status] ?? 'Error'}\r\n${headers}Content-Type: application/problem+json\r\n` +
    `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
  );
}
