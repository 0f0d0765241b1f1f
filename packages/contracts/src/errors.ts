import { type ErrorCode, type ErrorPlace, errorCatalogue, OctetError } from '@octet/quant-core';

/** Errors of the service around quant-core: requests, storage, queue and job processes. */
export const serviceCatalogue = {
  BAD_REQUEST: {
    title: 'The request cannot be understood',
    status: 400,
    hint: 'Compare the request with the API description at /docs.',
    retryable: false,
  },
  JSON_INVALID: { title: 'The body is not valid JSON', status: 400, hint: 'Send one JSON object in UTF-8.', retryable: false },
  VALIDATION: {
    title: 'A parameter or field of the request is wrong',
    status: 400,
    hint: 'The list of errors names each field and what it may be.',
    retryable: false,
  },
  BODY_EMPTY: {
    title: 'The request has no body, or a part of it is empty',
    status: 400,
    hint: 'Send the file as the body or as the part named.',
    retryable: false,
  },
  MULTIPART_INVALID: {
    title: 'The multipart body is not acceptable',
    status: 400,
    hint: 'Send each part once, with a Content-Disposition that names it, and end the body with its closing boundary.',
    retryable: false,
  },
  UNAUTHENTICATED: {
    title: 'The request carries no valid key',
    status: 401,
    hint: 'Send "Authorization: Bearer <key>".',
    retryable: false,
  },
  CROSS_SITE: {
    title: 'A page of another site may not do this',
    status: 403,
    hint: 'Send the request from a program, or from a page of this service; or give the service keys (OCTET_API_KEYS).',
    retryable: false,
  },
  NOT_FOUND: {
    title: 'There is nothing here by this id or path',
    status: 404,
    hint: 'Check the id and the path; lists such as GET /v1/jobs name what exists.',
    retryable: false,
  },
  METHOD_NOT_ALLOWED: {
    title: 'The path does not answer this method',
    status: 405,
    hint: 'See the API description at /docs for the methods of each path.',
    retryable: false,
  },
  NOT_ACCEPTABLE: { title: 'No such representation exists', status: 406, hint: 'Ask for one of the formats named.', retryable: false },
  REQUEST_TIMED_OUT: {
    title: 'The request took too long to come in',
    status: 408,
    hint: 'Send the request again without pauses; the limit of a JSON body is OCTET_BODY_SECONDS.',
    retryable: true,
  },
  CONFLICT: {
    title: 'The state of the resource does not allow this',
    status: 409,
    hint: 'Read the resource again and act on its present state.',
    retryable: false,
  },
  JOB_NOT_FINISHED: {
    title: 'The job has not finished',
    status: 409,
    hint: 'Wait for the job with GET /v1/jobs/{id}?wait=30 and ask again.',
    retryable: true,
  },
  JOB_HAS_NO_RESULT: {
    title: 'The job ended without a result',
    status: 409,
    hint: 'The error of the job says why; correct the cause and submit it again.',
    retryable: false,
  },
  IDEMPOTENCY_IN_PROGRESS: {
    title: 'A request with this Idempotency-Key is still being answered',
    status: 409,
    hint: 'Repeat the request in a few seconds.',
    retryable: true,
  },
  IDEMPOTENCY_MISMATCH: {
    title: 'The Idempotency-Key was used with another request',
    status: 422,
    hint: 'Use a fresh key for each different request.',
    retryable: false,
  },
  IDEMPOTENCY_KEY_INVALID: {
    title: 'The Idempotency-Key is not acceptable',
    status: 400,
    hint: 'Use 1 to 255 printable ASCII characters, such as a UUID.',
    retryable: false,
  },
  PRECONDITION_FAILED: {
    title: 'A precondition of the request does not hold',
    status: 412,
    hint: 'Read the resource again and use its present ETag.',
    retryable: false,
  },
  PAYLOAD_TOO_LARGE: {
    title: 'The body or a part of it is larger than the limit',
    status: 413,
    hint: 'Send less, or raise the limit named on your own server.',
    retryable: false,
  },
  UNSUPPORTED_MEDIA_TYPE: {
    title: 'The content type is not accepted here',
    status: 415,
    hint: 'Send application/octet-stream, application/json or multipart/form-data, as the path asks.',
    retryable: false,
  },
  RANGE_NOT_SATISFIABLE: {
    title: 'The range lies outside the file',
    status: 416,
    hint: 'Content-Range in the answer gives the size of the file.',
    retryable: false,
  },
  UPLOAD_ABORTED: { title: 'The upload broke off', status: 400, hint: 'Nothing was stored; send the file again.', retryable: true },
  STORAGE_FULL: {
    title: 'No room is left on the disk of the service',
    status: 507,
    hint: 'The operator should free space where the service keeps its files (OCTET_TEMP, OCTET_WORK_DIR) or in the database.',
    retryable: true,
  },
  BLOB_CORRUPT: {
    title: 'A stored file is damaged',
    status: 500,
    hint: 'Upload the file again; check the disk of the database.',
    retryable: false,
  },
  HOST_NOT_ALLOWED: {
    title: 'The service does not answer under this name',
    status: 421,
    hint: 'Use http://localhost or http://127.0.0.1 with the port, or add the name to OCTET_ALLOWED_HOSTS, or give the service keys (OCTET_API_KEYS).',
    retryable: false,
  },
  HEADERS_TOO_LARGE: {
    title: 'The request line and headers are larger than the limit',
    status: 431,
    hint: 'Send fewer or shorter headers and a shorter path.',
    retryable: false,
  },
  RATE_LIMITED: { title: 'Too many requests', status: 429, hint: 'Wait for the seconds that Retry-After gives.', retryable: true },
  QUEUE_UNAVAILABLE: {
    title: 'The queue does not answer',
    status: 503,
    hint: 'Repeat the request in a few seconds; the operator should check Redis.',
    retryable: true,
  },
  DATABASE_UNAVAILABLE: {
    title: 'The database does not answer',
    status: 503,
    hint: 'Repeat the request in a few seconds; the operator should check PostgreSQL.',
    retryable: true,
  },
  DATABASE_SCHEMA: {
    title: 'The database has another schema than this version needs',
    status: 500,
    hint: 'Run the newest version of Octet against this database, or restore the migration files named.',
    retryable: false,
  },
  DATA_DIRECTORY_IN_USE: {
    title: 'Another Octet uses this data directory',
    status: 500,
    hint: 'Stop the other process, or give this one another directory.',
    retryable: false,
  },
  EMBEDDED_POSTGRES: {
    title: 'The embedded PostgreSQL cannot start',
    status: 500,
    hint: 'Set DATABASE_URL to a PostgreSQL server of your own, or correct the cause named in the detail.',
    retryable: false,
  },
  OVERLOADED: { title: 'The service is at its limit', status: 503, hint: 'Wait for the seconds that Retry-After gives.', retryable: true },
  SHUTTING_DOWN: { title: 'The service is stopping', status: 503, hint: 'Repeat the request in a few seconds.', retryable: true },
  INSPECTION_TIMED_OUT: {
    title: 'The upload took too long to inspect',
    status: 422,
    hint: 'Send a smaller file, or raise the limit on your own server.',
    retryable: false,
  },
  JOB_CRASHED: {
    title: 'The process of the job crashed',
    status: 500,
    hint: 'The log tail has its last lines. The job was started as often as allowed (OCTET_JOB_STARTS); report it if it crashes again.',
    retryable: true,
  },
  JOB_OUT_OF_MEMORY: {
    title: 'The job needed more memory than it may have',
    status: 422,
    hint: 'Use a smaller batch size or fewer samples, or raise OCTET_JOB_MEMORY on your own server.',
    retryable: false,
  },
  JOB_TIMED_OUT: {
    title: 'The job ran longer than limits.runSeconds',
    status: 422,
    hint: 'Raise limits.runSeconds, or train fewer epochs.',
    retryable: false,
  },
  QUEUE_TIMED_OUT: {
    title: 'The job waited longer than limits.queueSeconds',
    status: 503,
    hint: 'Submit the job again when the queue is shorter, or start more workers.',
    retryable: true,
  },
  WORKER_LOST: {
    title: 'The worker of the job was lost',
    status: 503,
    hint: 'The job was tried as often as allowed. Submit it again; the operator should check the workers.',
    retryable: true,
  },
} as const satisfies Record<string, { title: string; status: number; hint: string; retryable: boolean }>;

