import { type DType, dtypes, viewBytes } from '../tensor/dtype.js';
import { fromFloat16 } from '../tensor/tensor.js';

/** How elements lie in an uploaded file. */
export interface ElementType {
  dtype: DType;
  bigEndian: boolean;
}

/** Numbers as decoded from a file. */
export type Numbers = Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;

/** Element types of flat files; wider ones are brought to float32, which is what models take. */
export const storeTypes = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array } as const;
export type StoreType = keyof typeof storeTypes;
export type StoreArray = Uint8Array | Int8Array | Uint16Array | Int16Array | Float32Array;

/** The type that a source type is stored as. */
export function storeTypeOf(dtype: DType): StoreType {
  if (dtype === 'bool') return 'uint8';
  return dtype in storeTypes ? (dtype as StoreType) : 'float32';
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
