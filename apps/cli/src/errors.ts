import { type Code, catalogue, type Failure, failureOf } from '@octet/contracts';
import type { ErrorPlace } from '@octet/quant-core';

/** Errors that only the command line knows: files, servers that do not answer, interrupted work. */
export const cliCatalogue = {
  USAGE: { title: 'The command line is wrong', hint: 'See "octet help" or "octet help <command>".' },
  FILE_UNREADABLE: { title: 'A file cannot be read', hint: 'Check the path and its permissions.' },
  FILE_UNWRITABLE: { title: 'A file cannot be written', hint: 'Give another path with --output.' },
  CONFIG_UNREADABLE: { title: 'A configuration file is not a JSON object', hint: 'docs/configuration.md has an example and every field.' },
  SERVER_UNREACHABLE: {
    title: 'The server does not answer',
    hint: 'Start one with "octet serve", or name it with --server or OCTET_SERVER.',
  },
  SERVER_UNKNOWN: {
    title: 'The server does not answer as Octet does',
    hint: 'Check the address given with --server or OCTET_SERVER.',
  },
  DOWNLOAD_DAMAGED: {
    title: 'The file that came does not have the digest that the server stated',
    hint: 'Repeat the download; this file was not kept.',
  },
  PORT_TAKEN: { title: 'The port is taken', hint: 'Give another one with --port, or 0 for any that is free.' },
  SERVICE_SETTINGS: { title: 'The settings of the service are wrong', hint: 'The detail names the variable; docs/cli.md lists them.' },
  JOB_FAILED: { title: 'The job failed', hint: 'Correct the cause and submit the job again.' },
  INTERRUPTED: { title: 'Interrupted', hint: 'Run the command again.' },
} as const satisfies Record<string, { title: string; hint: string }>;

export type CliCode = keyof typeof cliCatalogue;

/** An error of the command line itself, in the shape of the others. */
export class CliError extends Error {
  readonly code: CliCode;
  readonly place: ErrorPlace;
  readonly hint: string;

  constructor(code: CliCode, detail: string, options: { place?: ErrorPlace; hint?: string; cause?: unknown } = {}) {
    super(detail, { cause: options.cause });
    this.name = 'CliError';
    this.code = code;
    this.place = options.place ?? {};
    this.hint = options.hint ?? cliCatalogue[code].hint;
  }
}

/** What a person is told of an error, wherever it came from. */
export type Trouble = Pick<Failure, 'title' | 'detail' | 'place' | 'hint' | 'errors'> & {
  code: Code | CliCode;
  logTail?: string | undefined;
};

/** An error that a server answered with, or that stands in a job. */
export class ServerError extends Error {
  readonly trouble: Trouble;
  readonly status: number | undefined;

  constructor(trouble: Trouble, status?: number) {
    super(trouble.detail);
    this.name = 'ServerError';
    this.trouble = trouble;
    this.status = status;
  }
}

/** Anything thrown, as what can be told of it. */
export function troubleOf(error: unknown): Trouble {
  if (error instanceof ServerError) return error.trouble;
  if (error instanceof CliError) {
    return {
      code: error.code,
      title: cliCatalogue[error.code].title,
      detail: error.message,
      place: error.place,
      hint: error.hint,
      errors: [],
    };
  }
  return failureOf(error);
}

export const isKnownCode = (code: string): code is Code => Object.hasOwn(catalogue, code);

/** The work was stopped by a signal. */
export class Interrupted extends CliError {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super('INTERRUPTED', `stopped by ${signal}`);
    this.signal = signal;
  }
}
