import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { planQuantization } from '../fakequant/plan.js';
import { gridEnds } from '../fakequant/scales.js';
import type { Graph } from '../ir/graph.js';
import { normalise } from '../normalise/index.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { defaultRecipe } from '../recipe.js';
import { lossFeeds } from '../tasks/loss.js';
import { lossSpec } from '../tasks/testing/specs.js';
import type { AffineParams, QuantGrid } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import { Norms, normNames } from './batchNorm.js';
import { feedNames } from './forward.js';
import { packParameters, parameterLayout, viewOf } from './parameters.js';
import { buildTrainingStep, stepOutputs } from './step.js';

interface Numbers {
  shape: number[];
  data: string;
}

/** Three layers with batch norm and fake quant, one training step of PyTorch. Arrays are base64, little-endian float32. */
interface Recorded {
  name: string;
  perChannel: boolean;
  frozen: boolean;
  x: Numbers;
  target: Numbers;
  activations: Record<string, AffineParams>;
  loss: number;
  layers: {
    before: Record<'weight' | 'gamma' | 'beta' | 'mean' | 'variance', Numbers> & { bias?: Numbers };
    scale: Numbers;
    gradients: Record<'weight' | 'gamma' | 'beta', string>;
    mean: string;
    variance: string;
  }[];
}

/** Written by scripts/torch-oracle.py. */
const recorded = JSON.parse(readFileSync(new URL('testing/torch.json', import.meta.url), 'utf8')) as { torch: string; cases: Recorded[] };

const floats = (text: string) => new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);
const tensor = ({ shape, data }: Numbers) => Tensor.float32(shape, floats(data));
const vector = (values: ArrayLike<number>) => Tensor.float32([values.length], Float32Array.from(Array.from(values)));

const norm = (at: number, channels: number) =>
  `g${at}=float32[${channels}]#, e${at}=float32[${channels}]#, m${at}=float32[${channels}]#, v${at}=float32[${channels}]{${new Array(channels).fill(1)}}`;

function network({ layers }: Recorded): Graph {
  const graph = graphOf(`graph g (x: float32[N, 3, 6, 6]) opset 18
    c1 = Conv(x, w1=float32[4, 3, 3, 3]#, b1=float32[4]#) {kernel_shape=[3, 3], pads=[1, 1, 1, 1]} @conv1
    n1 = BatchNormalization(c1, ${norm(1, 4)}) {epsilon=1e-5}
    r = Relu(n1)
    c2 = Conv(r, w2=float32[4, 1, 3, 3]#) {group=4, kernel_shape=[3, 3]} @conv2
    n2 = BatchNormalization(c2, ${norm(2, 4)}) {epsilon=1e-5}
    f = Flatten(n2)
    c3 = Gemm(f, w3=float32[3, 64]#, b3=float32[3]#) {transB=1} @fc
    y = BatchNormalization(c3, ${norm(3, 3)}) {epsilon=1e-5}
    return y`);
  const names = { weight: 'w', bias: 'b', gamma: 'g', beta: 'e', mean: 'm', variance: 'v' };
  const given = new Map(
    layers.flatMap(({ before }, at) => Object.entries(before).map(([part, numbers]) => [`${names[part as 'weight']}${at + 1}`, numbers])),
  );
  for (const value of graph.constants()) {
    const numbers = given.get(value.name);
    if (numbers) value.constant = tensor(numbers);
  }
  return graph;
}

/** Largest difference, relative to the largest element. */
function distance(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  expect(got.length).toBe(wanted.length);
  const scale = Array.from(wanted).reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
  return Array.from(wanted).reduce((most, v, i) => Math.max(most, Math.abs(v - (got[i] as number)) / scale), 0);
}

