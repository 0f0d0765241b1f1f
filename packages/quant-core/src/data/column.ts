import { allocate } from '../tensor/dtype.js';
import { Tensor } from '../tensor/tensor.js';
import type { StoreArray } from './elements.js';
import { type FlatFile, FlatReader } from './flat.js';
import type { Reading } from './reading.js';
import { type Convert, converter } from './scaling.js';

/** The samples of one input of a model: a flat file, and how its values become the tensor that the model takes. */
export class Column {
  private readonly reader: FlatReader;
  private readonly convert: Convert;
  private scratch: StoreArray | undefined;

  constructor(
    private readonly file: FlatFile,
    readonly reading: Reading,
  ) {
    this.reader = new FlatReader(file);
    this.convert = converter(reading, file.elements);
  }

  /** The samples at `indices` as [n, …sample]. Throws RangeError for an index outside. */
  tensor(indices: ArrayLike<number>): Tensor {
    const count = indices.length;
    const size = count * this.file.elements;
    if (!this.scratch || this.scratch.length < size) this.scratch = this.reader.allocate(count);
    const raw = this.scratch.subarray(0, size) as StoreArray;
    this.reader.read(indices, raw);
    const { dtype, shape } = this.reading;
    const whole = [count, ...shape];
    if (dtype === 'int64') {
      const values = new Float64Array(size);
      this.convert(raw, values, count);
      return new Tensor('int64', whole, wide(values));
    }
    const data = allocate(dtype, size);
    this.convert(raw, data, count);
    return new Tensor(dtype, whole, data);
  }

  /** One sample as it is stored. */
  raw(index: number): StoreArray {
    const data = this.reader.allocate(1);
    this.reader.read([index], data);
    return data;
  }

  close(): void {
    this.reader.close();
  }
}

/** Whole numbers as 64-bit integers, by their halves where 32 bits hold them: a BigInt for each would take ten times as long. */
function wide(values: Float64Array): BigInt64Array {
  const out = new BigInt64Array(values.length);
  const halves = new Int32Array(out.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    const low = value | 0;
    if (low === value) {
      halves[2 * i] = low;
      halves[2 * i + 1] = low >> 31;
    } else out[i] = BigInt(value);
  }
  return out;
}
