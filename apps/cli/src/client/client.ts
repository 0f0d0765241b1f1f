import type { Readable } from 'node:stream';
import type { Dataset, DatasetConfig, JobBody, Model, Page, Problem } from '@octet/contracts';
import { Agent, type Dispatcher, request } from 'undici';
import { CliError, isKnownCode, ServerError } from '../errors.js';

export interface ClientOptions {
  /** Address of the service, such as http://127.0.0.1:8080. */
  server: string;
  /** Bearer key, where the service wants one. */
  key?: string | undefined;
  signal?: AbortSignal | undefined;
}

interface Ask {
  method?: Dispatcher.HttpMethod;
  headers?: Record<string, string>;
  body?: string | Readable;
  /** Silence after which the body is given up; 0 waits for ever. */
  bodyTimeout?: number;
}

/** An answer whose body has not been read. */
export type Answer = Dispatcher.ResponseData;

/** Speaks HTTP with one service. Every failure is an error of the catalogue: the service's own, or SERVER_UNREACHABLE. */
export class Client {
  readonly server: string;
  readonly #key: string | undefined;
  readonly #signal: AbortSignal | undefined;
  // Inspecting a large upload takes minutes, and an event stream has no end: the service sets the limits, not the client.
  readonly #agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, connect: { timeout: 10_000 } });

  constructor({ server, key, signal }: ClientOptions) {
    this.server = addressOf(server);
    this.#key = key;
    this.#signal = signal;
  }

  /**
   * Sends a request and gives the answer when its headers are there.
   * @throws CliError SERVER_UNREACHABLE; ServerError for answers of 400 and above
   */
  async send(path: string, { method = 'GET', headers = {}, body, bodyTimeout = 0 }: Ask = {}): Promise<Answer> {
    const authorization = this.#key === undefined ? {} : { authorization: `Bearer ${this.#key}` };
    let answer: Answer;
    try {
      answer = await request(this.server + path, {
        method,
        headers: { 'user-agent': 'octet-cli', ...authorization, ...headers },
        ...(body === undefined ? {} : { body }),
        ...(this.#signal === undefined ? {} : { signal: this.#signal }),
        bodyTimeout,
        dispatcher: this.#agent,
      });
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw unreachable(this.server, error);
    }
    if (answer.statusCode >= 400) throw await refusal(answer, `${this.server}${path}`);
    return answer;
  }

  /** The same for answers in JSON. */
  async json<T>(path: string, ask: Ask = {}): Promise<T> {
    const answer = await this.send(path, { ...ask, headers: { accept: 'application/json', ...ask.headers } });
    const text = await this.text(answer);
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new CliError('SERVER_UNKNOWN', `${this.server}${path} did not answer in JSON`, { cause: error });
    }
  }

  /** Reads a body to its end. */
  async text(answer: Answer): Promise<string> {
    try {
      return await answer.body.text();
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw unreachable(this.server, error);
    }
  }

  post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
    return this.json<T>(path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  }

  job(id: string): Promise<JobBody> {
    return this.json<JobBody>(`/v1/jobs/${encodeURIComponent(id)}`);
  }

  /** The job after its next change of state, or as it is after `seconds`. */
  waitForJob(id: string, seconds: number): Promise<JobBody> {
    return this.json<JobBody>(`/v1/jobs/${encodeURIComponent(id)}?wait=${seconds}`);
  }

  jobs(query: Record<string, string>): Promise<Page<JobBody>> {
    return this.json<Page<JobBody>>(`/v1/jobs?${new URLSearchParams(query)}`);
  }

  cancel(id: string): Promise<JobBody> {
    return this.json<JobBody>(`/v1/jobs/${encodeURIComponent(id)}/cancel`, { method: 'POST' });
  }

  /** A model as the file itself, or as a multipart body with its external data. */
  uploadModel(name: string, body: Readable, bytes: number, type?: string): Promise<Model> {
    return this.#upload<Model>(`/v1/models?${new URLSearchParams({ name })}`, body, bytes, type);
  }

  uploadDataset(name: string, config: DatasetConfig, body: Readable, bytes: number): Promise<Dataset> {
    return this.#upload<Dataset>(`/v1/datasets?${new URLSearchParams({ name, config: JSON.stringify(config) })}`, body, bytes);
  }

  #upload<T>(path: string, body: Readable, bytes: number, type = 'application/octet-stream'): Promise<T> {
    return this.json<T>(path, {
      method: 'POST',
      headers: { 'content-type': type, 'content-length': String(bytes) },
      body,
    });
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function addressOf(server: string): string {
  const text = /^[a-z]+:\/\//i.test(server) ? server : `http://${server}`;
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw new CliError('USAGE', `"${server}" is not the address of a server`, { hint: 'Write it as http://host:port.', cause: error });
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new CliError('USAGE', `"${server}" is not an HTTP address`, { hint: 'Write it as http://host:port.' });
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

function unreachable(server: string, error: unknown): CliError {
  const cause = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  const { code, message } = cause as NodeJS.ErrnoException;
  const why =
    code === 'ECONNREFUSED'
      ? 'nothing listens there'
      : code === 'ENOTFOUND'
        ? 'there is no such host'
        : ((message || code) ?? String(cause));
  return new CliError('SERVER_UNREACHABLE', `${server}: ${why}`, { cause: error });
}

/** The problem that a service answered with, as an error. */
async function refusal(answer: Answer, url: string): Promise<ServerError | CliError> {
  const text = await answer.body.text().catch(() => '');
  let problem: Partial<Problem> = {};
  try {
    problem = JSON.parse(text) as Partial<Problem>;
  } catch {
    // Something between us and the service answered; the status is all there is.
  }
  const { code, title, detail, place, hint, errors, requestId } = problem;
  if (typeof code !== 'string' || !isKnownCode(code)) {
    return new CliError(
      'SERVER_UNKNOWN',
      `${url} answered with status ${answer.statusCode}${text === '' ? '' : `: ${text.slice(0, 200)}`}`,
    );
  }
  const request = code === 'INTERNAL' && requestId !== undefined ? ` (request ${requestId})` : '';
  return new ServerError(
    { code, title: title ?? code, detail: `${detail ?? ''}${request}`, place: place ?? {}, hint: hint ?? '', errors: errors ?? [] },
    answer.statusCode,
  );
}