it.each(recorded.cases)(`$name: a step of PyTorch ${recorded.torch}`, async (one) => {
  const graph = network(one);
  const folded = await normalise(graph, { evaluate: runGraph });
  expect(folded.map(({ node }) => node)).toEqual(['conv1', 'conv2', 'fc']);
  const base = defaultRecipe();
  const weights = { bits: 4, perChannel: one.perChannel, reduceRange: false };
  const plan = planQuantization(graph, { ...base, quantization: { ...base.quantization, weights } });
  const norms = new Norms(graph, parameterLayout(graph), plan, folded);
  const { layout } = norms;
  const statistics = one.frozen ? 'running' : 'batch';
  const batch = one.x.shape[0] as number;
  const step = buildTrainingStep({
    graph,
    batch,
    batchSymbol: 'N',
    layout,
    plan,
    loss: lossSpec(graph.outputs[0]?.name as string, 'mse'),
    observe: false,
    norms: { points: norms.points, statistics },
  });
  const parameters = norms.start(packParameters(graph, parameterLayout(graph)));
  // Names of the values as folding left them: each layer's result has the name of its own output.
  const names: Record<string, string> = { x: 'x', r: 'r', c2: 'n2', f: 'n2' };
  const groups = plan.groups.map((group, index) => {
    const point = plan.activations.find((activation) => activation.group === index);
    const params = one.activations[names[point?.value as string] as string] as AffineParams;
    return { ...params, ...gridEnds(params, group.grid as QuantGrid) };
  });
  const scales = plan.weights.flatMap(({ node }) => {
    const { scale } = one.layers[folded.findIndex((other) => other.node === node)] as Recorded['layers'][number];
    return [...floats(scale.data)];
  });
  const factors = norms.factors(parameters);
  const program = await new OrtEngine().compile(step.graph, { threads: 1, mode: 'train' });
  const results = await program.run({
    x: tensor(one.x),
    [lossFeeds.target]: tensor(one.target),
    [feedNames.parameters]: vector(parameters),
    [feedNames.activationScale]: vector(groups.map(({ scale }) => scale)),
    [feedNames.activationZeroPoint]: new Tensor(
      'uint8',
      [groups.length],
      Uint8Array.from(groups, ({ zeroPoint }) => zeroPoint),
    ),
    [feedNames.activationLow]: vector(groups.map(({ min }) => min)),
    [feedNames.activationHigh]: vector(groups.map(({ max }) => max)),
    [feedNames.weightScale]: vector(scales),
    [feedNames.weightZeroPoint]: Tensor.zeros('int8', [scales.length]),
    ...norms.feeds(statistics),
  });
  await program.dispose();
  const data = (name: string) => results[name]?.data as Float32Array;
  expect(Math.abs((data(stepOutputs.loss)[0] as number) - one.loss)).toBeLessThan(1e-5 * one.loss);
  const gradient = data(stepOutputs.gradient);
  norms.points.forEach((point, at) => {
    const { gradients } = one.layers[at] as Recorded['layers'][number];
    for (const part of ['weight', 'gamma', 'beta'] as const)
      expect(distance(viewOf(gradient, point[part]), floats(gradients[part])), `${part} of ${point.node}`).toBeLessThan(2e-4);
  });
  if (statistics === 'batch') norms.observe(factors, { mean: data(normNames.batchMean), variance: data(normNames.batchVariance) });
  norms.points.forEach(({ node, offset, channels }, at) => {
    const { before, mean, variance } = one.layers[at] as Recorded['layers'][number];
    const [means, variances] = norms.state.map((array) => array.subarray(offset, offset + channels)) as [Float64Array, Float64Array];
    // Ours is the mean without the bias.
    const bias = before.bias ? floats(before.bias.data) : new Float32Array(channels);
    expect(
      distance(
        means.map((m, c) => m + (bias[c] as number)),
        floats(mean),
      ),
      `mean of ${node}`,
    ).toBeLessThan(1e-5);
    expect(distance(variances, floats(variance)), `variance of ${node}`).toBeLessThan(1e-5);
  });
});
