import { OctetError } from '../errors.js';
import type { Inspected, Materialised, Upload } from './materialise.js';
import type { Fields } from './record-fields.js';
import { inspectRecords, materialiseRecords, type Records } from './records.js';
import type { ByteSource } from './stream.js';
import { openText } from './text-source.js';

const mostLineBytes = 16 * 1024 * 1024;
const newline = 10;

/** JSON Lines: an object a line, with numbers, lists of numbers or objects of numbers for features, and a label. */
export async function materialiseJsonl(upload: Upload): Promise<Materialised> {
  return materialiseRecords(upload, await recordsOf(upload));
}

export async function inspectJsonl(upload: Upload): Promise<Inspected> {
  return inspectRecords(upload, await recordsOf(upload));
}

async function recordsOf(upload: Upload): Promise<Records> {
  const source = await openText(upload);
  const read = () => objectsOf(source(), upload.name);
  for await (const first of read()) return { format: 'jsonl', count: undefined, first, dtypeOf: () => 'float32', read };
  throw new OctetError('DATASET_EMPTY', `"${upload.name}" holds no samples.`, { file: upload.name });
}

async function* objectsOf(source: ByteSource, file: string): AsyncGenerator<Fields> {
  let row = 0;
  for await (const line of linesOf(source, file)) {
    row++;
    const text = line.toString('utf8').trim();
    if (text !== '') yield objectOf(text, row, file);
  }
}

function objectOf(text: string, row: number, file: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new OctetError(
      'DATASET_UNREADABLE',
      `Row ${row} of "${file}" is not JSON: ${(cause as Error).message}.`,
      { file },
      { cause, hint: 'Write one JSON object a line.' },
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new OctetError(
      'DATASET_UNREADABLE',
      `Row ${row} of "${file}" is not a JSON object.`,
      { file },
      { hint: 'Write one JSON object a line, such as {"x": [1, 2], "label": 0}.' },
    );
  return value as Fields;
}

async function* linesOf(source: ByteSource, file: string): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let held = 0;
  for await (const chunk of source) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const rest = chunk.subarray(start, end);
      yield parts.length ? Buffer.concat([...parts, rest]) : rest;
      parts = [];
      held = 0;
      start = end + 1;
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start));
      held += chunk.length - start;
      if (held > mostLineBytes)
        throw new OctetError(
          'DATASET_TOO_LARGE',
          `A row of "${file}" is longer than ${mostLineBytes} bytes.`,
          { file },
          { hint: 'Write one JSON object a line; send large samples as .npz.' },
        );
    }
  }
  if (parts.length) yield Buffer.concat(parts);
}
