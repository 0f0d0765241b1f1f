import { describe, expect, it } from 'vitest';
import { planQuantization } from '../../fakequant/plan.js';
import { channelCount } from '../../fakequant/scales.js';
import type { Graph } from '../../ir/graph.js';
import { inferShapes } from '../../ir/infer.js';
import { foldBatchNorm } from '../../normalise/foldBatchNorm.js';
import { difference, graphOf } from '../../normalise/testing/oracle.js';
import { defaultRecipe } from '../../recipe.js';
import { type LossSpec, lossFeeds } from '../../tasks/loss.js';
import { lossSpec } from '../../tasks/testing/specs.js';
import { Random } from '../../tensor/random.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { feedNames } from '../../train/forward.js';
import { learnedScales } from '../../train/learnedScales.js';
import { packParameters, parameterLayout } from '../../train/parameters.js';
import { buildTrainingStep, type StepSpec, stepOutputs } from '../../train/step.js';
import type { Engine } from '../engine.js';
import { OrtEngine } from '../ort/ort.js';
import { enginesHere } from './testing/engines.js';

const ort = new OrtEngine();
const engines = await enginesHere();
const batch = 8;
const classes = 5;

/**
 * Convolutions with stride and without, one with batch norm, depthwise ones, a residual, pooling and a Gemm.
 * All scales are powers of two and all weights and samples lie on such grids, so that the sums before each quantizer are exact in
 * float32: whatever the order of a sum, no value falls on the other side of a rounding. What is left to differ is arithmetic.
 */
function network(): Graph {
  const graph = graphOf(`graph small (x: float32[N, 3, 12, 12]) opset 18
    c = Conv(x, w1=float32[16, 3, 3, 3]#, b1=float32[16]#) {pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]} @stem
    n = BatchNormalization(c, g=float32[16]#, h=float32[16]#, m=float32[16]#, v=float32[16]#)
    r = Relu(n)
    d = Conv(r, w2=float32[16, 1, 3, 3]#, b2=float32[16]#) {pads=[1, 1, 1, 1], group=16, kernel_shape=[3, 3]} @depthwise
    e = Relu(d)
    p = Conv(e, w3=float32[16, 16, 1, 1]#, b3=float32[16]#) {kernel_shape=[1, 1]} @pointwise
    a = Add(p, r)
    f = Relu(a)
    s = Conv(f, w4=float32[16, 16, 3, 3]#, b4=float32[16]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @plain
    t = Clip(s, lo=float32[]{0}, hi=float32[]{6})
    z = Conv(t, w5=float32[16, 1, 3, 3]#) {pads=[1, 1, 1, 1], group=16, strides=[2, 2], kernel_shape=[3, 3]} @strided
    u = MaxPool(z) {kernel_shape=[2, 2], strides=[1, 1]}
    q = GlobalAveragePool(u)
    k = Flatten(q)
    y = Gemm(k, w6=float32[16, ${classes}]#, b6=float32[${classes}]#) @fc
    return y`);
  const random = new Random(11);
  const set = (name: string, draw: (index: number) => number) => {
    const value = graph.constants().find((one) => one.name === name);
    if (value?.constant)
      value.constant = Tensor.float32(
        value.constant.shape,
        Float32Array.from({ length: value.constant.size }, (_, i) => draw(i)),
      );
  };
  // The inverse deviation is 1 and the factor 2 or 1/2, so that folding stays on the grid.
  set('v', () => 1 - 1e-5);
  set('g', (i) => (i % 2 ? 2 : 0.5));
  for (const name of ['h', 'm', 'b1', 'b2', 'b3', 'b4', 'b6']) set(name, () => (random.below(65) - 32) / 64);
  for (const name of ['w1', 'w2', 'w3', 'w4', 'w5', 'w6']) set(name, () => (random.below(127) - 63 + (random.below(5) - 2) / 8) * 2 ** -7);
  inferShapes(graph);
  foldBatchNorm.run(graph, inferShapes(graph));
  expect(graph.nodes.map((node) => node.op)).not.toContain('BatchNormalization');
  return graph;
}

