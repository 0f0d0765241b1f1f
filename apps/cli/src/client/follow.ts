import { setTimeout as sleep } from 'node:timers/promises';
import { type EventBody, isTerminal, type JobBody } from '@octet/contracts';
import { CliError, ServerError } from '../errors.js';
import type { Client } from './client.js';
import { readEvents } from './event-stream.js';

export interface FollowOptions {
  onEvent: (event: EventBody) => void;
  /** The job as it is now and then, where events cannot be had. */
  onJob: (job: JobBody) => void;
  signal?: AbortSignal | undefined;
}

/** The service sends a sign of life every 15 s. */
const silentMs = 60_000;
/** Streams that broke before anything came of them, after which the job is asked for instead. */
const brokenStreams = 4;
/** Requests in a row that may fail while the service is restarted. */
const failedRequests = 20;
const longPollSeconds = 30;

/**
 * Follows a job to its end by its event stream, going on after the last event seen when the connection breaks;
 * by asking for the job again and again where streams do not get through.
 * @throws ServerError as the service answers; CliError SERVER_UNREACHABLE when it stays away
 */
export async function followJob(client: Client, id: string, options: FollowOptions): Promise<JobBody> {
  const seen: Seen = { last: undefined };
  let broken = 0;
  while (broken < brokenStreams) {
    const before = seen.last;
    const job = await streamJob(client, id, seen, options);
    if (job === 'no stream') break;
    if (job !== 'broken') return job;
    broken = seen.last === before ? broken + 1 : 0;
    await sleep(Math.min(250 * 2 ** broken, 4_000), undefined, { signal: options.signal });
  }
  return pollJob(client, id, options);
}

interface Seen {
  /** Number of the last event. */
  last: string | undefined;
}

/** One connection: the job when it has finished, or how the stream failed. */
async function streamJob(
  client: Client,
  id: string,
  seen: Seen,
  { onEvent, signal }: FollowOptions,
): Promise<JobBody | 'broken' | 'no stream'> {
  try {
    const resume: Record<string, string> = seen.last === undefined ? {} : { 'last-event-id': seen.last };
    const answer = await client.send(`/v1/jobs/${encodeURIComponent(id)}/events`, {
      headers: { accept: 'text/event-stream', ...resume },
      bodyTimeout: silentMs,
    });
    if (answer.statusCode === 204) return await client.job(id);
    if (!String(answer.headers['content-type']).startsWith('text/event-stream')) {
      await answer.body.dump().catch(() => undefined);
      return 'no stream';
    }
    for await (const event of readEvents(answer.body)) {
      if (event.type === 'end') return JSON.parse(event.data) as JobBody;
      onEvent(JSON.parse(event.data) as EventBody);
      seen.last = event.id ?? seen.last;
    }
    return 'broken';
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof ServerError && error.status === 406) return 'no stream';
    if (isLasting(error)) throw error;
    return 'broken';
  }
}

/** Long-polls until the job has finished. */
async function pollJob(client: Client, id: string, { onJob, signal }: FollowOptions): Promise<JobBody> {
  for (let failed = 0; ; ) {
    try {
      const job = await client.waitForJob(id, longPollSeconds);
      failed = 0;
      onJob(job);
      if (isTerminal(job.state)) return job;
    } catch (error) {
      signal?.throwIfAborted();
      failed++;
      if (isLasting(error) || failed >= failedRequests) throw error;
      await sleep(1_000, undefined, { signal });
    }
  }
}

/** Whether asking again would only give the same answer. */
function isLasting(error: unknown): boolean {
  if (error instanceof ServerError) return error.status !== 429 && error.status !== 503;
  return error instanceof CliError && error.code !== 'SERVER_UNREACHABLE' && error.code !== 'SERVER_UNKNOWN';
}
