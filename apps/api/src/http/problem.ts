import { type Code, catalogue, type Failure, failureOf, ServiceError } from '@octet/contracts';
import type { FastifyError } from 'fastify';

/** Codes of Fastify and its plugins, and what they are called here. */
const frameworkCodes: Record<string, Code> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
  FST_ERR_CTP_EMPTY_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
  FST_ERR_CTP_BODY_TOO_LARGE: 'PAYLOAD_TOO_LARGE',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'UPLOAD_ABORTED',
  FST_ERR_BAD_URL: 'BAD_REQUEST',
  FST_ERR_MAX_PARAM_LENGTH: 'NOT_FOUND',
  FST_UNDER_PRESSURE: 'OVERLOADED',
};

/** Codes of PostgreSQL drivers and sockets that mean "not there, perhaps later". */
const databaseAway =
  /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EPIPE|EHOSTUNREACH|57P0[1-3]|53300|08\w{3}|P1001|P1002|P1008|P1017|P2024)$/;

/**
 * Any error as a Failure of the catalogue. Errors of the framework keep their meaning; a lost database becomes DATABASE_UNAVAILABLE;
 * what is left is INTERNAL, whose message stays in the log.
 */
export function failureOfRequest(error: unknown): Failure {
  const failure = failureOf(error);
  if (failure.code !== 'INTERNAL' || error instanceof ServiceError) return failure;
  if (!(error instanceof Error)) return internal();
  const fastify = error as Partial<FastifyError>;
  const known = fastify.code === undefined ? undefined : frameworkCodes[fastify.code];
  if (known !== undefined) return failureOf(new ServiceError(known, error.message));
  if (chain(error).some(isDatabaseAway)) return failureOf(new ServiceError('DATABASE_UNAVAILABLE', 'The database could not be reached.'));
  const status = fastify.statusCode ?? 500;
  // A path that would leave the folder of the pages.
  if (status === 403) return failureOf(new ServiceError('NOT_FOUND', 'There is no such page.'));
  if (status === 429) return failureOf(new ServiceError('RATE_LIMITED', error.message));
  if (status === 413) return failureOf(new ServiceError('PAYLOAD_TOO_LARGE', error.message));
  if (status === 415) return failureOf(new ServiceError('UNSUPPORTED_MEDIA_TYPE', error.message));
  if (status >= 400 && status < 500) return failureOf(new ServiceError('BAD_REQUEST', error.message));
  return internal();
}

function internal(): Failure {
  return {
    ...failureOf(new ServiceError('INTERNAL', 'Something broke inside Octet; the log of the service has the cause under this request id.')),
    ...catalogue.INTERNAL,
  };
}

function isDatabaseAway(error: Error): boolean {
  const code = 'code' in error ? String(error.code) : '';
  return (
    databaseAway.test(code) ||
    /timeout exceeded when trying to connect|Connection terminated|Can't reach database server|the database system is (starting up|shutting down)/i.test(
      error.message,
    )
  );
}

/** An error, its causes, and the members of aggregate errors. */
function chain(error: Error, depth = 0): Error[] {
  if (depth > 8) return [];
  const inner = error instanceof AggregateError ? error.errors : [];
  return [error, ...[error.cause, ...inner].flatMap((next: unknown) => (next instanceof Error ? chain(next, depth + 1) : []))];
}