export type ServiceErrorCode = keyof typeof serviceCatalogue;
export type Code = ErrorCode | ServiceErrorCode;

/** Every error code a user of the service can meet. */
export const catalogue: { readonly [C in Code]: { title: string; status: number; hint: string; retryable: boolean } } = {
  ...errorCatalogue,
  ...serviceCatalogue,
};

/** One wrong field of a request or configuration. */
export interface FieldError {
  /** JSON pointer (RFC 6901) to the field. */
  pointer: string;
  detail: string;
  hint?: string;
}

/** An error of the service, in the shape of quant-core's OctetError. */
export class ServiceError extends Error {
  readonly code: Code;
  readonly place: ErrorPlace;
  readonly hint: string;
  readonly errors: FieldError[];
  /** Last words of a job process. */
  readonly logTail: string | undefined;

  constructor(
    code: Code,
    detail: string,
    options: { place?: ErrorPlace; hint?: string; errors?: FieldError[]; logTail?: string; cause?: unknown } = {},
  ) {
    super(detail, { cause: options.cause });
    this.name = 'ServiceError';
    this.code = code;
    this.place = options.place ?? {};
    this.hint = options.hint ?? catalogue[code].hint;
    this.errors = options.errors ?? [];
    this.logTail = options.logTail;
  }