/** Feeds of a step: samples, targets, and scales that are powers of two. */
function feedsOf(spec: StepSpec): Record<string, Tensor> {
  const { graph, layout, plan, loss } = spec;
  const [term] = loss.terms;
  const random = new Random(3);
  const normal = (shape: number[]) =>
    Tensor.float32(
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
    );
  const vector = (size: number, value: number) => Tensor.float32([size], new Float32Array(size).fill(value));
  const target =
    term.kind === 'mse'
      ? normal([batch, classes])
      : Tensor.float32(
          [batch, classes],
          Array.from({ length: batch * classes }, (_, i) => (i % classes === Math.floor(i / classes) % classes ? 1 : 0)),
        );
  const feeds: Record<string, Tensor> = {
    x: Tensor.float32(
      [batch, 3, 12, 12],
      Float32Array.from({ length: batch * 432 }, () => (random.below(257) - 128) / 64),
    ),
    [feedNames.parameters]: Tensor.float32([layout.size], packParameters(graph, layout)),
    [lossFeeds.target]: target,
    ...(term.distillationWeight > 0 ? { [lossFeeds.teacher(0)]: normal([batch, classes]) } : {}),
  };
  if (!plan) return feeds;
  const groups = plan.groups.length;
  const [scale, zero] = [2 ** -5, 64];
  const channels = plan.weights.reduce(
    (sum, point) => sum + channelCount(layout.slots.find((slot) => slot.name === point.value)?.shape ?? [], point.axis),
    0,
  );
  return {
    ...feeds,
    [feedNames.activationScale]: vector(groups, scale),
    [feedNames.activationZeroPoint]: new Tensor('uint8', [groups], new Uint8Array(groups).fill(zero)),
    [feedNames.activationLow]: vector(groups, -zero * scale),
    [feedNames.activationHigh]: vector(groups, (255 - zero) * scale),
    [feedNames.weightScale]: vector(channels, 2 ** -7),
    [feedNames.weightZeroPoint]: new Tensor('int8', [channels], new Int8Array(channels)),
  };
}

const losses: Record<string, LossSpec> = {
  'cross-entropy': lossSpec('y', 'cross_entropy', 0),
  'mean squared error': lossSpec('y', 'mse', 0),
  'labels and a teacher': lossSpec('y', 'cross_entropy', 0.5),
  'binary cross-entropy': lossSpec('y', 'binary_cross_entropy', 0),
};

async function run(engine: Engine, graph: Graph, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  const wanted = new Set(graph.inputs.map((input) => input.name));
  const given = Object.fromEntries(Object.entries(feeds).filter(([name]) => wanted.has(name)));
  const program = await engine.compileSharded(graph, { threads: 1, shards: 1 });
  try {
    return (await program.run([given]))[0] as Record<string, Tensor>;
  } finally {
    await program.dispose();
  }
}

/** Largest relative difference of any part: each parameter's gradient is judged by its own largest element. */
function apart(spec: StepSpec, wanted: Record<string, Tensor>, got: Record<string, Tensor>): number {
  const whole = difference(wanted, got);
  const parts = spec.layout.slots.map(({ name, offset, size }) => {
    const of = (results: Record<string, Tensor>) => ({
      [name]: Tensor.float32([size], (results[stepOutputs.gradient] as Tensor<'float32'>).data.subarray(offset, offset + size)),
    });
    return difference(of(wanted), of(got));
  });
  return Math.max(whole, ...parts);
}

describe.each(engines.map((engine) => [engine.backend, engine] as const))('a training step on TF.js %s', (_name, engine) => {
  const steps = Object.keys(losses).flatMap((loss) =>
    (['float', 'fake quant', ...(loss === 'cross-entropy' ? ['learned scales'] : [])] as const).map((kind) => [kind, loss] as const),
  );
  it.each(steps)('%s, %s: loss, gradients and ranges are those of ONNX Runtime to 1e-4', async (kind, loss) => {
    const graph = network();
    const plan = planQuantization(graph, defaultRecipe());
    const spec: StepSpec = {
      graph,
      batch,
      batchSymbol: 'N',
      layout: parameterLayout(graph),
      loss: losses[loss] as LossSpec,
      observe: kind === 'fake quant',
      ...(kind === 'float' ? {} : { plan }),
      ...(kind === 'learned scales' ? { learned: learnedScales(plan, 'learned') } : {}),
    };
    const step = buildTrainingStep(spec).graph;
    const feeds = feedsOf(spec);
    const wanted = await run(ort, step, feeds);
    expect(Object.keys(wanted).length).toBe(kind === 'float' ? 2 : kind === 'fake quant' ? 4 : 3);
    expect(apart(spec, wanted, await run(engine, step, feeds))).toBeLessThan(1e-4);
  });

  it('gives the same bytes every time', async () => {
    const graph = network();
    const spec: StepSpec = {
      graph,
      batch,
      batchSymbol: 'N',
      layout: parameterLayout(graph),
      loss: losses['cross-entropy'] as LossSpec,
      observe: false,
      plan: planQuantization(graph, defaultRecipe()),
    };
    const step = buildTrainingStep(spec).graph;
    const bytes = async () => Buffer.from((await run(engine, step, feedsOf(spec)))[stepOutputs.gradient]?.raw ?? []).toString('base64');
    expect(await bytes()).toBe(await bytes());
  });
});
