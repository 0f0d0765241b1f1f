import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine } from '../engine/engine.js';
import { GraphBuilder } from '../ir/builder.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import { Tensor } from '../tensor/tensor.js';
import { type LayerPair, layerPairs } from './pairs.js';
import type { QuantPlan } from './plan.js';

/** Rounds over all pairs: scales of long chains settle in about ten. */
const mostRounds = 40;
/** A round that moves no channel by more than this is the last. */
const settled = 1e-3;
/** Bounds of the scale of a channel: a dead channel must not blow up its bias. */
const mostScale = 2 ** 10;

/** Largest value (of a one-sided activation) or magnitude of every channel, over all samples. */
type Peaks = ReadonlyMap<LayerPair, Float64Array>;

export interface Equalized {
  graph: Graph;
  /** Names of the two layers of every pair whose channels were given other scales. */
  pairs: { first: string; second: string }[];
}

/**
 * Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721, section 4.1): for s > 0, `W2·f(W1·x + b1) = (W2·S)·f(S⁻¹·W1·x + S⁻¹·b1)`
 * where f scales along. `s_i = sqrt(r1_i · r2_i) / r2_i`, with r1 and r2 the largest magnitudes of output channel i of the first layer and of input channel
 * i of the second, makes both ranges equal; chains are gone over until they settle. Returns a copy of `graph` that computes the same.
 *
 * No channel is scaled above the largest peak that the value has on `samples`, so no activation's range grows. A Clip from 0 to c does not scale
 * along: channels that reach c on the samples keep their scale, and the others stay below c.
 */
export async function equalize(
  graph: Graph,
  plan: QuantPlan,
  samples: () => AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  engine: Engine,
): Promise<Equalized> {
  const copy = graph.clone();
  const pairs = layerPairs(copy, plan);
  if (!pairs.length) return { graph, pairs: [] };
  const peaks = await observePeaks(copy, pairs, samples, engine);
  const moved = rescale(pairs, peaks);
  return { graph: copy, pairs: moved.map(({ first, second }) => ({ first: first.name, second: second.name })) };
}

/** A channel that peaks this many times above the usual one leaves that one 16 of the 256 steps of 8 bits. */
const outlier = 16;

/**
 * Whether one channel between two layers dwarfs the others: the largest peak is 16 times the median of the channels that say anything on `samples`.
 * One scale then leaves the others next to no steps, and `equalize` gives them back.
 */
export async function hasOutlierChannel(
  graph: Graph,
  plan: QuantPlan,
  samples: () => AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  engine: Engine,
): Promise<boolean> {
  const pairs = layerPairs(graph, plan);
  if (!pairs.length) return false;
  const peaks = await observePeaks(graph, pairs, samples, engine);
  return [...peaks.values()].some((channels) => {
    const live = channels.filter((peak) => peak > 0).sort();
    return live.length > 1 && (live.at(-1) as number) >= outlier * (live[(live.length - 1) >> 1] as number);
  });
}

async function observePeaks(
  graph: Graph,
  pairs: readonly LayerPair[],
  samples: () => AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  engine: Engine,
): Promise<Peaks> {
  const found = new Map(pairs.map((pair) => [pair, new Float64Array(pair.channels)]));
  const input = graph.inputs[0] as Value;
  const program = await engine.compile(peakGraph(graph, pairs), { threads: 1, mode: 'train' });
  try {
    for await (const batch of samples()) {
      const results = await program.run(feedsOf(input.name, batch));
      for (const [index, pair] of pairs.entries()) {
        const { data } = (results[peakName(index)] as Tensor).as('float32');
        const peaks = found.get(pair) as Float64Array;
        for (let channel = 0; channel < data.length; channel++)
          peaks[channel] = Math.max(peaks[channel] as number, data[channel] as number);
      }
    }
  } finally {
    await program.dispose();
  }
  return found;
}

const peakName = (index: number) => `octet_peak_${index}`;

/** A copy of `graph` that gives the peak of every channel between the layers of each pair, so that no activation is copied out. */
function peakGraph(graph: Graph, pairs: readonly LayerPair[]): Graph {
  const copy = graph.clone();
  const b = new GraphBuilder(copy);
  const named = new Map(copy.values().map((value) => [value.name, value]));
  copy.outputs.length = 0;
  for (const [index, { before, axis, oneSided }] of pairs.entries()) {
    const value = named.get(before.name) as Value;
    const others = (before.shape ?? []).flatMap((_, other) => (other === axis ? [] : [other]));
    const peak = b.op('ReduceMax', [oneSided ? value : b.op('Abs', [value]), b.ints(others)], { keepdims: 0 });
    copy.outputs.push(copy.node('Identity', [peak], {}, { outputNames: [peakName(index)] }).output());
  }
  return copy;
}

/** The weights of a layer in double precision while they are scaled, and to which channel each belongs. */
interface Layer {
  node: Node;
  port: number;
  weight: Float64Array;
  shape: readonly number[];
}

