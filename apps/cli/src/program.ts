import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { type QuantizeFlags, quantizeCommand } from './commands/quantize.js';
import { recipeOptions } from './options.js';

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
      .argument('<model>', 'float model: .onnx, or a zip of one with its external data')
      .requiredOption('-d, --data <file>', 'training data: npz, npy, IDX, zip of image folders or csv')
      .option('-e, --eval <file>', 'evaluation data (default: a seeded share of --data that is never trained on)')
      .option('-o, --output <file>', 'where the int8 model goes (default: <model>.int8.onnx)')
      .option('--report <file>', 'where the report goes as JSON; Markdown beside it (default: report.json beside the model)')
      .option('--json', 'print one JSON object with the key figures and nothing else on standard output'),
  ).action((model: string, flags: QuantizeFlags) => choose(() => quantizeCommand(model, flags), flags.json === true));

  return program;
}
