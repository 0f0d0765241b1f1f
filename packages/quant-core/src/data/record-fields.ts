import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import { labelWords } from './materialise.js';

/** One sample of a format whose values have names: a row of Parquet, a line of JSONL. */
export type Fields = Readonly<Record<string, unknown>>;

/** Which fields are what. */
export interface Chosen {
  /** Fields that make up a sample, in their order. */
  x: string[];
  label: string | undefined;
  /** The one field of `x` holds image files. */
  images: boolean;
}

/** The column in which pandas writes the index of a table. */
const indexName = '__index_level_0__';

/**
 * Settle which fields hold the label and the samples: those the config names, else by name and by what the first record holds.
 * @throws OctetError DATASET_CONFIG, DATASET_AMBIGUOUS
 */
export function chooseFields(first: Fields, config: DatasetConfig, file: string, assumptions: string[]): Chosen {
  const names = Object.keys(first).filter((name) => name !== indexName);
  if (names.length < Object.keys(first).length) assumptions.push(`The field "${indexName}" is the index of pandas, and left out.`);
  const ambiguous = (what: string, hint: string) =>
    new OctetError('DATASET_AMBIGUOUS', `"${file}" holds the fields ${listed(names)}; ${what}.`, { file }, { hint });
  const said = config.label ?? config.y;
  if (said !== undefined && !names.includes(said)) throw unknown(said, names, file, config.label === undefined ? '/y' : '/label');
  const words = names.filter((name) => labelWords.test(name));
  if (said === undefined && words.length > 1 && config.task !== 'unlabelled')
    throw ambiguous('which of them is the label is not clear', 'Name it in the config of the dataset: {"label": "…"}.');
  let label = said ?? words[0];
  let x = config.x === undefined ? undefined : namedFields(config.x, names, file);
  const rest = (x ?? names).filter((name) => name !== label);
  const pictures = rest.filter((name) => isImage(first[name]));
  if (pictures.length > 1) throw ambiguous('several of them hold images', 'Name one in the config of the dataset: {"x": "…"}.');
  if (x === undefined && pictures.length === 1) {
    const others = rest.filter((name) => !pictures.includes(name));
    x = pictures;
    if (label === undefined && others.length === 1) label = others[0];
    else if (others.length > 0 && label === undefined && config.task !== 'unlabelled')
      throw ambiguous(
        'which of them is the label is not clear',
        'Name it in the config of the dataset: {"label": "…"}, or say {"task": "unlabelled"}.',
      );
    else if (others.length > 0) assumptions.push(`Fields beside the images are left out: ${listed(others)}.`);
  }
  if (x === undefined) {
    if (label === undefined && rest.length > 1 && config.task !== 'unlabelled')
      throw ambiguous(
        'none is called label',
        'Name the label in the config of the dataset: {"label": "…"}, or say {"task": "unlabelled"}.',
      );
    const lists = rest.filter((name) => typeof first[name] === 'object' && first[name] !== null);
    const strange = rest.find(
      (name) => typeof first[name] === 'string' || (lists.length > 0 && lists.length < rest.length) || lists.length > 1,
    );
    if (strange !== undefined)
      throw ambiguous(
        `not all of them can be features of one sample (the first is "${strange}")`,
        'Name those that are in the config of the dataset: {"x": "a,b,c"}.',
      );
    x = rest;
  }
  if (x.length === 0) throw new OctetError('DATASET_SHAPE', `"${file}" holds nothing beside the label.`, { file });
  if (label !== undefined && said === undefined && config.task !== 'unlabelled')
    assumptions.push(`The field "${label}" is taken as the label.`);
  return { x, label: config.task === 'unlabelled' ? undefined : label, images: x.length === 1 && pictures.includes(x[0] as string) };
}

function namedFields(wish: string, names: readonly string[], file: string): string[] {
  if (names.includes(wish)) return [wish];
  const wanted = wish.split(',').map((name) => name.trim());
  const missing = wanted.find((name) => !names.includes(name));
  if (missing !== undefined) throw unknown(missing, names, file, '/x');
  return wanted;
}

