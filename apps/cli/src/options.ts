import { type Command, InvalidArgumentError, Option } from 'commander';
import type { RecipeFlags } from './recipe.js';

/** Options that several commands share, and how their values are read. */

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('It must be a whole number.');
  return value;
}

export function positive(text: string): number {
  const value = wholeNumber(text);
  if (value < 1) throw new InvalidArgumentError('It must be 1 or more.');
  return value;
}

export function portNumber(text: string): number {
  const value = wholeNumber(text);
  if (value < 0 || value > 65_535) throw new InvalidArgumentError('It must be a port from 0 to 65535.');
  return value;
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

/** "8" or "4,8": bits of weights, and of activations. */
function bits(text: string): NonNullable<RecipeFlags['bits']> {
  const match = /^(\d+)(?:,(\d+))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('It must be the bits of weights, or weights,activations, such as 4,8.');
  return { weights: Number(match[1]), ...(match[2] === undefined ? {} : { activations: Number(match[2]) }) };
}

/** "training.schedule=step" with a JSON value, or a plain text. */
function assignment(text: string, previous: [string, unknown][] = []): [string, unknown][] {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('It must be field=value, such as training.schedule=step.');
  const raw = text.slice(at + 1);
  let value: unknown = raw;
  try {
    value = JSON.parse(raw);
  } catch {
    // A word without quotes is a text.
  }
  return [...previous, [text.slice(0, at), value]];
}

const learningRate = (text: string) => (text === 'auto' ? text : number(text));
const names = (text: string) => text.split(',').map((name) => name.trim());
const repeated = (text: string, previous: string[] = []) => [...previous, text];

/** Adds the options that make up a recipe; a value beyond its range is refused later, with the field named. */
export function recipeOptions(command: Command): Command {
  return command
    .optionsGroup('Recipe (each sets a field of docs/configuration.md; flags win over --config):')
    .option('-c, --config <file>', 'JSON file with any of the fields, or the JSON itself')
    .option('--method <method>', 'qat or ptq (default: qat)')
    .option('--target <preset>', 'onnxruntime, x86, fbgemm or qnnpack (default: onnxruntime)')
    .option('--epochs <n>', 'epochs of training (default: 3)', wholeNumber)
    .option('--batch-size <n>', 'samples of a training step (default: 64)', wholeNumber)
    .option('--learning-rate <rate>', 'a number, or auto (default: auto)', learningRate)
    .option('--optimizer <name>', 'sgd or adam (default: sgd)')
    .option('--bits <w[,a]>', 'bits of weights, and of activations (default: 8,8)', bits)
    .addOption(new Option('--per-tensor', 'one scale for each weight tensor').conflicts('perChannel'))
    .option('--per-channel', 'one scale for each output channel of the weights')
    .option('--observer <name>', 'how ranges are found (default: histogram)')
    .option('--calibration-samples <n>', 'samples to find ranges with (default: 512)', wholeNumber)
    .option('--skip <glob>', 'leave layers with such names in float; may be repeated', repeated)
    .option('--placement <which>', 'all, or auto: layers that are faster in float on this machine stay so (default: all)')
    .option('--metric <name>', 'metric to judge by (default: auto)')
    .option('--expect-float <value>', 'what the float model reaches in the metric, such as 0.93; the job stops where it does not', number)
    .option('--max-drop <points>', 'fail with exit code 2 when more points of the metric are lost', number)
    .option('--seed <n>', 'seed of everything random (default: 0)', wholeNumber)
    .option('--threads <n>', 'threads of the job (default: the cores of the machine)', wholeNumber)
    .option('--set <field=value>', 'any other field, such as training.schedule=step; may be repeated', assignment)
    .option('--data-config <json>', 'how the dataset is read: a JSON file, or the JSON itself')
    .option('--eval-config <json>', 'how the evaluation set is read (default: as the dataset)')
    .option('--classes <a,b,c>', 'names of the classes in the order of the outputs of the model', names)
    .optionsGroup('Options:');
}
