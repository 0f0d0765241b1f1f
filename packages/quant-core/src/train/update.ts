import { GraphBuilder } from '../ir/builder.js';
import { Graph, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { Tensor } from '../tensor/tensor.js';
import { type OptimizerSpec, optimizerFeeds, optimizerState, update } from './optimizer.js';
import { type ParameterLayout, viewOf } from './parameters.js';

/** Names of the feeds and results of the update graph. */
export const updateNames = {
  parameters: 'octet_parameters',
  newParameters: 'octet_new_parameters',
  gradient: (shard: number) => `octet_gradient_${shard}`,
  newState: (name: string) => `${name}_new`,
} as const;

/**
 * The optimizer update as a graph: the gradients of `shards` equal parts of a batch are averaged in their order, then applied to
 * the flat parameter vector. Tensors named in `unreached` have no gradient, and no weight decay either.
 */
export function buildUpdate(spec: OptimizerSpec, layout: ParameterLayout, shards: number, unreached: readonly string[] = []): Graph {
  const { size } = layout;
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
  const next = update(b, spec, parameters, gradient, state, feeds, decayOf(b, spec, layout, unreached));
  const publish = (value: Value, name: string) => {
    graph.outputs.push(graph.node('Identity', [value], {}, { outputNames: [name] }).output());
  };
  publish(next.parameters, updateNames.newParameters);
  for (const [index, value] of next.state.entries()) publish(value, updateNames.newState(names[index] as string));
  inferShapes(graph);
  return graph;
}

/** Weight decay: one number for all parameters, or one for each where some are left alone. */
function decayOf(b: GraphBuilder, spec: OptimizerSpec, layout: ParameterLayout, unreached: readonly string[]): Value {
  if (!unreached.length) return b.scalar(spec.weightDecay);
  const decay = new Float32Array(layout.size).fill(spec.weightDecay);
  for (const slot of layout.slots) if (unreached.includes(slot.name)) viewOf(decay, slot).fill(0);
  return b.constant(Tensor.float32([layout.size], decay), 'weight_decay');
}
