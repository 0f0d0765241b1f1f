import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { OctetError } from '../errors.js';
import { FlatWriter } from './flat.js';
import { checkSamples, checkUnlabelled, type Materialised, stateOf, type Upload } from './materialise.js';
import { type ByteSource, fileBytes, fileHead, gunzipped, headOf, heed, isGzip, unpackedLimit } from './stream.js';
import { classTargets, IntList, TargetCollector, type Targets } from './targets.js';

const mostRecordBytes = 16 * 1024 * 1024;
const mostClassNames = 65_536;
/** Elements gathered before they are written. */
const blockElements = 256 * 1024;
const labelNames = /^(label|labels|class|target|y)$/i;

/**
 * CSV: a sample a row, one column of labels, the others features. The first row is a header when a feature in it is no number.
 * Labels that are no numbers become classes in the order of their names.
 */
export async function materialiseCsv(upload: Upload): Promise<Materialised> {
  const source = await sourceOf(upload);
  const delimiter = delimiterOf(await headOf(source(), 64 * 1024));
  const parser = parse({
    bom: true,
    delimiter,
    trim: true,
    skip_empty_lines: true,
    relax_column_count: true,
    max_record_size: mostRecordBytes,
  });
  const input = Readable.from(source());
  input.on('error', (error) => parser.destroy(error));
  const table = new Table(upload);
  try {
    for await (const row of input.pipe(parser) as AsyncIterable<string[]>) {
      heed(upload.signal);
      await table.add(row);
    }
    return await table.finish();
  } catch (error) {
    await table.abandon();
    if (error instanceof CsvError)
      throw new OctetError('DATASET_UNREADABLE', `The CSV file cannot be read: ${error.message}.`, { file: upload.name }, { cause: error });
    throw error;
  } finally {
    input.destroy();
    parser.destroy();
  }
}

async function sourceOf(upload: Upload): Promise<() => ByteSource> {
  const { size } = await stat(upload.path);
  const packed = isGzip(await fileHead(upload.path, 3));
  return () => (packed ? gunzipped(fileBytes(upload.path), unpackedLimit(size, upload.limits), upload.name) : fileBytes(upload.path));
}

/** The delimiter that the first line holds most of. */
function delimiterOf(head: Buffer): string {
  const line =
    head
      .toString('utf8')
      .trimStart()
      .split(/[\r\n]/)[0] ?? '';
  const count = (delimiter: string) => line.split(delimiter).length;
  return [',', ';', '\t'].reduce((best, next) => (count(next) > count(best) ? next : best));
}

function isNumber(field: string): boolean {
  return field !== '' && Number.isFinite(Number(field));
}

/** Takes rows one by one; the first settles header, columns and label. */
class Table {
  private columns: string[] | undefined;
  private width = 0;
  private label: number | undefined;
  private x: FlatWriter | undefined;
  private y: TargetCollector | undefined;
  private block = new Float32Array(0);
  private rowsInBlock = 1;
  private blockTargets: number[] = [];
  private rows = 0;
  private readonly ids = new IntList();
  private names: Map<string, number> | undefined = new Map();
  private textLabel: { sample: number; text: string } | undefined;
  private readonly assumptions: string[] = [];

  constructor(private readonly upload: Upload) {}

  async add(row: string[]): Promise<void> {
    if (this.width === 0 && (await this.start(row))) return;
    if (row.length !== this.width) throw this.bad(`has ${row.length} columns instead of ${this.width}`);
    if (this.rows >= this.upload.limits.datasetSamples) {
      throw new OctetError('DATASET_TOO_LARGE', `"${this.upload.name}" holds more than ${this.upload.limits.datasetSamples} samples.`, {
        file: this.upload.name,
      });
    }
    const features = this.features;
    let at = (this.rows % this.rowsInBlock) * features;
    for (let column = 0; column < row.length; column++) {
      if (column === this.label) continue;
      this.block[at++] = this.number(row[column] as string, column);
    }
    if (this.label !== undefined) this.addLabel(row[this.label] as string);
    this.rows++;
    if (this.rows % this.rowsInBlock === 0) await this.flush(this.rowsInBlock);
  }

  async finish(): Promise<Materialised> {
    const { upload } = this;
    if (!this.x || this.rows === 0)
      throw new OctetError('DATASET_EMPTY', `"${upload.name}" holds no rows of numbers.`, { file: upload.name });
    await this.flush(this.rows % this.rowsInBlock);
    const x = await this.x.finish();
    if (this.label === undefined) checkUnlabelled(upload, 'no label column');
    return {
      format: 'csv',
      dtype: 'float32',
      sampleShape: [this.features],
      ...stateOf(x),
      targets: await this.targets(),
      assumptions: this.assumptions,
    };
  }

  async abandon(): Promise<void> {
    await this.x?.abandon();
    await this.y?.abandon();
  }

  private get features(): number {
    return this.width - (this.label === undefined ? 0 : 1);
  }

  /** Settle columns from the first row. Returns whether that row is a header. */
  private async start(row: string[]): Promise<boolean> {
    const { config, limits, directory, name } = this.upload;
    this.width = row.length;
    const header = config.header ?? this.looksLikeHeader(row);
    if (header) this.columns = row;
    this.label = config.task === 'unlabelled' && config.label === undefined ? undefined : this.labelColumn(row, header);
    if (config.task === 'unlabelled' && this.label !== undefined) this.names = undefined;
    if (this.features === 0)
      throw new OctetError('DATASET_SHAPE', `"${name}" has one column only; samples need features beside the label.`, { file: name });
    checkSamples(1, [this.features], limits, name);
    this.rowsInBlock = Math.max(1, Math.floor(blockElements / this.features));
    this.block = new Float32Array(this.rowsInBlock * this.features);
    this.x = await FlatWriter.create(join(directory, 'x.bin'), 'float32', this.features, limits.archiveBytes);
    if (this.label !== undefined) {
      this.y = await TargetCollector.create({
        name: this.columnName(this.label),
        integer: false,
        shape: [],
        task: config.task,
        path: join(directory, 'y.bin'),
        maxBytes: limits.archiveBytes,
      });
    }
    return header;
  }

