import { ServiceError } from '@octet/contracts';

/** No room: on a disk of this machine, or on that of PostgreSQL (SQLSTATE 53100). */
const full = new Set(['ENOSPC', 'EDQUOT', '53100']);
/** The system gives no further process, file or memory. */
const exhausted = new Set(['EAGAIN', 'EMFILE', 'ENFILE', 'ENOMEM']);

/** An error of this machine under the code that says so; any other as it is. */
export function faultOf(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof ServiceError) return error;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const code = 'code' in cause ? String(cause.code) : '';
    if (full.has(code))
      return new ServiceError('STORAGE_FULL', `the worker has no room for the files of the job: ${cause.message}`, { cause: error });
    if (exhausted.has(code)) return new ServiceError('JOB_CRASHED', `the process could not be started: ${cause.message}`, { cause: error });
  }
  return error;
}
