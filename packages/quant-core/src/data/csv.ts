import { join } from 'node:path';
import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { OctetError } from '../errors.js';
import { TextLabels, tooManyNames } from './class-names.js';
import { boundColumns, type Dialect, dialectOf, hasDecimalComma, numberOf } from './csv-dialect.js';
import { ambiguous, type Columns, columnsOf } from './csv-header.js';
import { FlatWriter } from './flat.js';
import { checkSamples, checkUnlabelled, type Materialised, stateOf, type Upload } from './materialise.js';
import { headOf, heed } from './stream.js';
import { TargetCollector, type Targets } from './targets.js';
import { openText } from './text-source.js';

const mostRecordBytes = 16 * 1024 * 1024;
/** Elements gathered before they are written. */
const blockElements = 256 * 1024;

/**
 * CSV: a sample a row, one column of labels, the others features. Whether the first row is a header is told by what is not a number in it.
 * Labels that are not numbers become classes.
 */
export async function materialiseCsv(upload: Upload): Promise<Materialised> {
  const source = await openText(upload);
  const dialect = dialectOf(await headOf(source(), 64 * 1024));
  const parser = parse({
    delimiter: dialect.delimiter,
    from_line: 1 + dialect.skipped,
    trim: true,
    skip_empty_lines: true,
    relax_column_count: true,
    max_record_size: mostRecordBytes,
  });
  const input = Readable.from(boundColumns(source(), dialect, upload.name));
  input.on('error', (error) => parser.destroy(error));
  const table = new Table(upload, dialect);
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

/** Takes rows one by one; the first two settle header, columns and label. */
class Table {
  private columns: Columns | undefined;
  private first: string[] | undefined;
  private x: FlatWriter | undefined;
  private y: TargetCollector | undefined;
  private block = new Float32Array(0);
  private rowsInBlock = 1;
  private blockTargets: number[] = [];
  private samples = 0;
  /** Rows without any value since the last one that had some. */
  private emptyRows = 0;
  private texts: TextLabels | undefined;
  private textLabel: { row: number; sample: number; text: string } | undefined;
  /** First field with a decimal comma, and with a decimal point. */
  private comma: string | undefined;
  private point: string | undefined;
  private readonly assumptions: string[] = [];

  constructor(
    private readonly upload: Upload,
    private readonly dialect: Dialect,
  ) {}

  async add(row: string[]): Promise<void> {
    if (row.every((field) => field === '')) {
      this.emptyRows++;
      return;
    }
    if (this.columns) return this.addSample(row);
    if (this.first) await this.start(this.first, row);
    else this.first = row;
  }

  async finish(): Promise<Materialised> {
    const { upload } = this;
    if (!this.columns && this.first) await this.start(this.first, undefined);
    if (!this.x || this.samples === 0)
      throw new OctetError('DATASET_EMPTY', `"${upload.name}" holds no rows of numbers.`, { file: upload.name });
    await this.flush(this.samples % this.rowsInBlock);
    const x = await this.x.finish();
    if (this.comma !== undefined) this.assumptions.push(`Numbers are read with a decimal comma, as "${this.comma}".`);
    if (this.emptyRows > 0) this.assumptions.push(`${this.emptyRows} empty rows at the end are left out.`);
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

  private get label(): number | undefined {
    return this.columns?.label;
  }

  private get features(): number {
    const { width = 0, label, index } = this.columns ?? {};
    return width - (label === undefined ? 0 : 1) - (index === undefined ? 0 : 1);
  }

  /** Settle the columns, and take the rows that are samples. */
  private async start(first: string[], next: string[] | undefined): Promise<void> {
    const { config, limits, directory, name } = this.upload;
    const columns = columnsOf(first, next, { config, delimiter: this.dialect.delimiter, file: name, assumptions: this.assumptions });
    this.columns = columns;
    if (this.features === 0)
      throw new OctetError('DATASET_SHAPE', `"${name}" has one column only; samples need features beside the label.`, { file: name });
    checkSamples(1, [this.features], limits, name);
    this.rowsInBlock = Math.max(1, Math.floor(blockElements / this.features));
    this.block = new Float32Array(this.rowsInBlock * this.features);
    this.x = await FlatWriter.create(join(directory, 'x.bin'), 'float32', this.features, limits.archiveBytes);
    if (columns.label !== undefined && config.task !== 'unlabelled') {
      this.texts = new TextLabels(name);
      this.y = await TargetCollector.create({
        name: this.columnName(columns.label),
        integer: false,
        shape: [],
        task: config.task,
        path: join(directory, 'y.bin'),
        maxBytes: limits.archiveBytes,
      });
    }
    if (!columns.names) await this.addSample(first);
    if (next) await this.addSample(next);
  }

  private async addSample(row: string[]): Promise<void> {
    const { width, label, index } = this.columns as Columns;
    if (this.emptyRows > 0) throw this.bad('has no values, and rows with values follow');
    if (row.length !== width) throw this.bad(`has ${row.length} columns instead of ${width}`);
    if (this.samples >= this.upload.limits.datasetSamples) {
      throw new OctetError('DATASET_TOO_LARGE', `"${this.upload.name}" holds more than ${this.upload.limits.datasetSamples} samples.`, {
        file: this.upload.name,
      });
    }
    let at = (this.samples % this.rowsInBlock) * this.features;
    for (let column = 0; column < row.length; column++) {
      const field = row[column] as string;
      if (column === index) this.checkIndex(field);
      else if (column !== label) this.block[at++] = this.number(field, column);
    }
    if (label !== undefined) this.addLabel(row[label] as string, label);
    this.samples++;
    if (this.samples % this.rowsInBlock === 0) await this.flush(this.rowsInBlock);
  }

  private columnName(column: number): string {
    return this.columns?.names?.[column] ?? `column ${column}`;
  }

  private number(field: string, column: number): number {
    const value = this.parse(field);
    if (value !== undefined && Number.isFinite(Math.fround(value))) return value;
    if (value === undefined && Number.isNaN(Number(field)) && !/^[+-]?(nan|inf|infinity)$/i.test(field)) {
      const hint = /^[\d.,+-]+$/.test(field)
        ? 'Numbers have a decimal point, or a decimal comma where columns are separated by semicolon or tab, and nothing between thousands.'
        : undefined;
      throw this.bad(`holds "${field.slice(0, 40)}" in column ${column} ("${this.columnName(column)}"), which is not a number`, hint);
    }
    const what = field === '' ? 'nothing' : field;
    throw new OctetError(
      'DATASET_NOT_FINITE',
      `Sample ${this.samples} (row ${this.row}) holds ${what} in column ${column} ("${this.columnName(column)}").`,
      { sample: this.samples, file: this.upload.name },
      field === '' ? { hint: 'Fill the cell, or take the row out.' } : {},
    );
  }

  /** The number in a field. A file has decimal points or decimal commas: a comma beside points would be one between thousands. */
  private parse(field: string): number | undefined {
    const value = numberOf(field, this.dialect.delimiter);
    if (value === undefined) return undefined;
    if (this.point === undefined && field.includes('.')) this.point = field;
    if (this.comma === undefined && hasDecimalComma(field, this.dialect.delimiter)) this.comma = field;
    if (this.comma !== undefined && this.point !== undefined)
      throw this.bad(
        `has numbers with a comma and with a point by now ("${this.comma}" and "${this.point}")`,
        'Write all numbers with a decimal point.',
      );
    return value;
  }

  private checkIndex(field: string): void {
    if (/^\d+$/.test(field)) return;
    throw this.bad(`holds "${field.slice(0, 40)}" in the column without a name, which is not an index`, 'Name the column, or take it out.');
  }

  private addLabel(field: string, column: number): void {
    if (this.upload.config.task === 'unlabelled') return;
    if (field === '')
      throw new OctetError(
        'DATASET_LABELS',
        `Sample ${this.samples} (row ${this.row}) has no label in column ${column} ("${this.columnName(column)}").`,
        {
          sample: this.samples,
          file: this.upload.name,
        },
      );
    const value = this.parse(field);
    if (value === undefined) this.textLabel ??= { row: this.row, sample: this.samples, text: field };
    this.blockTargets.push(value ?? 0);
    if (this.texts?.full && !this.textLabel) this.texts = undefined;
    if (!this.texts && this.textLabel) throw tooManyNames(this.upload.name);
    this.texts?.add(field);
  }

  private async flush(rows: number): Promise<void> {
    if (rows === 0) return;
    await this.x?.write(this.block.subarray(0, rows * this.features));
    if (this.blockTargets.length > 0) await this.y?.add(Float64Array.from(this.blockTargets));
    this.blockTargets = [];
    this.upload.onProgress?.(this.samples, this.samples);
  }

  private async targets(): Promise<Targets | undefined> {
    if (!this.textLabel) return this.y?.finish();
    await this.y?.abandon();
    const { row, sample, text } = this.textLabel;
    if (this.columns?.doubtful)
      throw ambiguous(
        this.upload.name,
        `has "${this.columns.names?.at(this.label ?? -1)}" for a label, as row ${row} has "${text.slice(0, 40)}"`,
      );
    if (this.upload.config.task === 'regression')
      throw new OctetError(
        'DATASET_LABELS',
        `The label of sample ${sample} (row ${row}) is "${text.slice(0, 40)}", which is not a number.`,
        { sample },
      );
    return this.texts?.finish(this.upload.classes, this.assumptions);
  }

  /** Number of the present row in the file, from 1; empty lines do not count. */
  private get row(): number {
    return this.samples + (this.columns?.names ? 1 : 0) + this.dialect.skipped + 1;
  }

  private bad(what: string, hint?: string): OctetError {
    return new OctetError(
      'DATASET_UNREADABLE',
      `Row ${this.row} (sample ${this.samples}) of "${this.upload.name}" ${what}.`,
      { file: this.upload.name, sample: this.samples },
      hint === undefined ? {} : { hint },
    );
  }
}
