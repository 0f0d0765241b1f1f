import { OctetError } from '../errors.js';
import type { ByteSource } from './stream.js';

/** How the rows of a file are written. */
export interface Dialect {
  delimiter: string;
  /** Lines before the first row: 1 after `sep=;`, as Excel writes it. */
  skipped: 0 | 1;
}

/** A row may not have more columns than this. */
const mostColumns = 65_536;
const sampledLines = 20;
const delimiters = [',', ';', '\t'];

/**
 * Delimiter of a file from its first lines: what the line `sep=;` says, else the one that gives all lines the same number of columns, most
 * of them numbers.
 * @param head start of the file, of which a last line that is cut off is not looked at
 */
export function dialectOf(head: Buffer): Dialect {
  const text = head.toString('utf8');
  const said = /^"?sep=([,;\t|])"?\r?\n/i.exec(text)?.[1];
  if (said) return { delimiter: said, skipped: 1 };
  const all = text.split(/\r\n|\n|\r/);
  const lines = (all.length > 1 ? all.slice(0, -1) : all).filter((line) => line.trim() !== '').slice(0, sampledLines);
  const [first, ...others] = delimiters.map((delimiter) => ({ delimiter, fit: fitOf(lines, delimiter) }));
  const best = others.reduce((a, b) => (isBetter(b.fit, a.fit) ? b : a), first as { delimiter: string; fit: Fit });
  return { delimiter: best.delimiter, skipped: 0 };
}

interface Fit {
  /** Whether all lines have as many columns as the first, and more than one. */
  even: boolean;
  /** Share of the fields that are numbers. */
  numbers: number;
  columns: number;
}

function fitOf(lines: readonly string[], delimiter: string): Fit {
  const rows = lines.map((line) => fieldsOf(line, delimiter));
  const columns = rows[0]?.length ?? 0;
  const fields = rows.flat();
  const numbers = fields.filter((field) => numberOf(field, delimiter) !== undefined).length;
  return { even: columns > 1 && rows.every((row) => row.length === columns), numbers: numbers / Math.max(1, fields.length), columns };
}

function isBetter(a: Fit, b: Fit): boolean {
  if (a.even !== b.even) return a.even;
  if (!a.even) return a.columns > b.columns;
  return a.numbers !== b.numbers ? a.numbers > b.numbers : a.columns > b.columns;
}

/** Fields of a line; delimiters between quotes do not count. */
function fieldsOf(line: string, delimiter: string): string[] {
  const parts = line.split('"');
  if (parts.length === 1) return line.split(delimiter).map((field) => field.trim());
  return parts
    .map((part, i) => (i % 2 ? part.replaceAll(delimiter, ' ') : part))
    .join('')
    .split(delimiter)
    .map((field) => field.trim());
}

const decimalComma = /^[+-]?\d*,\d+(e[+-]?\d+)?$/i;

/** Whether a field is a number with a decimal comma, which only means something where the comma does not part columns. */
export function hasDecimalComma(field: string, delimiter: string): boolean {
  return delimiter !== ',' && field.includes(',') && decimalComma.test(field);
}

/** The finite number that a field is, with a decimal point or comma; else `undefined`. */
export function numberOf(field: string, delimiter: string): number | undefined {
  if (field === '') return undefined;
  const value = Number(field);
  if (Number.isFinite(value)) return value;
  return hasDecimalComma(field, delimiter) ? Number(field.replace(',', '.')) : undefined;
}

/** Words that stand for a value that is missing, or is not finite. */
export function isMissing(field: string): boolean {
  return field === '' || /^([+-]?(nan|inf|infinity)|n\/?a|null|none|\?|-)$/i.test(field);
}

/**
 * Passes bytes on while no row has too many columns: such a row costs the parser seconds and much memory.
 * @throws OctetError DATASET_TOO_LARGE
 */
export async function* boundColumns(source: ByteSource, { delimiter }: Dialect, file: string): AsyncGenerator<Buffer> {
  const separator = delimiter.charCodeAt(0);
  let columns = 1;
  let row = 1;
  let quoted = false;
  for await (const chunk of source) {
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (byte === 34) quoted = !quoted;
      else if (quoted) continue;
      else if (byte === 10) {
        columns = 1;
        row++;
      } else if (byte === separator && ++columns > mostColumns) throw tooMany(row, file);
    }
    yield chunk;
  }
}

function tooMany(row: number, file: string): OctetError {
  return new OctetError(
    'DATASET_TOO_LARGE',
    `Row ${row} of "${file}" has more than ${mostColumns} columns.`,
    { file },
    { hint: 'Send samples of so many values as .npz or .npy.' },
  );
}
