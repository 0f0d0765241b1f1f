import type * as Tf from '@tensorflow/tfjs-core';
import { OctetError } from '../../errors.js';
import { allocate, type DType } from '../../tensor/dtype.js';
import { Tensor } from '../../tensor/tensor.js';
import type { TfModule } from './backend.js';

/** How TF.js holds the elements of an ONNX type. */
type Held = 'float32' | 'int32' | 'bool';

/**
 * TF.js knows float32, int32 and bool. The narrow integers of quantized tensors are whole numbers in float32, where every
 * backend has all kernels and 24 bits are exact; the wide ones are int32.
 */
const held: Partial<Record<DType, Held>> = {
  float32: 'float32',
  uint8: 'float32',
  int8: 'float32',
  uint16: 'float32',
  int16: 'float32',
  uint4: 'float32',
  int4: 'float32',
  int32: 'int32',
  int64: 'int32',
  uint32: 'int32',
  uint64: 'int32',
  bool: 'bool',
};

/** The TF.js type that holds elements of `dtype`. Throws ENGINE_UNSUPPORTED_TYPE for those it cannot hold. */
export function heldAs(dtype: DType, tensor?: string): Held {
  const type = held[dtype];
  if (!type)
    throw new OctetError(
      'ENGINE_UNSUPPORTED_TYPE',
      `TF.js has no ${dtype}${tensor ? ` (tensor "${tensor}")` : ''}`,
      tensor ? { tensor } : {},
    );
  return type;
}

const is64 = (dtype: DType) => dtype === 'int64' || dtype === 'uint64';

const int32 = { least: -(2 ** 31), most: 2 ** 31 - 1 };

function narrowed(data: ArrayLike<number | bigint>, dtype: DType, name: string | undefined): Int32Array {
  return Int32Array.from(data as ArrayLike<number>, (element) => {
    const v = Number(element);
    if (v < int32.least || v > int32.most)
      throw new OctetError(
        'ENGINE_UNSUPPORTED_TYPE',
        `TF.js holds integers of 32 bits, and ${name ?? 'a tensor'} (${dtype}) has ${element}`,
        {
          ...(name ? { tensor: name } : {}),
        },
      );
    return v;
  });
}

/** A tensor of ours in TF.js. */
export function upload(tf: TfModule, { dtype, shape, data }: Tensor, name?: string): Tf.Tensor {
  const type = heldAs(dtype, name);
  const values =
    type === 'int32'
      ? dtype === 'int32'
        ? (data as Int32Array)
        : narrowed(data as Int32Array, dtype, name)
      : type === 'float32' && dtype !== 'float32'
        ? Float32Array.from(data as Int8Array)
        : (data as Float32Array);
  return tf.tensor(values, [...shape], type);
}

/** A tensor of TF.js as one of ours, in memory of its own. */
export function download(tensor: Tf.Tensor, dtype: DType): Tensor {
  const values = tensor.dataSync();
  if (is64(dtype)) {
    const out = allocate(dtype as 'int64', values.length);
    for (let i = 0; i < values.length; i++) out[i] = BigInt(values[i] as number);
    return new Tensor(dtype as 'int64', tensor.shape, out);
  }
  const out = allocate(dtype, values.length) as Float32Array;
  out.set(values as Float32Array);
  return new Tensor(dtype, tensor.shape, out);
}

/** A value while a graph runs: its ONNX type, and the tensor that holds it. */
export class Operand {
  private list: number[] | undefined;

  constructor(
    readonly dtype: DType,
    /** The tensor, or what makes it when a kernel first computes with it. */
    private held: Tf.Tensor | (() => Tf.Tensor),
    /** The same as our own tensor, for constants. */
    private readonly constant?: Tensor,
  ) {}

  get tensor(): Tf.Tensor {
    if (typeof this.held === 'function') this.held = this.held();
    return this.held;
  }

  get shape(): number[] {
    return this.constant ? [...this.constant.shape] : this.tensor.shape;
  }

  /** Elements as numbers: what axes, sizes and bounds are read with. */
  get numbers(): number[] {
    this.list ??= Array.from((this.constant?.data ?? this.tensor.dataSync()) as ArrayLike<number>, Number);
    return this.list;
  }

  get isFloat(): boolean {
    return this.dtype === 'float32';
  }

  /** Whether it is held as int32, for which backends lack kernels. */
  get isWide(): boolean {
    return heldAs(this.dtype) === 'int32';
  }

  /** Whether `tensor` is what holds it. */
  holds(tensor: Tf.Tensor): boolean {
    return this.held === tensor;
  }

  dispose(): void {
    if (typeof this.held !== 'function') this.held.dispose();
  }
}
