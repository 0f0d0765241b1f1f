import { closeSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import { type Numbers, type StoreArray, type StoreType, storeTypes } from './elements.js';

/** A finished flat file: samples of one size, one after the other, little-endian, no header. */
export interface FlatFile {
  path: string;
  dtype: StoreType;
  /** Elements of one sample. */
  elements: number;
  samples: number;
  min: number;
  max: number;
  /** Whether every value is a whole number. */
  whole: boolean;
}

/** Writes smaller than a buffer are gathered in one of this size. */
const bufferBytes = 256 * 1024;

/** Appends samples to a flat file; refuses NaN and infinity, keeps the range. */
export class FlatWriter {
  private written = 0;
  private min = Number.POSITIVE_INFINITY;
  private max = Number.NEGATIVE_INFINITY;
  private whole = true;
  private readonly buffer = new Uint8Array(bufferBytes);
  private buffered = 0;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly dtype: StoreType,
    private readonly elements: number,
    private readonly maxBytes: number,
  ) {}

  /** @param maxBytes size beyond which DATASET_TOO_LARGE is raised. */
  static async create(path: string, dtype: StoreType, elements: number, maxBytes: number): Promise<FlatWriter> {
    return new FlatWriter(path, await open(path, 'w'), dtype, elements, maxBytes);
  }

  /** Whole samples written so far. */
  get samples(): number {
    return Math.floor(this.written / this.elements);
  }

  /** Append elements, in any number. The array may be reused once the promise resolves. */
  async write(values: Numbers): Promise<void> {
    const make = storeTypes[this.dtype];
    const data = (values instanceof make ? values : make.from(values)) as StoreArray;
    if (data instanceof Float32Array || data instanceof Float64Array) this.checkFloats(data, values);
    else this.widen(data);
    this.written += data.length;
    if (this.written * make.BYTES_PER_ELEMENT > this.maxBytes) {
      throw new OctetError('DATASET_TOO_LARGE', `The dataset unpacks to more than ${this.maxBytes} bytes.`);
    }
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (this.buffered + bytes.length > bufferBytes) await this.flush();
    if (bytes.length > bufferBytes) await this.put(bytes);
    else {
      this.buffer.set(bytes, this.buffered);
      this.buffered += bytes.length;
    }
  }

  private checkFloats(data: Float32Array | Float64Array, values: Numbers): void {
    let { min, max, whole } = this;
    for (let i = 0; i < data.length; i++) {
      const v = data[i] as number;
      if (!(v - v === 0)) throw this.notFinite(this.written + i, values[i] as number);
      if (v < min) min = v;
      if (v > max) max = v;
      if (whole && v !== Math.trunc(v)) whole = false;
    }
    this.min = min;
    this.max = max;
    this.whole = whole;
  }

  /** Whole numbers of few bits: bounds that are such numbers too are compared with in half the time. */
  private widen(data: Exclude<StoreArray, Float32Array | Float64Array>): void {
    // Bytes soon cover their whole range, as a rule within the first image.
    if (!data.length || (data instanceof Uint8Array && this.min === 0 && this.max === 255)) return;
    let low = data[0] as number;
    let high = low;
    for (let i = 1; i < data.length; i++) {
      const v = data[i] as number;
      if (v < low) low = v;
      else if (v > high) high = v;
    }
    this.min = Math.min(this.min, low);
    this.max = Math.max(this.max, high);
  }

  async finish(): Promise<FlatFile> {
    await this.flush();
    await this.file.close();
    const { path, dtype, elements, samples, whole } = this;
    return { path, dtype, elements, samples, min: samples ? this.min : 0, max: samples ? this.max : 0, whole };
  }

  /** Close without finishing; for error paths. */
  async abandon(): Promise<void> {
    await this.file.close().catch(() => undefined);
  }

  private async flush(): Promise<void> {
    const { buffered } = this;
    this.buffered = 0;
    await this.put(this.buffer.subarray(0, buffered));
  }

  private async put(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) at += (await this.file.write(bytes, at, bytes.length - at)).bytesWritten;
  }

  private notFinite(at: number, value: number): OctetError {
    const sample = Math.floor(at / this.elements);
    const what = value - value === 0 ? `${value}, which is beyond float32,` : String(value);
    return new OctetError('DATASET_NOT_FINITE', `Sample ${sample} holds ${what} at element ${at % this.elements}.`, { sample });
  }
}

/** Random access to a flat file. Reads come from the page cache or the disk; nothing is kept. */
export class FlatReader {
  private readonly fd: number;
  private readonly sampleBytes: number;

  constructor(readonly file: FlatFile) {
    this.fd = openSync(file.path, 'r');
    this.sampleBytes = file.elements * storeTypes[file.dtype].BYTES_PER_ELEMENT;
  }

  /** Room for `count` samples. */
  allocate(count: number): StoreArray {
    return new storeTypes[this.file.dtype](count * this.file.elements);
  }

  /** The samples at `indices`, one after the other, into `target`. Neighbours are read together. */
  read(indices: ArrayLike<number>, target: StoreArray): void {
    const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
    for (let at = 0; at < indices.length; ) {
      const first = indices[at] as number;
      if (!(Number.isInteger(first) && first >= 0 && first < this.file.samples)) {
        throw new RangeError(`sample ${first} is outside the dataset of ${this.file.samples}`);
      }
      let count = 1;
      while (at + count < indices.length && indices[at + count] === first + count && first + count < this.file.samples) count++;
      this.readRun(bytes.subarray(at * this.sampleBytes, (at + count) * this.sampleBytes), first * this.sampleBytes);
      at += count;
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  private readRun(target: Uint8Array, position: number): void {
    for (let at = 0; at < target.length; ) {
      const count = readSync(this.fd, target, at, target.length - at, position + at);
      if (count === 0) throw new OctetError('INTERNAL', `The scratch file "${this.file.path}" has been cut off.`);
      at += count;
    }
  }
}
