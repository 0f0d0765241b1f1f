/** Element types of ONNX that Octet names. Sub-byte types are kept packed, as ONNX stores them. */
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
};

/** A zero-filled array of `length` elements of type `dtype`. */
export function allocate<D extends DType>(dtype: D, length: number): DataOf[D] {
  return new constructors[dtype](length) as unknown as DataOf[D];
}

/** A view of `bytes` (little-endian) as elements of `dtype`; copies only when the offset is not aligned. */
export function viewBytes<D extends DType>(dtype: D, bytes: Uint8Array): DataOf[D] {
  const size = dtypes[dtype].bytes;
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  const make = constructors[dtype] as unknown as new (b: ArrayBufferLike, o: number, n: number) => DataOf[D];
  return new make(aligned.buffer, aligned.byteOffset, Math.floor(aligned.byteLength / size));
}