function unknown(name: string, names: readonly string[], file: string, pointer: string): OctetError {
  return new OctetError('DATASET_CONFIG', `"${file}" has no field "${name}"; it has ${listed(names)}.`, { file, pointer });
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 12).map((name) => `"${name.slice(0, 40)}"`);
  return shown.join(', ') + (names.length > 12 ? ` and ${names.length - 12} more` : '');
}

/** An image file as a field holds it: its bytes, or as Hugging Face writes them, {bytes, path}. */
export function imageBytes(value: unknown): { bytes: Uint8Array | undefined; path: string | undefined } | undefined {
  if (value instanceof Uint8Array) return { bytes: value, path: undefined };
  if (typeof value !== 'object' || value === null || Array.isArray(value) || !('bytes' in value)) return undefined;
  const { bytes, path } = value as { bytes: unknown; path?: unknown };
  return { bytes: bytes instanceof Uint8Array ? bytes : undefined, path: typeof path === 'string' ? path : undefined };
}

const isImage = (value: unknown) => imageBytes(value) !== undefined;

/** Keys of a field that is an object of numbers, and shape of one that is a list. */
export interface Layout {
  name: string;
  keys?: readonly string[];
  shape: number[];
  /** Elements of the field. */
  size: number;
}

/** How the field of the first record is laid out. Everything later must be the same. */
export function layoutOf(name: string, value: unknown): Layout {
  if (isPlainObject(value)) {
    const keys = Object.keys(value);
    return { name, keys, shape: [keys.length], size: keys.length };
  }
  const shape: number[] = [];
  for (let at = value; isList(at); at = at[0]) shape.push(at.length);
  return { name, shape, size: shape.reduce((a, b) => a * b, 1) };
}

/** Where a value that is wrong stands. */
export interface Where {
  sample: number;
  file: string;
}

/**
 * Writes the numbers of a field to `target` from `at` on.
 * @throws OctetError DATASET_SHAPE for another layout, DATASET_NOT_FINITE for a missing value, DATASET_UNREADABLE for what is not a number
 */
export function writeField(value: unknown, layout: Layout, target: Float64Array, at: number, where: Where): void {
  const { keys, shape } = layout;
  if (keys === undefined) return void writeList(value, shape, 0, target, at, layout, where);
  if (!isPlainObject(value)) throw wrongShape(layout, where, 'an object of numbers');
  for (let i = 0; i < keys.length; i++) target[at + i] = numberOf(value[keys[i] as string], layout, where, keys[i]);
}

function writeList(
  value: unknown,
  shape: readonly number[],
  depth: number,
  target: Float64Array,
  at: number,
  layout: Layout,
  where: Where,
): number {
  if (depth === shape.length) {
    target[at] = numberOf(value, layout, where);
    return at + 1;
  }
  if (!isList(value) || value.length !== shape[depth]) throw wrongShape(layout, where, `shape [${shape}]`);
  let next = at;
  if (depth === shape.length - 1) for (let i = 0; i < value.length; i++) target[next++] = numberOf(value[i], layout, where);
  else for (let i = 0; i < value.length; i++) next = writeList(value[i], shape, depth + 1, target, next, layout, where);
  return next;
}

/** Numbers, 64-bit integers and booleans as a number. */
export function numberOf(value: unknown, { name }: Pick<Layout, 'name'>, { sample, file }: Where, key?: string): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return Number(value);
  const place = `field "${name}"${key === undefined ? '' : ` ("${key}")`}`;
  if (value === null || value === undefined)
    throw new OctetError(
      'DATASET_NOT_FINITE',
      `Sample ${sample} of "${file}" holds nothing in ${place}.`,
      { sample, file },
      { hint: 'Fill the value, or take the sample out.' },
    );
  throw new OctetError('DATASET_UNREADABLE', `Sample ${sample} of "${file}" holds ${shown(value)} in ${place}, which is not a number.`, {
    sample,
    file,
  });
}

function shown(value: unknown): string {
  return typeof value === 'string' ? `"${value.slice(0, 40)}"` : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
}

function wrongShape({ name }: Layout, { sample, file }: Where, wanted: string): OctetError {
  return new OctetError('DATASET_SHAPE', `The field "${name}" of sample ${sample} in "${file}" is not ${wanted}, as in the first sample.`, {
    sample,
    file,
  });
}

type List = ArrayLike<unknown>;
const isList = (value: unknown): value is List => Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
