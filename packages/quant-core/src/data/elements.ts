import { type DType, dtypes, viewBytes } from '../tensor/dtype.js';
import { fromFloat16 } from '../tensor/tensor.js';

/** How elements lie in an uploaded file. */
export interface ElementType {
  dtype: DType;
  bigEndian: boolean;
}

/** Numbers as decoded from a file. */
export type Numbers = Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;

/** Element types of flat files. Integers of up to 53 bits keep their value: token ids are looked up, and must not be rounded. */
export const storeTypes = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;
export type StoreType = keyof typeof storeTypes;
export type StoreArray = Uint8Array | Int8Array | Uint16Array | Int16Array | Int32Array | Float32Array | Float64Array;

/** The type that a source type is stored as: floats as float32, which is what models take. */
export function storeTypeOf(dtype: DType): StoreType {
  if (dtype === 'bool') return 'uint8';
  if (dtype === 'int64' || dtype === 'uint64' || dtype === 'uint32') return 'float64';
  return dtype in storeTypes && dtype !== 'float64' ? (dtype as StoreType) : 'float32';
}

/** Whole elements → numbers. Swaps bytes in place; the result may be a view of `block`. */
export function decodeElements(block: Buffer, type: ElementType): Numbers {
  const { bytes } = dtypes[type.dtype];
  if (type.bigEndian && bytes === 2) block.swap16();
  if (type.bigEndian && bytes === 4) block.swap32();
  if (type.bigEndian && bytes === 8) block.swap64();
  switch (type.dtype) {
    case 'int64':
    case 'uint64':
      return Float64Array.from(viewBytes(type.dtype, block) as BigInt64Array, Number);
    case 'float16':
      return Float32Array.from(viewBytes('float16', block), fromFloat16);
    case 'bool':
      return Uint8Array.from(block, (byte) => (byte ? 1 : 0));
    default:
      return viewBytes(type.dtype, block) as Numbers;
  }
}
