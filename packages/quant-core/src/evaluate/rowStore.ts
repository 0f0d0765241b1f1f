import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type FlatFile, FlatReader } from '../data/flat.js';

/** Elements that are kept in memory; more go to a file. */
const mostInMemory = 16 * 2 ** 20;

/** Stores made so far, for names of files that are unique. */
let made = 0;

/** Rows of float32 in the order they came, in memory or, where they are many, in a scratch file: memory does not grow with the number of samples. */
export class RowStore {
  private readonly number = made++;
  private readonly parts: Float32Array[] = [];
  private held = 0;
  private rows = 0;
  private fd: number | undefined;
  private reader: FlatReader | undefined;

  /**
   * @param width elements of a row
   * @param directory where the scratch file is made
   */
  constructor(
    readonly width: number,
    private readonly directory: string,
    private readonly most = mostInMemory,
  ) {}

  private get path(): string {
    return join(this.directory, `rows-${process.pid}-${this.number}.bin`);
  }

  append(rows: Float32Array): void {
    this.rows += rows.length / this.width;
    if (this.fd === undefined && this.held + rows.length <= this.most) {
      this.parts.push(rows);
      this.held += rows.length;
      return;
    }
    if (this.fd === undefined) {
      this.fd = openSync(this.path, 'w');
      for (const part of this.parts.splice(0)) this.write(part);
    }
    this.write(rows);
  }

  private write(rows: Float32Array): void {
    const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.fd as number, bytes, at, bytes.length - at);
  }

  /** `count` rows from row `from` on. */
  read(from: number, count: number): Float32Array {
    const out = new Float32Array(count * this.width);
    if (this.fd === undefined) {
      this.copy(from * this.width, out);
      return out;
    }
    this.reader ??= new FlatReader(this.file());
    this.reader.read(
      Uint32Array.from({ length: count }, (_, i) => from + i),
      out,
    );
    return out;
  }

  private copy(start: number, out: Float32Array): void {
    let at = 0;
    let passed = 0;
    for (const part of this.parts) {
      const own = start + at - passed;
      if (own < part.length) {
        const piece = part.subarray(own, Math.min(part.length, own + out.length - at));
        out.set(piece, at);
        at += piece.length;
        if (at === out.length) return;
      }
      passed += part.length;
    }
  }

  private file(): FlatFile {
    return { path: this.path, dtype: 'float32', elements: this.width, samples: this.rows, min: 0, max: 0, whole: false };
  }

  /** Free the memory, or remove the file. */
  close(): void {
    this.parts.length = 0;
    this.reader?.close();
    if (this.fd === undefined) return;
    closeSync(this.fd);
    rmSync(this.path, { force: true });
  }
}
