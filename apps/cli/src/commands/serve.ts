import path from 'node:path';
import { Interrupted } from '../errors.js';
import { exampleDirectory } from '../example.js';
import { openLog } from '../service/log.js';
import { type Service, startService, usualPorts } from '../service/service.js';
import { interruptible } from '../signals.js';

export interface ServeFlags {
  port?: number;
  host: string;
  data: string;
  databaseUrl?: string;
  redisUrl?: string;
  concurrency?: number;
  jobMemory?: number;
  jobStarts?: number;
  logLevel?: string;
}

/** `octet serve`: API, worker and database in one process until Ctrl-C or SIGTERM. */
export async function serveCommand(flags: ServeFlags): Promise<number> {
  const log = openLog({ level: flags.logLevel ?? 'info', destination: process.stderr, readable: process.stderr.isTTY === true });
  let stopping = false;
  try {
    await interruptible(async (signal) => {
      const service = await startService({
        data: path.resolve(flags.data),
        host: flags.host,
        ports: flags.port === undefined ? usualPorts : [flags.port],
        databaseUrl: flags.databaseUrl,
        redisUrl: flags.redisUrl,
        concurrency: flags.concurrency,
        jobMemoryBytes: flags.jobMemory === undefined ? undefined : flags.jobMemory * 2 ** 20,
        jobStarts: flags.jobStarts,
        environment: process.env,
        log,
        signal,
      });
      try {
        process.stdout.write(welcome(service, flags));
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
        stopping = true;
        log.info('stopping');
      } finally {
        await service.close();
      }
    });
  } catch (error) {
    if (!(error instanceof Interrupted) || !stopping) throw error;
  }
  log.info('stopped');
  return 0;
}

function welcome({ url, queue }: Service, { data, databaseUrl }: ServeFlags): string {
  const example = path.relative(process.cwd(), exampleDirectory()) || '.';
  const file = (name: string) => path.join(example, name);
  const key = process.env.OCTET_API_KEYS ? ' -H "authorization: Bearer $KEY"' : '';
  return [
    '',
    `Octet listens on ${url}`,
    `  API description    ${url}/docs`,
    `  Data               ${databaseUrl === undefined ? path.resolve(data) : 'your PostgreSQL'}, queue on ${queue === 'redis' ? 'Redis' : 'PostgreSQL'}`,
    '',
    'Try it:',
    `  curl -s${key} ${url}/v1/jobs -F model=@${file('model.onnx')} -F dataset=@${file('train.zip')} -F evaluation=@${file('test.zip')} -F config='{"training":{"epochs":2}}'`,
    '',
    'Ctrl-C stops it.',
    '',
  ].join('\n');
}
