/** Element types of ONNX that Octet names. Of int4 and uint4 an element takes a byte in memory; files pack two of them into one. */
export const dtypes = {
  float32: { bytes: 4, onnx: 1 },
  uint8: { bytes: 1, onnx: 2 },
  int8: { bytes: 1, onnx: 3 },
  uint16: { bytes: 2, onnx: 4 },
  int16: { bytes: 2, onnx: 5 },
  int32: { bytes: 4, onnx: 6 },
  int64: { bytes: 8, onnx: 7 },
  bool: { bytes: 1, onnx: 9 },
  float16: { bytes: 2, onnx: 10 },
  float64: { bytes: 8, onnx: 11 },
  uint32: { bytes: 4, onnx: 12 },
  uint64: { bytes: 8, onnx: 13 },
  uint4: { bytes: 0.5, onnx: 21 },
  int4: { bytes: 0.5, onnx: 22 },
} as const;

export type DType = keyof typeof dtypes;

/** The JavaScript array that holds each element type. `bool` is a byte, `float16` its bit pattern. */
export interface DataOf {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
  int4: Int8Array;
  uint4: Uint8Array;
}

const constructors = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  int4: Int8Array,
  uint4: Uint8Array,
};

/** A zero-filled array of `length` elements of type `dtype`. */
export function allocate<D extends DType>(dtype: D, length: number): DataOf[D] {
  return new constructors[dtype](length) as unknown as DataOf[D];
}

/** Whether files hold two elements of a type in a byte. */
export const isPacked = (dtype: DType): dtype is 'int4' | 'uint4' => dtype === 'int4' || dtype === 'uint4';

/** Elements of 4 bits, two to a byte: the first in the lower half. */
export function pack4(data: Int8Array | Uint8Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(data.length / 2));
  data.forEach((value, i) => {
    bytes[i >> 1] = (bytes[i >> 1] as number) | ((value & 0xf) << (4 * (i & 1)));
  });
  return bytes;
}

/** `length` elements out of bytes that hold two each. */
export function unpack4<D extends 'int4' | 'uint4'>(dtype: D, bytes: Uint8Array, length: number): DataOf[D] {
  const data = allocate(dtype, length);
  for (let i = 0; i < length; i++) {
    const half = ((bytes[i >> 1] as number) >> (4 * (i & 1))) & 0xf;
    data[i] = dtype === 'int4' && half > 7 ? half - 16 : half;
  }
  return data;
}

/** A view of `bytes` (little-endian) as elements of `dtype`; copies only when the offset is not aligned. */
export function viewBytes<D extends DType>(dtype: D, bytes: Uint8Array): DataOf[D] {
  const size = dtypes[dtype].bytes;
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  const make = constructors[dtype] as unknown as new (b: ArrayBufferLike, o: number, n: number) => DataOf[D];
  return new make(aligned.buffer, aligned.byteOffset, Math.floor(aligned.byteLength / size));
}
