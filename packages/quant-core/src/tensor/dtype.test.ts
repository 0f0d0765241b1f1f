import { describe, expect, it } from 'vitest';
import { allocate, type DType, dtypes, pack4, unpack4, viewBytes } from './dtype.js';

describe('element types', () => {
  it.each(Object.entries(dtypes))('%s has the width it says', (dtype, { bytes }) => {
    expect(allocate(dtype as DType, 3).byteLength).toBe(3 * Math.ceil(bytes));
  });

  it('views bytes in place, and copies those that are not aligned', () => {
    const buffer = new Uint8Array(12);
    new DataView(buffer.buffer).setFloat32(4, 1.5, true);
    const view = viewBytes('float32', buffer.subarray(4, 8));
    expect([...view]).toEqual([1.5]);
    expect(view.buffer).toBe(buffer.buffer);
    const shifted = new Uint8Array(5);
    shifted.set(buffer.subarray(4, 8), 1);
    const copy = viewBytes('float32', shifted.subarray(1));
    expect([...copy]).toEqual([1.5]);
    shifted.fill(0);
    expect([...copy]).toEqual([1.5]);
  });

  it('copies a slice of a Node buffer, which shares its memory', () => {
    const pool = Buffer.from([0, 1, 0, 0, 0, 0]);
    const ints = viewBytes('int32', pool.subarray(1, 5));
    pool[1] = 9;
    expect([...ints]).toEqual([1]);
  });

  it('packs two elements of 4 bits into a byte, the first in the lower half', () => {
    const bytes = pack4(Int8Array.of(1, -2, 7, -8, -1));
    expect([...bytes]).toEqual([0xe1, 0x87, 0x0f]);
    expect([...unpack4('int4', bytes, 5)]).toEqual([1, -2, 7, -8, -1]);
    expect([...unpack4('uint4', bytes, 5)]).toEqual([1, 14, 7, 8, 15]);
  });

  it('leaves out a last element that is not whole', () => {
    expect([...viewBytes('uint16', Uint8Array.of(1, 0, 7))]).toEqual([1]);
  });
});
