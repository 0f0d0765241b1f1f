import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import { isMissing, numberOf } from './csv-dialect.js';
import { labelWords } from './materialise.js';

/** What the columns of a file are. */
export interface Columns {
  width: number;
  /** Names from the header. */
  names: string[] | undefined;
  /** The header was told by its label only: a label that is text further down makes that doubtful. */
  doubtful: boolean;
  label: number | undefined;
  /** The column without a name in which pandas writes the index. */
  index: number | undefined;
}

interface Wish {
  config: DatasetConfig;
  delimiter: string;
  file: string;
  assumptions: string[];
}

/**
 * Settle header and label from the first two rows.
 * @throws OctetError DATASET_AMBIGUOUS, DATASET_CONFIG
 */
export function columnsOf(first: string[], next: string[] | undefined, wish: Wish): Columns {
  const { config, assumptions } = wish;
  const { header, doubtful } = headerOf(first, next, wish);
  const unlabelled = config.task === 'unlabelled' && config.label === undefined;
  const label = unlabelled ? undefined : labelColumn(first, header, wish);
  const index = header && first[0] === '' && first.length > 2 && label !== 0 ? 0 : undefined;
  if (index !== undefined) assumptions.push('The first column has no name: it is taken for the index that pandas writes, and left out.');
  return { width: first.length, names: header ? first : undefined, doubtful, label, index };
}

function headerOf(first: string[], next: string[] | undefined, { config, delimiter, file }: Wish): { header: boolean; doubtful: boolean } {
  const certain = (header: boolean) => ({ header, doubtful: false });
  if (config.header !== undefined) return certain(config.header);
  if (config.label !== undefined && !/^\d+$/.test(config.label)) return certain(true);
  const isNumber = (field: string) => numberOf(field, delimiter) !== undefined;
  const at = config.label !== undefined ? Number(config.label) : config.task === 'unlabelled' ? -1 : first.length - 1;
  const features = first.filter((_, i) => i !== at);
  const name = features.find((field) => !isNumber(field) && !isMissing(field));
  if (name !== undefined) {
    const fraction = features.find((field) => isNumber(field) && !Number.isInteger(Number(field)));
    if (fraction !== undefined && next?.some((field, i) => i !== at && !isNumber(field) && !isMissing(field)))
      throw ambiguous(file, `holds both "${name.slice(0, 40)}" and ${fraction}`);
    return certain(true);
  }
  if (first.length > 2 && first[0] === '' && first.slice(1).every((field, i) => field === String(i))) return certain(true);
  if (first.length > 2 && first.every((field, i) => field === String(i))) throw ambiguous(file, 'is 0, 1, 2, …');
  const label = first[at];
  if (label === undefined || isNumber(label) || isMissing(label)) return certain(false);
  const below = next?.[at];
  if (below !== undefined && isNumber(below)) return { header: true, doubtful: true };
  const counts = features.length > 1 && features.every((field, i) => field === String(i));
  if (counts && !labelWords.test(label)) throw ambiguous(file, `is 0, 1, 2, … and "${label.slice(0, 40)}"`);
  return certain(counts || (label.length > 1 && labelWords.test(label)));
}

/** The first row of `file` may name the columns or be a sample. */
export function ambiguous(file: string, what: string): OctetError {
  return new OctetError(
    'DATASET_AMBIGUOUS',
    `The first row of "${file}" ${what}: it may name the columns or be a sample.`,
    { file },
    { hint: 'Say {"header": true} or {"header": false} in the config of the dataset.' },
  );
}

function labelColumn(row: string[], header: boolean, { config, file, assumptions }: Wish): number {
  const { label } = config;
  if (label !== undefined) {
    const at = header && row.includes(label) ? row.indexOf(label) : /^\d+$/.test(label) ? Number(label) : -1;
    if (at >= 0 && at < row.length) return at;
    throw new OctetError(
      'DATASET_CONFIG',
      `"${file}" has no column "${label}" (${row.length} columns${header ? `: ${row.slice(0, 8).join(', ')}${row.length > 8 ? ', …' : ''}` : ''}).`,
      { file, pointer: '/label' },
    );
  }
  const named = header ? row.flatMap((field, i) => (labelWords.test(field) ? [i] : [])) : [];
  const at = named.length === 1 ? (named[0] as number) : row.length - 1;
  assumptions.push(`Column ${at} (${header ? `"${row[at]}"` : `counted from 0, of ${row.length}`}) is taken as the label.`);
  return at;
}
