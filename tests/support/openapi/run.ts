import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startWorker } from '@octet/worker';
import fc from 'fast-check';
import { pino } from 'pino';
import { startApi, type TestApi } from '../api.js';
import { storeUploads } from '../fixtures.js';
import { classifier, points } from '../samples.js';
import { until } from '../services.js';
import { complaints, requestsOf, send, withoutReferences } from './client.js';

interface Run {
  /** Commands of job processes in place of quant-core's. */
  module?: string | undefined;
  requests: number;
  seed: number;
}

/** Requests that are made before new models, datasets and jobs take the place of those that were deleted. */
const batch = 100;

/** Ask a running service and worker so many generated questions. @returns what is not as the document says, with the request */
export async function complaintsOfRun({ module, requests, seed }: Run): Promise<string[]> {
  const api = await startApi({}, { module });
  const workDirectory = await mkdtemp(join(tmpdir(), 'octet-test-worker-'));
  const worker = await startWorker({
    store: api.store,
    queue: api.queue,
    workDirectory,
    log: pino({ level: 'silent' }),
    testing: { module },
  });
  const found: string[] = [];
  try {
    const document = withoutReferences(await (await fetch(`${api.url}/openapi.json`)).json());
    for (let done = 0; done < requests; done += batch) {
      const generated = requestsOf(document, {
        ids: await resources(api),
        files: [Buffer.from(classifier()), points()],
        query: { wait: { type: 'number', minimum: 0, maximum: 0.05 } },
      });
      for (const request of fc.sample(generated, { numRuns: Math.min(batch, requests - done), seed: seed + done })) {
        const { answer, text } = await send(api.url, request);
        const wrong = complaints(request.operation, answer, text);
        const body = request.body === undefined ? '' : ` ${JSON.stringify(request.body.toString('latin1').slice(0, 300))}`;
        if (wrong.length > 0)
          found.push(
            `${request.method} ${request.path} ${JSON.stringify(request.headers)}${body}: ${wrong.join('; ')} | ${text.slice(0, 300)}`,
          );
      }
    }
  } finally {
    await worker.close();
    await api.close();
    await rm(workDirectory, { recursive: true, force: true });
  }
  return found;
}

/** Models, datasets, a job that has finished with its artifacts, and one that waits. */
async function resources(api: TestApi): Promise<Record<string, string[]>> {
  const uploads = await storeUploads(api.store);
  const submit = async (seed: number) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${api.url}/v1/jobs?reuse=false`, { method: 'POST', headers, body: JSON.stringify({ ...uploads, seed }) });
    return (await answer.json()).id as string;
  };
  const jobs = [await submit(1), await submit(2)];
  const ended = await until(async () => {
    const job = await (await fetch(`${api.url}/v1/jobs/${jobs[0]}?wait=5`)).json();
    return /^(succeeded|failed)$/.test(job.state) && job;
  }, 'a job to end');
  const { items } = await (await fetch(`${api.url}/v1/jobs/${ended.id}/artifacts`)).json();
  return { mdl: [uploads.model], dst: [uploads.dataset], job: jobs, art: items.map((one: { id: string }) => one.id) };
}