  private looksLikeHeader(row: string[]): boolean {
    if (row.length > 2 && row.every((field, i) => field === String(i))) {
      throw new OctetError(
        'DATASET_AMBIGUOUS',
        `The first row of "${this.upload.name}" is 0, 1, 2, …: it may name the columns or be a sample.`,
        { file: this.upload.name },
        {
          hint: 'Say {"header": true} or {"header": false} in the config of the dataset.',
        },
      );
    }
    const { label } = this.upload.config;
    if (label !== undefined && !/^\d+$/.test(label)) return true;
    const at = label === undefined ? row.length - 1 : Number(label);
    return row.some((field, i) => i !== at && field !== '' && Number.isNaN(Number(field)) && !/^[+-]?nan$/i.test(field));
  }

  private labelColumn(row: string[], header: boolean): number {
    const { label } = this.upload.config;
    if (label !== undefined) {
      const at = header && row.includes(label) ? row.indexOf(label) : /^\d+$/.test(label) ? Number(label) : -1;
      if (at >= 0 && at < row.length) return at;
      throw new OctetError(
        'DATASET_CONFIG',
        `"${this.upload.name}" has no column "${label}" (${row.length} columns${header ? `: ${row.slice(0, 8).join(', ')}${row.length > 8 ? ', …' : ''}` : ''}).`,
        { file: this.upload.name, pointer: '/label' },
      );
    }
    const named = header ? row.flatMap((field, i) => (labelNames.test(field) ? [i] : [])) : [];
    const at = named.length === 1 ? (named[0] as number) : row.length - 1;
    this.assumptions.push(`Column ${at} (${header ? `"${row[at]}"` : `counted from 0, of ${row.length}`}) is taken as the label.`);
    return at;
  }

  private columnName(column: number): string {
    return this.columns?.[column] ?? `column ${column}`;
  }

  private number(field: string, column: number): number {
    if (isNumber(field)) {
      const value = Number(field);
      if (Number.isFinite(Math.fround(value))) return value;
    } else if (field !== '' && Number.isNaN(Number(field)) && !/^[+-]?(nan|inf|infinity)$/i.test(field)) {
      throw this.bad(`holds "${field.slice(0, 40)}" in column ${column} ("${this.columnName(column)}"), which is not a number`);
    }
    const what = field === '' ? 'nothing' : field;
    throw new OctetError('DATASET_NOT_FINITE', `Sample ${this.rows} holds ${what} in column ${column} ("${this.columnName(column)}").`, {
      sample: this.rows,
      file: this.upload.name,
    });
  }

  private addLabel(field: string): void {
    if (this.upload.config.task === 'unlabelled') return;
    if (field === '')
      throw new OctetError('DATASET_LABELS', `Sample ${this.rows} has no label.`, { sample: this.rows, file: this.upload.name });
    if (isNumber(field)) this.blockTargets.push(Number(field));
    else {
      this.textLabel ??= { sample: this.rows, text: field };
      this.blockTargets.push(0);
    }
    if (!this.names) {
      if (this.textLabel) throw this.tooManyNames();
      return;
    }
    let id = this.names.get(field);
    if (id === undefined) {
      id = this.names.size;
      this.names.set(field, id);
      if (id >= mostClassNames) {
        if (this.textLabel) throw this.tooManyNames();
        this.names = undefined;
        return;
      }
    }
    this.ids.push(id);
  }

  private async flush(rows: number): Promise<void> {
    if (rows === 0) return;
    await this.x?.write(this.block.subarray(0, rows * this.features));
    if (this.blockTargets.length > 0) await this.y?.add(Float64Array.from(this.blockTargets));
    this.blockTargets = [];
    this.upload.onProgress?.(this.rows, this.rows);
  }

  private async targets(): Promise<Targets | undefined> {
    if (this.label === undefined || this.upload.config.task === 'unlabelled') {
      await this.y?.abandon();
      return undefined;
    }
    if (!this.textLabel) return this.y?.finish();
    await this.y?.abandon();
    if (this.upload.config.task === 'regression') {
      const { sample, text } = this.textLabel;
      throw new OctetError('DATASET_LABELS', `The label of sample ${sample} is "${text.slice(0, 40)}", which is not a number.`, { sample });
    }
    const names = [...(this.names as Map<string, number>).keys()];
    const sorted = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const rank = new Map(sorted.map((name, i) => [name, i]));
    const labels = this.ids.toArray().map((id) => rank.get(names[id] as string) as number);
    return classTargets(labels, sorted.length, sorted);
  }

  private tooManyNames(): OctetError {
    return new OctetError('DATASET_LABELS', `The label column holds text with more than ${mostClassNames} different values.`, {
      file: this.upload.name,
    });
  }

  private bad(what: string): OctetError {
    return new OctetError(
      'DATASET_UNREADABLE',
      `Row ${this.rows + (this.columns ? 1 : 0) + 1} (sample ${this.rows}) of "${this.upload.name}" ${what}.`,
      { file: this.upload.name, sample: this.rows },
    );
  }
}
