import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import type { DemoFlags } from './commands/demo.js';
import type { ServerFlags, SubmitFlags } from './commands/jobs.js';
import type { QuantizeFlags } from './commands/quantize.js';
import type { ServeFlags } from './commands/serve.js';
import { portNumber, positive, recipeOptions } from './options.js';

const jobs = () => import('./commands/jobs.js');

/** Options of the commands that speak with a server. */
function server(command: Command): Command {
  return command
    .addOption(new Option('-s, --server <url>', 'address of the server').env('OCTET_SERVER').default('http://127.0.0.1:8080'))
    .addOption(new Option('--key <key>', 'API key, where the server wants one').env('OCTET_API_KEY'))
    .option('--json', 'print JSON and nothing else on standard output');
}

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];
const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };

/** What a command line asks for: the work of one command, which gives the exit code. */
export type Work = () => Promise<number>;

/**
 * The command line of Octet. Parsing it calls `choose` with the work of the command named; nothing runs before that.
 */
export function createProgram(choose: (work: Work, json: boolean) => void): Command {
  const program = new Command('octet')
    .description('Quantization-aware training: a float ONNX model and a dataset in, an int8 model and a report you can trust out.')
    .version(manifest.version, '-V, --version')
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('See "octet help" for all commands.');

  recipeOptions(
    program
      .command('quantize')
      .description('Quantize a model here and now, without a server')
      .argument('<model>', 'float model: .onnx, with its external data beside it, or a zip of both')
      .requiredOption('-d, --data <file>', 'training data: npz, npy, IDX, zip of image folders, csv, jsonl or parquet')
      .option('-e, --eval <file>', 'evaluation data (default: a seeded share of --data that is never trained on)')
      .option('-o, --output <file>', 'where the int8 model goes (default: <model>.int8.onnx)')
      .option('--report <file>', 'where the report goes as JSON; Markdown beside it (default: report.json beside the model)')
      .option('--json', 'print one JSON object with the key figures and nothing else on standard output'),
  ).action((model: string, flags: QuantizeFlags) =>
    choose(async () => (await import('./commands/quantize.js')).quantizeCommand(model, flags), flags.json === true),
  );

  server(
    recipeOptions(
      program
        .command('submit')
        .description('Submit a job to a server; prints its id')
        .argument('<model>', 'float model, or the id of one that was uploaded')
        .requiredOption('-d, --data <file>', 'training data, or the id of a dataset that was uploaded')
        .option('-e, --eval <file>', 'evaluation data, or the id of a dataset that was uploaded')
        .option('-w, --watch', 'follow the job to its end and print the result')
        .option('--no-reuse', 'run the job even if a finished one did the same'),
    ),
  ).action((model: string, flags: SubmitFlags) => choose(async () => (await jobs()).submitCommand(model, flags), flags.json === true));

  const onJob = (name: string, description: string) =>
    server(program.command(name).description(description).argument('<job>', 'id of the job'));
  onJob('status', 'Show how a job stands').action((id: string, flags: ServerFlags) =>
    choose(async () => (await jobs()).statusCommand(id, flags), flags.json === true),
  );
  onJob('watch', 'Follow a job to its end and print the result').action((id: string, flags: ServerFlags) =>
    choose(async () => (await jobs()).watchCommand(id, flags), flags.json === true),
  );
  onJob('download', 'Fetch the int8 model of a finished job')
    .option('-o, --output <file>', 'where it goes (default: the name that the server proposes)')
    .action((id: string, flags: ServerFlags & { output?: string }) =>
      choose(async () => (await jobs()).downloadCommand(id, flags), flags.json === true),
    );
  onJob('report', 'Print the accuracy report of a finished job as Markdown, or as JSON')
    .option('-o, --output <file>', 'write it to a file instead')
    .action((id: string, flags: ServerFlags & { output?: string }) =>
      choose(async () => (await jobs()).reportCommand(id, flags), flags.json === true),
    );
  onJob('cancel', 'Cancel a job')
    .option('-w, --wait', 'until it has ended')
    .action((id: string, flags: ServerFlags & { wait?: boolean }) =>
      choose(async () => (await jobs()).cancelCommand(id, flags), flags.json === true),
    );
  server(program.command('list').description('List jobs, the newest first'))
    .option('--state <states>', 'only jobs in these states, with commas between')
    .option('-n, --limit <n>', 'how many', positive, 20)
    .action((flags: ServerFlags & { state?: string; limit: number }) =>
      choose(async () => (await jobs()).listCommand(flags), flags.json === true),
    );

  program
    .command('serve')
    .description('Run the service: API, worker and an embedded PostgreSQL in one process')
    .addOption(new Option('-p, --port <n>', 'port (default: 8080, or a free one when that is taken)').env('PORT').argParser(portNumber))
    .addOption(
      new Option('--host <address>', 'address to listen on; any but a loopback address wants OCTET_API_KEYS')
        .env('HOST')
        .default('127.0.0.1'),
    )
    .option('--data <directory>', 'where the embedded database lies', '.octet')
    .addOption(new Option('--database-url <url>', 'a PostgreSQL of your own instead').env('DATABASE_URL'))
    .addOption(new Option('--redis-url <url>', 'queue on Redis instead of PostgreSQL').env('REDIS_URL'))
    .addOption(new Option('--concurrency <n>', 'jobs at a time (default: 1)').env('OCTET_WORKER_CONCURRENCY').argParser(positive))
    .addOption(
      new Option('--job-starts <n>', 'starts of a job that may fail through a crash or a full disk (default: 3)')
        .env('OCTET_JOB_STARTS')
        .argParser(positive),
    )
    .addOption(
      new Option('--job-memory <MiB>', 'memory of one job (default: a share of what the machine has)')
        .env('OCTET_JOB_MEMORY')
        .argParser(positive),
    )
    .addOption(new Option('--log-level <level>', 'what is logged on standard error').env('LOG_LEVEL').choices(logLevels).default('info'))
    .action((flags: ServeFlags) => choose(async () => (await import('./commands/serve.js')).serveCommand(flags), false));

  program
    .command('demo')
    .description('Run the example from upload to report on a service of its own')
    .option('--data <directory>', 'where the embedded database lies', '.octet')
    .option('-o, --output <directory>', 'where the int8 model and the report go', 'octet-demo')
    .option('--epochs <n>', 'epochs of training', positive, 1)
    .option('-p, --port <n>', 'port (default: 8080, or a free one when that is taken)', portNumber)
    .action((flags: DemoFlags) => choose(async () => (await import('./commands/demo.js')).demoCommand(flags), false));

  return program;
}
