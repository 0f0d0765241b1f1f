import type { Graph, Node, Value } from '../../ir/graph.js';
import type { Tensor } from '../../tensor/tensor.js';

/** A tensor that is part of a vector: elements `offset … offset + size`. */
export interface Piece {
  /** Name of the input or output that the runtime has in its place. */
  name: string;
  shape: number[];
  offset: number;
  size: number;
}

/** Inputs and outputs of a graph that are vectors outside, and tensors of their own in the runtime. */
export interface Vectors {
  feeds: Record<string, Piece[]>;
  results: Record<string, { size: number; pieces: Piece[] }>;
}

export const noVectors: Vectors = { feeds: {}, results: {} };

/** Elements a vector must have: below, a copy costs less than handing over its pieces one by one. */
const leastElements = 2 ** 14;

const staticShape = (value: Value): number[] | undefined => {
  const shape = value.shape;
  return shape?.every((dim): dim is number => typeof dim === 'number') ? [...shape] : undefined;
};

const isZero = (tensor: Tensor) => tensor.as('float32').data.every((x) => x === 0);

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/**
 * Hand the pieces of long vectors over one by one: an input that is only split becomes an input for each part, and an output that joins
 * tensors becomes an output for each of them. The runtime would copy all of it at every run, to take a vector apart whose parts lie in memory as they
 * are. In place; whoever runs the graph binds the pieces to parts of one array.
 */
export function bindVectors(graph: Graph): Vectors {
  const vectors: Vectors = { feeds: {}, results: {} };
  for (const input of [...graph.inputs]) {
    const split = input.readers.length === 1 ? input.readers[0] : undefined;
    if (split?.is('Split') && isLong(input)) bindFeed(graph, input, split, vectors);
  }
  for (const output of [...graph.outputs]) {
    const join = joinAfter(output);
    if (join && isLong(output)) bindResult(graph, output, join, vectors);
  }
  return vectors;
}

const isLong = (value: Value) => value.dtype === 'float32' && value.shape?.length === 1 && (value.shape[0] as number) >= leastElements;

/** The Concat that makes a graph output and nothing else. */
export function joinAfter(output: Value): Node<'Concat'> | undefined {
  const { producer } = output;
  const join = producer?.is('Identity') ? producer.input(0).producer : producer;
  return join?.is('Concat') ? join : undefined;
}

function bindFeed(graph: Graph, input: Value, split: Node<'Split'>, { feeds }: Vectors): void {
  const sizes = split.outputs.map((part) => staticShape(part)?.[0]);
  if (sizes.includes(undefined)) return;
  let offset = 0;
  feeds[input.name] = split.outputs.map((part, index) => {
    const size = sizes[index] as number;
    const [reader] = part.readers;
    const reshaped = part.readers.length === 1 && reader?.is('Reshape') ? staticShape(reader.output()) : undefined;
    const shape = reshaped ?? [size];
    const piece = graph.input(`${input.name}_${index}`, { dtype: 'float32', shape });
    graph.replaceAll(reshaped ? (reader as Node).output() : part, piece);
    if (reshaped) graph.remove(reader as Node);
    offset += size;
    return { name: piece.name, shape, offset: offset - size, size };
  });
  graph.remove(split);
  graph.inputs.splice(graph.inputs.indexOf(input), 1);
}

function bindResult(graph: Graph, output: Value, join: Node<'Concat'>, { results }: Vectors): void {
  if (join.output().readers.length > (join.output() === output ? 0 : 1)) return;
  const pieces: (Piece & { value: Value })[] = [];
  let offset = 0;
  for (const part of join.inputs) {
    // Zeros, of which the array is full beforehand: the gradient of what the loss does not reach.
    if (part?.constant && isZero(part.constant)) {
      offset += part.constant.size;
      continue;
    }
    const value = part?.producer?.is('Reshape') && part.readers.length === 1 ? part.producer.input(0) : part;
    const shape = value && staticShape(value);
    // What the graph is given has no place of its own among its results, and no value has two.
    if (!value?.producer || !shape || graph.outputs.includes(value) || pieces.some((piece) => piece.value === value)) return;
    const size = sizeOf(shape);
    pieces.push({ name: value.name, shape, offset, size, value });
    offset += size;
  }
  const parts = new Set(join.inputs);
  graph.outputs.splice(graph.outputs.indexOf(output), 1, ...pieces.map(({ value }) => value));
  if (output !== join.output()) graph.remove(output.producer as Node);
  graph.remove(join);
  for (const part of parts) if (part?.producer?.is('Reshape') && !part.readers.length) graph.remove(part.producer);
  results[output.name] = { size: offset, pieces: pieces.map(({ value: _value, ...piece }) => piece) };
}
