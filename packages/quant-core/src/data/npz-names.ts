import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';

interface NamedArray {
  name: string;
  /** Length of the first axis. */
  count: number;
}

const sampleWords = new Set(['x', 'data', 'image', 'images', 'input', 'inputs', 'feature', 'features', 'samples']);
const targetWords = new Set(['y', 'label', 'labels', 'target', 'targets', 'class', 'classes', 'output', 'outputs']);
const splitWords = new Map([
  ['train', 'train'],
  ['training', 'train'],
  ['test', 'test'],
  ['testing', 'test'],
  ['val', 'val'],
  ['valid', 'val'],
  ['validation', 'val'],
  ['eval', 'val'],
  ['evaluation', 'val'],
  ['t10k', 'test'],
]);

/** Words of a name in small letters: "xTrain" and "x_train" are both x, train. */
function wordsOf(name: string): string[] {
  return name
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .replace(/^([xy])(train|test|val)$/, '$1_$2')
    .split(/[^a-z0-9]+/);
}

/**
 * The split that the name of a file or folder says: "train", "val" or "test"; `undefined` where it says none or two.
 * @param alone whether the name must hold nothing else
 */
export function splitOf(name: string, alone: boolean): string | undefined {
  const words = wordsOf(name);
  if (alone && words.length > 1) return undefined;
  const found = new Set(words.flatMap((word) => splitWords.get(word) ?? []));
  return found.size === 1 ? [...found][0] : undefined;
}

/** What a name says: "x_train" → samples of the split "train"; undefined for a name that says nothing. */
export function roleOf(name: string): { role: 'x' | 'y'; split: string } | undefined {
  const words = wordsOf(name);
  let role: 'x' | 'y' | undefined;
  let split = '';
  for (const word of words) {
    if (splitWords.has(word)) split = splitWords.get(word) as string;
    else if (sampleWords.has(word)) role = 'x';
    else if (targetWords.has(word)) role = 'y';
    else return undefined;
  }
  return role && { role, split };
}

interface ChosenArrays {
  x: string;
  y: string | undefined;
  /** Further arrays of samples, for models with several inputs. */
  others: string[];
}

/**
 * Which arrays hold samples and targets: those the config names; otherwise by their names, those of the model's inputs first; otherwise by
 * order where there are two.
 * @param arrays numeric arrays, in the order of the archive
 * @param all every name, for messages
 * @param inputs names of the inputs of the model; empty when no model is known
 */
export function chooseArrays(
  arrays: readonly NamedArray[],
  all: readonly string[],
  config: DatasetConfig,
  file: string,
  inputs: readonly string[] = [],
): ChosenArrays {
  if (inputs.length > 1) return chooseInputs(arrays, all, config, file, inputs);
  const several = inputs.length === 0 && config.x === undefined ? severalInputs(arrays, config) : undefined;
  return several ?? { ...chooseTwo(arrays, all, config, file, inputs[0]), others: [] };
}

/** One array for each input of a model, under its name; of what is left over one may hold the targets. */
function chooseInputs(
  arrays: readonly NamedArray[],
  all: readonly string[],
  config: DatasetConfig,
  file: string,
  inputs: readonly string[],
): ChosenArrays {
  if (config.x !== undefined)
    throw new OctetError('DATASET_CONFIG', `The model has the inputs ${list(inputs)}; "x" names the samples of a single one.`, {
      pointer: '/x',
    });
  const missing = inputs.filter((name) => !arrays.some((array) => array.name === name));
  if (missing.length)
    throw new OctetError(
      'DATASET_INPUTS',
      `The model has the inputs ${list(inputs)}; "${file}" holds ${list(all)}, and nothing for ${list(missing)}.`,
      { file, tensor: missing[0] as string },
      {
        hint: `Put an array for ${list(missing)} into the .npz, with one row for each sample (ones for a mask that hides nothing), or export the model without.`,
      },
    );
  const [x, ...others] = inputs as [string, ...string[]];
  // What is left over beside the inputs is settled as with one input.
  const rest = arrays.filter((array) => !others.includes(array.name));
  return { ...chooseTwo(rest, all, { ...config, x }, file), others };
}

