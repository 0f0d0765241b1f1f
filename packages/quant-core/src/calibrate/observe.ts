import { GraphBuilder } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';

/** Names of what an observing graph gives. */
export const observed = {
  minimum: 'octet_minimum',
  maximum: 'octet_maximum',
  /** Sum of the elements; not finite where an element is not. */
  sum: 'octet_sum',
  values: (index: number) => `octet_values_${index}`,
} as const;

/** Whether a value cannot be below 0, so that its minimum need not be looked for. */
function nonNegative(value: Value): boolean {
  const node = value.producer;
  if (node?.op === 'Relu') return true;
  const low = node?.op === 'Clip' ? node.inputs[1]?.constant : undefined;
  return low !== undefined && Number(low.data[0]) >= 0;
}

/** A value as a vector, and one figure of all its elements as a vector of one: no more nodes than that, for networks of thousands of layers. */
const flat = (b: GraphBuilder, value: Value) => b.reshape(value, [-1]);
const figure = (b: GraphBuilder, op: 'ReduceMin' | 'ReduceMax' | 'ReduceSum', vector: Value) => b.op(op, [vector], { keepdims: 1 });

/** Smallest and largest element of each value, as two vectors; 0 instead of the smallest where none can be below. `vectors` are the values, flat. */
export function rangesOf(
  b: GraphBuilder,
  values: readonly Value[],
  vectors = values.map((value) => flat(b, value)),
): { minimum: Value; maximum: Value } {
  const join = (parts: Value[]) => b.op('Concat', parts, { axis: 0 });
  const zero = b.constant(Tensor.float32([1], [0]));
  return {
    minimum: join(vectors.map((vector, index) => (nonNegative(values[index] as Value) ? zero : figure(b, 'ReduceMin', vector)))),
    maximum: join(vectors.map((vector) => figure(b, 'ReduceMax', vector))),
  };
}

/** Every `step`th element of a value, in memory order; 1 takes all. */
export interface Watched {
  value: string;
  step: number;
}

/**
 * A copy of `graph` that gives the ranges of the values named instead of its outputs and, with `values`, some of their elements.
 * So a range costs a look at memory that was just written, and no copy of it leaves the runtime.
 */
export function observingGraph(graph: Graph, watched: readonly Watched[], { values }: { values: boolean }): Graph {
  const copy = graph.clone();
  const b = new GraphBuilder(copy);
  const named = new Map(copy.values().map((value) => [value.name, value]));
  const taps = watched.map(({ value }) => named.get(value) as Value);
  copy.outputs.length = 0;
  const publish = (value: Value, name: string) => {
    copy.outputs.push(copy.node('Identity', [value], {}, { outputNames: [name] }).output());
  };
  const vectors = taps.map((value) => flat(b, value));
  const { minimum, maximum } = rangesOf(b, taps, vectors);
  publish(minimum, observed.minimum);
  publish(maximum, observed.maximum);
  const sums = vectors.map((vector) => figure(b, 'ReduceSum', vector));
  publish(b.op('Concat', sums, { axis: 0 }), observed.sum);
  if (values) {
    const end = Number.MAX_SAFE_INTEGER;
    for (const [index, { step }] of watched.entries())
      publish(b.slice(vectors[index] as Value, [0], [0], [end], [step]), observed.values(index));
  }
  return copy;
}

/** Elements of each activation that are enough to know its distribution by. */
const enough = 2 ** 20;

/**
 * Which elements of an activation are looked at, over `samples` samples of `size` elements: all of them, or every `step`th. A prime
 * that is not a divisor of a dimension, so that no row, column or channel is looked at more than another.
 */
export function stepOver(shape: readonly number[], samples: number): number {
  const size = shape.reduce((a, dim) => a * dim, 1);
  let step = Math.floor((size * samples) / enough);
  if (step < 2) return 1;
  while (!isPrime(step) || size % step === 0) step++;
  return step;
}

function isPrime(n: number): boolean {
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return false;
  return n > 1;
}
