import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { hasResult } from '@octet/contracts';
import type { Report } from '@octet/quant-core';
import { pino } from 'pino';
import { Client } from '../client/client.js';
import { download } from '../client/download.js';
import { submitJob } from '../client/submit.js';
import { exampleDirectory } from '../example.js';
import { exitCodes } from '../exit-codes.js';
import { placeFile, requireFile } from '../files.js';
import { failureOfJob } from '../output/job.js';
import { Progress } from '../output/progress.js';
import { renderResult } from '../output/result.js';
import { duration } from '../output/text.js';
import { planJob } from '../recipe.js';
import { openLog } from '../service/log.js';
import { startService, usualPorts } from '../service/service.js';
import { interruptible } from '../signals.js';
import { uploadShown, watchJob } from './jobs.js';

export interface DemoFlags {
  data: string;
  output: string;
  epochs: number;
  port?: number;
}

/** Marks the jobs of the demo, so that one that was broken off is not taken for somebody's work. */
const mark = { octet: 'demo' };
/** How long a job that was cancelled is waited for before the service stops. */
const cancelSeconds = 5;

/** `octet demo`: the whole way of the example, from upload to report, on a service of its own. */
export async function demoCommand(flags: DemoFlags): Promise<number> {
  const started = Date.now();
  const example = exampleDirectory();
  const inputs = {
    model: path.join(example, 'model.onnx'),
    data: path.join(example, 'train.zip'),
    evaluation: path.join(example, 'test.zip'),
  };
  for (const file of Object.values(inputs)) await requireFile(file);
  const data = path.resolve(flags.data);
  const output = path.resolve(flags.output);
  for (const directory of [data, output]) await mkdir(directory, { recursive: true });
  const logFile = path.join(data, 'demo.log');
  const say = (text: string) => process.stderr.write(`${text}\n`);
  // The demo is the embedded default, whatever the environment says of servers of one's own.
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(DATABASE_URL|REDIS_URL|OCTET_)/.test(name)));

  return interruptible(async (signal) => {
    say('Octet demo: Fashion-MNIST, a float CNN through quantization-aware training to int8.');
    say(`Starting the service on its embedded PostgreSQL (data in ${shown(data)}, log in ${shown(logFile)}) ...`);
    const service = await startService({
      data,
      host: '127.0.0.1',
      ports: flags.port === undefined ? usualPorts : [flags.port],
      environment,
      log: openLog({ level: 'info', destination: pino.destination({ dest: logFile, append: false, sync: true }), readable: false }),
      say,
      signal,
    });
    const client = new Client({ server: service.url, signal });
    try {
      say(`The service listens on ${service.url}; the API is described at ${service.url}/docs`);
      await endLeftovers(client);
      const plan = await planJob({ epochs: flags.epochs, maxDrop: 0.5, set: demoSettings });
      say(
        `POST ${service.url}/v1/jobs with ${Object.values(inputs)
          .map((file) => path.basename(file))
          .join(', ')}`,
      );
      const progress = new Progress();
      let job = await submitJob(client, inputs, plan, { reuse: false, metadata: mark, onSent: uploadShown(progress) }).catch(
        (error: unknown) => {
          progress.close({ finished: false });
          throw error;
        },
      );
      progress.note(`${job.id} is ${job.state}`);
      job = await watchJob(client, job.id, signal, progress);
      if (!hasResult(job.state)) throw failureOfJob(job);

      const report = await client.text(await client.send(`/v1/jobs/${job.id}/accuracy-diff`, { headers: { accept: 'application/json' } }));
      const markdown = await client.text(await client.send(`/v1/jobs/${job.id}/accuracy-diff`, { headers: { accept: 'text/markdown' } }));
      const files = {
        model: path.join(output, 'model.int8.onnx'),
        report: path.join(output, 'report.json'),
        markdown: path.join(output, 'report.md'),
      };
      await download(client, `/v1/jobs/${job.id}/model`, files.model, { signal });
      await placeFile({ text: report }, files.report);
      await placeFile({ text: markdown }, files.markdown);
      process.stdout.write(`\n${renderResult(JSON.parse(report) as Report)}\nWrote ${Object.values(files).map(shown).join(', ')}\n`);
      return exitCodes.ok;
    } finally {
      await client.close();
      if (signal.aborted) await withoutSignal(service.url, endLeftovers);
      await service.close();
      if (!signal.aborted) say(`The service is stopped. All of it took ${duration((Date.now() - started) / 1000)}.`);
    }
  });
}

const demoSettings: [string, unknown][] = [];

const shown = (file: string) => path.relative(process.cwd(), file) || '.';

/** Ends jobs of the demo that were broken off: they would take the machine from the next job. */
async function endLeftovers(client: Client): Promise<void> {
  const { items } = await client.jobs({ state: 'queued,running,cancelling', limit: '100' });
  const mine = items.filter(({ metadata }) => metadata.octet === mark.octet);
  for (const { id } of mine) await client.cancel(id);
  const deadline = Date.now() + cancelSeconds * 1000;
  for (const { id } of mine) {
    const left = (deadline - Date.now()) / 1000;
    if (left > 0) await client.waitForJob(id, left);
  }
}

/** The same on a connection that the interrupt does not end; whatever goes wrong must not keep the service from stopping. */
async function withoutSignal(server: string, act: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ server });
  await act(client).catch(() => undefined);
  await client.close();
}
