import { GraphBuilder } from '../ir/builder.js';
import { Graph, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { type OptimizerSpec, optimizerFeeds, optimizerState, update } from './optimizer.js';

/** Names of the feeds and results of the update graph. */
export const updateNames = {
  parameters: 'octet_parameters',
  newParameters: 'octet_new_parameters',
  gradient: (shard: number) => `octet_gradient_${shard}`,
  newState: (name: string) => `${name}_new`,
} as const;

/**
 * The optimizer update as a graph: the gradients of `shards` equal parts of a batch are averaged in their order, then applied to
 * the flat parameter vector of `size` elements.
 */
export function buildUpdate(spec: OptimizerSpec, size: number, shards: number): Graph {
  const graph = new Graph('update');
  const b = new GraphBuilder(graph);
  const vector = (name: string) => graph.input(name, { dtype: 'float32', shape: [size] });
  const parameters = vector(updateNames.parameters);
  const parts = Array.from({ length: shards }, (_, shard) => vector(updateNames.gradient(shard)));
  const names = optimizerState(spec.kind);
  const state = names.map(vector);
  const scalars = spec.kind === 'adam' ? Object.values(optimizerFeeds) : [optimizerFeeds.learningRate];
  const feeds = Object.fromEntries(scalars.map((name) => [name, graph.input(name, { dtype: 'float32', shape: [] })]));
  const sum = parts.reduce((total, part) => b.op('Add', [total, part]));
  const gradient = shards === 1 ? sum : b.op('Mul', [sum, b.scalar(1 / shards)]);
  const next = update(b, spec, parameters, gradient, state, feeds);
  const publish = (value: Value, name: string) => {
    graph.outputs.push(graph.node('Identity', [value], {}, { outputNames: [name] }).output());
  };
  publish(next.parameters, updateNames.newParameters);
  for (const [index, value] of next.state.entries()) publish(value, updateNames.newState(names[index] as string));
  inferShapes(graph);
  return graph;
}