/**
 * Arrays that can only be the inputs of one model: none is called samples, all have as many rows, and the targets are known by name (or
 * there are none). Their own names must be those of the inputs; that is seen when the dataset meets a model.
 */
function severalInputs(arrays: readonly NamedArray[], config: DatasetConfig): ChosenArrays | undefined {
  const y = config.task === 'unlabelled' ? undefined : (config.y ?? arrays.find((array) => roleOf(array.name)?.role === 'y')?.name);
  const named = arrays.filter((array) => roleOf(array.name) !== undefined);
  if (named.some((array) => array.name !== y) || (y === undefined && config.task !== 'unlabelled')) return undefined;
  const [first, ...others] = arrays.filter((array) => array.name !== y);
  if (!first || !others.length || arrays.some((array) => array.count !== first.count)) return undefined;
  return { x: first.name, y, others: others.map((array) => array.name) };
}

function chooseTwo(
  arrays: readonly NamedArray[],
  all: readonly string[],
  config: DatasetConfig,
  file: string,
  input?: string,
): { x: string; y: string | undefined } {
  const names = arrays.map((array) => array.name);
  const unlabelled = config.task === 'unlabelled';
  const configured = (key: 'x' | 'y') => {
    const name = config[key]?.replace(/\.npy$/, '');
    if (name === undefined || names.includes(name)) return name;
    const reason = all.includes(name) ? 'holds no numbers' : 'is not in the archive';
    throw new OctetError('DATASET_CONFIG', `The array "${name}" ${reason}; the archive holds ${list(all)}.`, {
      file: name,
      pointer: `/${key}`,
    });
  };
  const ambiguous = (what: string, key: string) =>
    new OctetError(
      'DATASET_AMBIGUOUS',
      `"${file}" holds the arrays ${list(all)}; which of them holds the ${what} is not clear.`,
      { file },
      {
        hint: `Name it in the config of the dataset: {"${key}": "…"}${key === 'y' ? ', or say {"task": "unlabelled"}' : ''}.`,
      },
    );

  let y = unlabelled ? undefined : configured('y');
  let x = configured('x') ?? (input !== undefined && input !== y && names.includes(input) ? input : undefined);
  if (x === undefined) {
    const samples = names.filter((name) => name !== y && roleOf(name)?.role === 'x');
    const targets = names.filter((name) => roleOf(name)?.role === 'y');
    const others = names.filter((name) => name !== y && !targets.includes(name));
    if (samples.length === 1) x = samples[0];
    else if (samples.length > 1) throw ambiguous('samples', 'x');
    else if (others.length === 1) x = others[0];
    else if (names.length === 2 && y === undefined && targets.length === 0) x = names[0];
    else if (names.length === 0) throw new OctetError('DATASET_UNREADABLE', `"${file}" holds no numeric array.`, { file });
    else throw ambiguous('samples', 'x');
  }
  if (unlabelled || y !== undefined) return { x: x as string, y };

  const split = roleOf(x as string)?.split ?? '';
  const others = names.filter((name) => name !== x && roleOf(name)?.role !== 'x');
  const named = others.filter((name) => roleOf(name)?.role === 'y');
  const sameSplit = named.filter((name) => roleOf(name)?.split === split);
  const pool = sameSplit.length > 0 ? sameSplit : named.length > 0 ? named : others;
  if (pool.length > 1) throw ambiguous('labels', 'y');
  y = pool[0];
  return { x: x as string, y };
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 12).map((name) => `"${name}"`);
  return shown.join(', ') + (names.length > 12 ? ` and ${names.length - 12} more` : '') || 'nothing';
}
