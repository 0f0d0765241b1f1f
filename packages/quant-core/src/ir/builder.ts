import { OctetError } from '../errors.js';
import { Tensor } from '../tensor/tensor.js';
import type { Graph, Node, Value } from './graph.js';
import type { Attrs, OpType } from './ops.js';

/** Static shape of a value; throws when it has a symbolic dimension (training steps are compiled for one batch size). */
export function staticShape(value: Value): number[] {
  const shape = value.shape;
  if (!shape || shape.some((dim) => typeof dim !== 'number')) {
    throw new OctetError('MODEL_NOT_TRAINABLE', `The size of ${value.name} cannot be told before the model runs`, {
      tensor: value.name,
      ...(value.producer ? { node: value.producer.name, op: value.producer.opName } : {}),
    });
  }
  return shape as number[];
}

/** Writes nodes into a graph, one call an op; equal constants are made once. */
export class GraphBuilder {
  private readonly cache = new Map<string, Value>();

  constructor(readonly graph: Graph) {}

  /** The single output of a new node. */
  op<K extends OpType>(op: K, inputs: readonly (Value | undefined)[], attrs: Attrs<K> = {} as Attrs<K>, name?: string): Value {
    return this.node(op, inputs, attrs, 1, name).output();
  }

  /** A new node with `outputs` outputs. */
  node<K extends OpType>(
    op: K,
    inputs: readonly (Value | undefined)[],
    attrs: Attrs<K> = {} as Attrs<K>,
    outputs = 1,
    name?: string,
  ): Node<K> {
    return this.graph.node(op, inputs, attrs, { outputs, ...(name ? { name } : {}) });
  }

  constant(tensor: Tensor, name = 'const'): Value {
    if (tensor.size > 64) return this.graph.constant(name, tensor);
    const key = `${tensor.dtype}[${tensor.shape}]${Array.from(tensor.data as Float32Array, (v) => (Object.is(v, -0) ? '-0' : String(v))).join()}`;
    const known = this.cache.get(key);
    if (known) return known;
    const value = this.graph.constant(name, tensor);
    this.cache.set(key, value);
    return value;
  }

  /** A float32 scalar. */
  scalar(value: number): Value {
    return this.constant(Tensor.scalar(value), 'scalar');
  }

  /** A one-dimensional int64 constant. */
  ints(values: readonly number[]): Value {
    return this.constant(Tensor.ints(values), 'ints');
  }

  reshape(value: Value, shape: readonly number[]): Value {
    return this.op('Reshape', [value, this.ints(shape)]);
  }

  /** Sum over `axes`. */
  sum(value: Value, axes: readonly number[], keepdims = false): Value {
    return this.op('ReduceSum', [value, this.ints(axes)], { keepdims: keepdims ? 1 : 0 });
  }

  /** `value[..., start:end:step, ...]` on the axes given. */
  slice(value: Value, axes: readonly number[], starts: readonly number[], ends: readonly number[], steps?: readonly number[]): Value {
    return this.op('Slice', [value, this.ints(starts), this.ints(ends), this.ints(axes), ...(steps ? [this.ints(steps)] : [])]);
  }

  /** Zero padding; `pads` as ONNX has them (all begins, then all ends). */
  pad(value: Value, pads: readonly number[]): Value {
    return pads.every((p) => p === 0) ? value : this.op('Pad', [value, this.ints(pads)]);
  }

  /** bool → 0/1 in float32. */
  toFloat(value: Value): Value {
    return this.op('Cast', [value], { to: 'float32' });
  }

  /** `grad` where `mask` (bool) holds, else 0. */
  masked(grad: Value, mask: Value): Value {
    return this.op('Mul', [grad, this.toFloat(mask)]);
  }

  /** Sum a gradient of shape `from` down to shape `to`, undoing ONNX broadcasting. */
  unbroadcast(grad: Value, from: readonly number[], to: readonly number[]): Value {
    const lead = from.length - to.length;
    const axes = from.map((_, axis) => axis).filter((axis) => axis < lead || (to[axis - lead] === 1 && from[axis] !== 1));
    if (!axes.length) return grad;
    return this.reshape(this.sum(grad, axes), to);
  }
}