  get status(): number {
    return catalogue[this.code].status;
  }
}

/** A configuration with every wrong field named; still the CONFIG_INVALID (or other code) of quant-core. */
export class ConfigError extends OctetError {
  readonly errors: FieldError[];

  constructor(code: ErrorCode, errors: FieldError[]) {
    const first = errors[0];
    const detail = errors.map((e) => `${e.pointer || '/'}: ${e.detail}`).join('; ');
    super(code, detail, { pointer: first?.pointer ?? '' }, first?.hint === undefined ? {} : { hint: first.hint });
    this.name = 'ConfigError';
    this.errors = errors;
  }
}

/** Any error as plain data with the facts of its catalogue entry. */
export interface Failure {
  code: Code;
  title: string;
  status: number;
  detail: string;
  place: ErrorPlace;
  hint: string;
  retryable: boolean;
  errors: FieldError[];
  logTail?: string;
}

/** Turns anything thrown into a Failure; what is not an error of ours becomes INTERNAL with its message. */
export function failureOf(error: unknown): Failure {
  if (error instanceof ServiceError || error instanceof OctetError) {
    const { title, status, retryable } = catalogue[error.code];
    const errors = error instanceof ServiceError || error instanceof ConfigError ? error.errors : [];
    const failure: Failure = {
      code: error.code,
      title,
      status,
      detail: error.message,
      place: error.place,
      hint: error.hint,
      retryable,
      errors,
    };
    if (error instanceof ServiceError && error.logTail !== undefined) failure.logTail = error.logTail;
    return failure;
  }
  const { title, status, hint, retryable } = catalogue.INTERNAL;
  return {
    code: 'INTERNAL',
    title,
    status,
    detail: error instanceof Error ? error.message : String(error),
    place: {},
    hint,
    retryable,
    errors: [],
  };
}
