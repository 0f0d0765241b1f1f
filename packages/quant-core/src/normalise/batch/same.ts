import type { Node, Value } from '../../ir/graph.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { type BatchContext, type Place, rankOf } from './place.js';

/**
 * Input `port`, which has no samples, must not differ from sample to sample where it meets those of `like`, whose place in a result of `rank`
 * axes is `place`. A constant that repeats itself there is cut down to one row; what differs inside a sample (by head, say) is written once for
 * every sample. A sentence when it was made for the batch of the file.
 */
export function sameForAll(node: Node, port: number, place: Place, rank: number, like: Value, context: BatchContext): string | undefined {
  const value = node.inputs[port];
  if (!value) return undefined;
  const axis = place.axis - (rank - rankOf(value));
  if (value.shape && (axis < 0 || value.shape[axis] === 1)) return undefined;
  const row = repeatedRow(value.constant, axis);
  const own = row ?? sampleOf(value, axis, place, context.batch);
  if (!own) return madeFor(value, context);
  context.edit(() => {
    const constant = context.constant(value.name, own);
    node.setInput(port, row ? constant : context.repeat(constant, axis, like, node));
  });
  return undefined;
}

export const madeFor = (value: Value | undefined, context: BatchContext): string =>
  `has an input "${value?.name}" made for a batch of ${context.batch}`;

/** One row of a tensor whose rows along `axis` are all equal. */
export function repeatedRow(tensor: Tensor | undefined, axis: number): Tensor | undefined {
  const count = tensor?.shape[axis];
  if (!tensor || !count) return undefined;
  const { data, shape } = tensor;
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = tensor.size / count / inner;
  const row = data.slice(0, outer * inner);
  for (let i = 0; i < outer; i++) {
    const from = i * count * inner;
    row.set(data.subarray(from, from + inner) as never, i * inner);
    for (let at = from + inner; at < from + count * inner; at++) if (data[at] !== data[at - inner]) return undefined;
  }
  return new Tensor(tensor.dtype, [...shape.slice(0, axis), 1, ...shape.slice(axis + 1)], row);
}

/** What one sample has of a constant whose `axis` is counted as [outer, batch, inner], when all have the same. */
export function sampleOf(value: Value | undefined, axis: number, { outer, inner }: Place, batch: number): Tensor | undefined {
  const tensor = value?.constant;
  if (!tensor || typeof outer !== 'number' || typeof inner !== 'number' || tensor.shape[axis] !== outer * batch * inner) return undefined;
  const [before, after] = [tensor.shape.slice(0, axis), tensor.shape.slice(axis + 1)];
  const row = repeatedRow(new Tensor(tensor.dtype, [...before, outer, batch, inner, ...after], tensor.data), axis + 1);
  return row && new Tensor(tensor.dtype, [...before, outer * inner, ...after], row.data);
}
