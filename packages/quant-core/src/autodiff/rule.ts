import { OctetError } from '../errors.js';
import { type GraphBuilder, staticShape } from '../ir/builder.js';
import { type Node, Value } from '../ir/graph.js';
import type { OpType } from '../ir/ops.js';
import type { DType } from '../tensor/dtype.js';
import { Tensor, toNumbers } from '../tensor/tensor.js';

/**
 * Gradient of one op as graph: `dy[port]` is the gradient of each output (absent where nothing depends on it),
 * `wanted[port]` says which inputs need one. Returns one entry for each input.
 */
export type GradientRule<K extends OpType> = (
  node: Node<K>,
  dy: readonly (Value | undefined)[],
  wanted: readonly boolean[],
  b: GraphBuilder,
) => (Value | undefined)[];

/** A form of an op that has no gradient. */
export function untrainable(node: Node<OpType>, why: string): OctetError {
  return new OctetError('MODEL_NOT_TRAINABLE', `${node.opName} ${node.name}: ${why}`, { node: node.name, op: node.opName });
}

/** A rule where only the gradient of the first output is of interest. */
export const rule =
  <K extends OpType>(
    body: (node: Node<K>, dy: Value, wanted: readonly boolean[], b: GraphBuilder) => (Value | undefined)[],
  ): GradientRule<K> =>
  (node, dy, wanted, b) => {
    if (!dy[0] || dy.slice(1).some(Boolean)) throw untrainable(node, 'only its first output has a gradient');
    return body(node, dy[0], wanted, b);
  };

/** A rule for `y = f(x)`: given dy, x, y. */
export const elementwise = <K extends OpType>(
  body: (b: GraphBuilder, dy: Value, x: Value, y: Value, node: Node<K>) => Value,
): GradientRule<K> => rule((node, dy, _wanted, b) => [body(b, dy, node.input(0), node.output(), node)]);

/** A rule for a broadcasting op of two inputs: the gradients in the shape of the output. */
export const broadcast = <K extends OpType>(
  body: (node: Node<K>, dy: Value, b: GraphBuilder) => [() => Value, () => Value],
): GradientRule<K> =>
  rule((node, dy, wanted, b) =>
    body(node, dy, b).map((part, port) =>
      wanted[port] ? b.unbroadcast(part(), staticShape(node.output()), staticShape(node.input(port))) : undefined,
    ),
  );

/** The gradient goes back to where the elements came from. */
export const restored = <K extends OpType>(): GradientRule<K> =>
  rule((node, dy, _wanted, b) => [b.reshape(dy, staticShape(node.input(0)))]);

/** The integers of a constant. */
export const constantInts = (value: Value | undefined): number[] | undefined =>
  value?.constant ? Array.from(toNumbers(value.constant)) : undefined;

/** `axis` counted from the front. */
export const normalised = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);

/** The shape with 1 on `axes`. */
export const kept = (shape: readonly number[], axes: readonly number[]) => shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));

/** dy (or y) of a reduction, expanded to the shape of the input. */
export function expanded(b: GraphBuilder, value: Value, shape: readonly number[], axes: readonly number[]): Value {
  return b.op('Expand', [b.reshape(value, kept(shape, axes)), b.ints(shape)]);
}

/** Mean over `axes`, which stay as 1. */
export const meanOver = (b: GraphBuilder, value: Value, axes: readonly number[]): Value =>
  b.op('ReduceMean', [value, b.ints(axes)], { keepdims: 1 });

export const zeros = (b: GraphBuilder, shape: readonly number[]): Value =>
  b.op('ConstantOfShape', [b.ints(shape)], { value: Tensor.float32([1], [0]) });

/** An output that the model leaves out and the gradient reads. */
export function optionalOutput(b: GraphBuilder, node: Node<OpType>, port: number, dtype: DType, shape: readonly number[]): Value {
  for (let at = node.outputs.length; at <= port; at++) {
    const value = new Value(b.graph.freshName(`${node.name}_${at}`), { dtype, shape });
    value.producer = node;
    value.port = at;
    node.outputs.push(value);
  }
  return node.output(port);
}
