import { withTaps } from '../calibrate/calibrate.js';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine } from '../engine/engine.js';
import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';
import type { BiasPoint, QuantPlan } from './plan.js';
import { type ScaleTable, simulate } from './simulate.js';

/**
 * Passes over the samples, one for each layer from the first to the last. Of deeper networks several layers share a pass, which overshoots: with
 * three a pass a MobileNet of 17 layers lost 7 points that one a pass had won.
 */
const mostPasses = 256;

/** Mean over samples and positions of every channel (axis 1) of a result. */
class ChannelMeans {
  private readonly sums: Float64Array;
  private elements = 0;

  constructor(private readonly channels: number) {
    this.sums = new Float64Array(channels);
  }

  add(tensor: Tensor): void {
    const data = tensor.as('float32').data;
    const run = data.length / ((tensor.shape[0] as number) * this.channels);
    for (let start = 0, at = 0; start < data.length; start += run, at++) {
      let sum = 0;
      for (let i = start; i < start + run; i++) sum += data[i] as number;
      this.sums[at % this.channels] = (this.sums[at % this.channels] as number) + sum;
    }
    this.elements += data.length / this.channels;
  }

  of(channel: number): number {
    return (this.sums[channel] as number) / this.elements;
  }
}

/**
 * Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2, with data): rounding weights and activations shifts the mean of a layer's
 * result; its bias takes that back, channel by channel, so that `E[quantized] = E[float]` on the samples. Later layers are measured
 * after the corrected earlier ones. Returns a copy of `graph`; layers without a bias stay as they are.
 * `samples` gives the same batches every time it is called, with `x` of shape [n, …sample]. `reference` is the float network, where the weights of
 * `graph` are not those of it afterwards.
 */
export async function correctBiases(
  graph: Graph,
  plan: QuantPlan,
  table: ScaleTable,
  samples: () => AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  engine: Engine,
  reference = graph,
): Promise<Graph> {
  const corrected = graph.clone();
  const order = new Map(graph.nodes.map((node, at) => [node.name, at]));
  const biases = [...plan.biases].sort((a, b) => (order.get(a.node) as number) - (order.get(b.node) as number));
  const each = Math.ceil(biases.length / mostPasses);
  const wanted = await means(reference, biases, samples, engine);
  for (let from = 0; from < biases.length; from += each) {
    const group = biases.slice(from, from + each);
    const found = await means(simulate(corrected, plan, table), group, samples, engine);
    const nodes = new Map(corrected.nodes.map((node) => [node.name, node]));
    for (const bias of group) {
      const node = nodes.get(bias.node) as Node;
      const before = node.input(bias.port).constant?.as('float32') as Tensor<'float32'>;
      const shift = (channel: number) => (wanted.get(bias.node)?.of(channel) as number) - (found.get(bias.node)?.of(channel) as number);
      const after = Tensor.float32(
        before.shape,
        before.data.map((value, channel) => value + shift(channel)),
      );
      // A constant of its own: two layers may share one bias.
      node.setInput(bias.port, corrected.constant(bias.value, after));
    }
  }
  return corrected;
}

/** Means of the results of the layers that `biases` belong to. */
async function means(
  graph: Graph,
  biases: readonly BiasPoint[],
  samples: () => AsyncIterable<Pick<Batch, 'x' | 'others'>>,
  engine: Engine,
): Promise<Map<string, ChannelMeans>> {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const layers = biases.map((bias) => {
    const node = nodes.get(bias.node) as Node;
    const size = node.input(bias.port).constant?.size as number;
    return { node: bias.node, value: node.output().name, means: new ChannelMeans(size) };
  });
  const input = graph.inputs[0]?.name as string;
  const tapped = withTaps(
    graph,
    layers.map((layer) => layer.value),
  );
  // On one thread, so that the biases do not depend on the machine.
  const program = await engine.compile(tapped, { threads: 1, mode: 'train' });
  try {
    for await (const batch of samples()) {
      const results = await program.run(feedsOf(input, batch));
      for (const layer of layers) layer.means.add(results[layer.value] as Tensor);
    }
  } finally {
    await program.dispose();
  }
  return new Map(layers.map((layer) => [layer.node, layer.means]));
}
