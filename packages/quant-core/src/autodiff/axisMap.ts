import type { GraphBuilder } from '../ir/builder.js';
import type { Value } from '../ir/graph.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';

/** Which elements of the input, with what weight, an element of the output is made of. */
export type Taps = readonly (readonly [from: number, weight: number])[];

/**
 * The adjoint of a linear map along one axis: `dy` has shape `shape`, whose `axis` becomes `size`; `taps` tells for every position of the output what it
 * is made of. Whole blocks of copies (an upsampling by a whole factor) are summed; anything else is a matrix product.
 */
export function adjointAlong(
  b: GraphBuilder,
  dy: Value,
  shape: readonly number[],
  axis: number,
  size: number,
  taps: readonly Taps[],
): Value {
  const before = sizeOf(shape.slice(0, axis));
  const after = sizeOf(shape.slice(axis + 1));
  const out = taps.length;
  const result = [...shape.slice(0, axis), size, ...shape.slice(axis + 1)];
  if (out === size && taps.every((list, at) => list.length === 1 && list[0]?.[0] === at && list[0][1] === 1)) return dy;
  const factor = out / size;
  if (
    Number.isInteger(factor) &&
    taps.every((list, at) => list.length === 1 && list[0]?.[0] === Math.floor(at / factor) && list[0][1] === 1)
  )
    return b.reshape(b.sum(b.reshape(dy, [before, size, factor, after]), [2]), result);
  const matrix = new Float32Array(size * out);
  for (const [at, list] of taps.entries()) {
    for (const [from, weight] of list) {
      const cell = after === 1 ? at * size + from : from * out + at;
      matrix[cell] = (matrix[cell] as number) + weight;
    }
  }
  if (after === 1) {
    const map = b.constant(Tensor.float32([out, size], matrix), 'axis_map');
    return b.reshape(b.op('MatMul', [b.reshape(dy, [before, out]), map]), result);
  }
  const map = b.constant(Tensor.float32([size, out], matrix), 'axis_map');
  return b.reshape(b.op('MatMul', [map, b.reshape(dy, [before, out, after])]), result);
}