/** Output channel of element `i` of a weight. */
function outputChannel({ node, shape, weight }: Layer): (i: number) => number {
  const rows = node.is('Conv') || (node.is('Gemm') && node.attr('transB') === 1);
  const outputs = shape[rows ? 0 : 1] as number;
  const each = weight.length / outputs;
  return rows ? (i) => Math.floor(i / each) : (i) => i % outputs;
}

/** Input channel of element `i` of a weight; `block` neighbouring rows are one channel. */
function inputChannel({ node, shape, weight }: Layer, block: number): (i: number) => number {
  if (node.is('Conv')) {
    const [outputs, inputs] = shape as [number, number];
    const area = weight.length / (outputs * inputs);
    const perGroup = outputs / node.attr('group');
    return (i) => Math.floor(i / (inputs * area * perGroup)) * inputs + (Math.floor(i / area) % inputs);
  }
  const columns = shape[1] as number;
  return node.is('Gemm') && node.attr('transB') === 1 ? (i) => Math.floor((i % columns) / block) : (i) => Math.floor(i / (columns * block));
}

function largest(weight: Float64Array, channelOf: (i: number) => number, channels: number): Float64Array {
  const found = new Float64Array(channels);
  for (let i = 0; i < weight.length; i++) {
    const [channel, v] = [channelOf(i), Math.abs(weight[i] as number)];
    if (v > (found[channel] as number)) found[channel] = v;
  }
  return found;
}

/** Rescale the pairs in place; returns those of which a channel moved. */
function rescale(pairs: readonly LayerPair[], peaks: Peaks): LayerPair[] {
  const layers = new Map<Node, Layer>();
  const layerOf = (node: Node): Layer => {
    const known = layers.get(node);
    if (known) return known;
    const port = spec(node.op).weight as number;
    const tensor = node.input(port).constant as Tensor<'float32'>;
    const layer = { node, port, weight: Float64Array.from(tensor.data), shape: tensor.shape };
    layers.set(node, layer);
    return layer;
  };
  const state = pairs.map((pair) => {
    const [first, second] = [layerOf(pair.first), layerOf(pair.second)];
    const limits = limitsOf(pair, peaks.get(pair) as Float64Array);
    return {
      pair,
      first,
      second,
      ...limits,
      out: outputChannel(first),
      into: inputChannel(second, pair.block),
      total: new Float64Array(pair.channels).fill(1),
    };
  });
  for (let round = 0; round < mostRounds; round++) {
    let moved = 0;
    for (const { pair, first, second, low, fixed, out, into, total } of state) {
      const [r1, r2] = [largest(first.weight, out, pair.channels), largest(second.weight, into, pair.channels)];
      const scale = total.map((sum, i) => {
        const [a, b] = [r1[i] as number, r2[i] as number];
        if (fixed[i] || a === 0 || b === 0) return 1;
        const wanted = sum * Math.sqrt(a / b);
        return Math.min(mostScale, Math.max(low[i] as number, 1 / mostScale, wanted)) / sum;
      });
      for (let i = 0; i < first.weight.length; i++) first.weight[i] = (first.weight[i] as number) / (scale[out(i)] as number);
      for (let i = 0; i < second.weight.length; i++) second.weight[i] = (second.weight[i] as number) * (scale[into(i)] as number);
      scale.forEach((s, i) => {
        total[i] = (total[i] as number) * s;
        moved = Math.max(moved, Math.abs(Math.log(s)));
      });
    }
    if (moved < settled) break;
  }
  const changed = state.filter(({ total }) => total.some((s) => s !== 1));
  const touched = new Set(changed.flatMap(({ first, second }) => [first, second]));
  for (const { node, port, weight, shape } of touched) replace(node, port, Tensor.float32(shape, Float32Array.from(weight)));
  for (const { pair, total } of changed) scaleBias(pair, total);
  return changed.map(({ pair }) => pair);
}

/** Least scale of every channel of a pair, and which channels keep theirs. */
function limitsOf(pair: LayerPair, peaks: Float64Array): { low: Float64Array; fixed: boolean[] } {
  const ceiling = pair.bound ?? peaks.reduce((a, b) => Math.max(a, b), 0);
  return {
    low: peaks.map((peak) => (ceiling > 0 ? peak / ceiling : 1)),
    fixed: Array.from(peaks, (peak) => pair.bound !== undefined && peak >= pair.bound),
  };
}

function scaleBias(pair: LayerPair, scale: Float64Array): void {
  const port = spec(pair.first.op).bias;
  const bias = pair.added ?? (port !== undefined && pair.first.inputs[port] ? { node: pair.first, port } : undefined);
  const tensor = bias?.node.input(bias.port).constant?.as('float32');
  if (!bias || !tensor) return;
  replace(
    bias.node,
    bias.port,
    Tensor.float32(
      [pair.channels],
      scale.map((s, i) => (tensor.data[tensor.size === 1 ? 0 : i] as number) / s),
    ),
  );
}

/** Another constant under the same name: no other node reads the one before. */
function replace(node: Node, port: number, tensor: Tensor<'float32'>): void {
  const value = node.input(port);
  value.constant = tensor;
  value.type = { dtype: 'float32', shape: tensor.shape };
}
