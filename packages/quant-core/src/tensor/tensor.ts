import { allocate, type DataOf, type DType, dtypes } from './dtype.js';

/** Number of elements of a static shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Row-major strides, in elements, of a static shape. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis] as number;
  }
  return strides;
}

/** A dense, row-major array with an element type and a static shape. Treat `data` as read-only once shared. */
export class Tensor<D extends DType = DType> {
  constructor(
    readonly dtype: D,
    readonly shape: readonly number[],
    readonly data: DataOf[D],
  ) {
    if (data.length !== sizeOf(shape)) {
      throw new RangeError(`tensor of shape [${shape}] wants ${sizeOf(shape)} elements, got ${data.length}`);
    }
  }

  get size(): number {
    return this.data.length;
  }

  /** Bytes in a file. */
  get bytes(): number {
    return Math.ceil(this.data.length * dtypes[this.dtype].bytes);
  }

  /** The raw little-endian bytes in memory (a view, not a copy). */
  get raw(): Uint8Array {
    return new Uint8Array(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }

  reshape(shape: readonly number[]): Tensor<D> {
    return new Tensor(this.dtype, shape, this.data);
  }

  /** Narrow the element type, or throw when the tensor holds another one. */
  as<E extends DType>(dtype: E): Tensor<E> {
    if ((this.dtype as DType) !== dtype) throw new TypeError(`expected a ${dtype} tensor, got ${this.dtype}`);
    return this as unknown as Tensor<E>;
  }

  static zeros<D extends DType>(dtype: D, shape: readonly number[]): Tensor<D> {
    return new Tensor(dtype, shape, allocate(dtype, sizeOf(shape)));
  }

  static float32(shape: readonly number[], values: ArrayLike<number>): Tensor<'float32'> {
    return new Tensor('float32', shape, values instanceof Float32Array ? values : Float32Array.from(values));
  }

  static int64(shape: readonly number[], values: readonly number[]): Tensor<'int64'> {
    return new Tensor(
      'int64',
      shape,
      BigInt64Array.from(values, (v) => BigInt(v)),
    );
  }

  /** A float32 scalar (shape `[]`). */
  static scalar(value: number): Tensor<'float32'> {
    return Tensor.float32([], [value]);
  }

  /** A one-dimensional int64 tensor, as ONNX wants for axes, shapes and pads. */
  static ints(values: readonly number[]): Tensor<'int64'> {
    return Tensor.int64([values.length], values);
  }
}

/** Elements as JavaScript numbers; float16 is decoded, 64-bit integers beyond 2^53 lose precision. */
export function toNumbers(tensor: Tensor): number[] | Float32Array | Float64Array | Int32Array | Int8Array | Uint8Array {
  switch (tensor.dtype) {
    case 'int64':
    case 'uint64':
      return Array.from(tensor.data as BigInt64Array, Number);
    case 'float16':
      return Float32Array.from(tensor.data as Uint16Array, fromFloat16);
    default:
      return tensor.data as Float32Array;
  }
}

/** Decode the IEEE 754 binary16 bit pattern `h`. */
export function fromFloat16(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 0x1f;
  const fraction = h & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
