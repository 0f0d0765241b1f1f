import { describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { planQuantization } from '../fakequant/plan.js';
import type { Graph } from '../ir/graph.js';
import { print } from '../ir/text.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import { normalise } from '../normalise/index.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { defaultRecipe, type Recipe } from '../recipe.js';
import { lossFeeds } from '../tasks/loss.js';
import { lossSpec } from '../tasks/testing/specs.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { Norms, normNames, type Statistics } from './batchNorm.js';
import { feedNames } from './forward.js';
import { estimateStatistics } from './normEstimator.js';
import { packParameters, parameterLayout, viewOf } from './parameters.js';
import { QuantState } from './state.js';
import { buildTrainingStep, stepOutputs } from './step.js';
import { reread } from './testing/checkpoints.js';
import { type Finished, finish, jobOf, normedNet, type Options, smallNet } from './testing/jobs.js';
import type { TrainEvent } from './train.js';

const engine = new OrtEngine();

const norm = (at: number, channels: number, gamma = '#') =>
  `g${at}=float32[${channels}]${gamma}, e${at}=float32[${channels}]#, m${at}=float32[${channels}]#, v${at}=float32[${channels}]{${Array.from({ length: channels }, (_, c) => 0.5 + 0.4 * c)}}`;

/** Layers of every kind that takes a batch norm, one after the other. */
const layers = (gamma = '#') => `graph g (x: float32[N, 4, 6]) opset 18
  c1 = Conv(x, w1=float32[6, 2, 3]#, b1=float32[6]#) {group=2, pads=[1, 1], kernel_shape=[3]} @conv
  n1 = BatchNormalization(c1, ${norm(1, 6, gamma)}) {epsilon=0.001}
  r1 = Relu(n1)
  c2 = ConvTranspose(r1, w2=float32[6, 3, 2]#) {kernel_shape=[2], strides=[2]} @up
  n2 = BatchNormalization(c2, ${norm(2, 3)})
  f = Flatten(n2)
  c3 = Gemm(f, w3=float32[5, 36]#, b3=float32[5]#) {transB=1} @first
  n3 = BatchNormalization(c3, ${norm(3, 5)})
  r3 = Sigmoid(n3)
  c4 = MatMul(r3, w4=float32[5, 2]#) @last
  y = BatchNormalization(c4, ${norm(4, 2)})
  return y`;

interface Case {
  graph: Graph;
  folded: FoldedNorm[];
  norms: Norms;
}

async function caseOf(text: string, weights: Recipe['quantization']['weights'] = {}): Promise<Case> {
  const graph = graphOf(text);
  const folded = await normalise(graph, { evaluate: runGraph });
  const base = defaultRecipe();
  const plan = planQuantization(graph, { ...base, quantization: { ...base.quantization, weights } });
  return { graph, folded, norms: new Norms(graph, parameterLayout(graph), plan, folded) };
}

const vector = (data: Float32Array) => Tensor.float32([data.length], data);

/** Loss and gradient of a float step on 4 samples, as functions of the parameters. */
async function floatStep({ graph, norms }: Case, statistics: Statistics | undefined) {
  const layout = statistics ? norms.layout : parameterLayout(graph);
  const step = buildTrainingStep({
    graph,
    batch: 4,
    batchSymbol: 'N',
    layout,
    loss: lossSpec('y', 'mse'),
    observe: false,
    ...(statistics ? { norms: { points: norms.points, statistics } } : {}),
  });
  const random = new Random(5);
  const draw = (...shape: number[]) =>
    Tensor.float32(
      shape,
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
    );
  const feeds = { x: draw(4, 4, 6), [lossFeeds.target]: draw(4, 2) };
  const program = await engine.compile(step.graph, { threads: 1, mode: 'train' });
  return {
    run: (parameters: Float32Array) =>
      program.run({ ...feeds, [feedNames.parameters]: vector(parameters), ...(statistics ? norms.feeds(statistics) : {}) }),
    dispose: () => program.dispose(),
  };
}

const numbers = (tensor: Tensor | undefined) => tensor?.data as Float32Array;

describe('a batch norm that is kept', () => {
  it('is there for every kind of layer', async () => {
    const { folded, norms, graph } = await caseOf(layers());
    expect(folded.map(({ node }) => node)).toEqual(['conv', 'up', 'first', 'last']);
    expect(norms.layout.slots.map(({ name }) => name).slice(-4)).toEqual(['conv.gamma', 'up.gamma', 'first.gamma', 'last.gamma']);
    expect(norms.layout.size).toBe(parameterLayout(graph).size + 16);
  });

  it('folds to what it was', async () => {
    const { graph, norms } = await caseOf(layers());
    const wanted = packParameters(graph, parameterLayout(graph));
    const start = norms.start(wanted);
    expect(start.slice(0, wanted.length)).not.toEqual(wanted);
    norms.fold(start).forEach((v, i) => {
      expect(Math.abs(v - (wanted[i] as number))).toBeLessThan(1e-6 * (1 + Math.abs(wanted[i] as number)));
    });
  });

  it.each([{}, { perChannel: false }])(
    'computes what the folded layer does when its statistics are frozen, weights %o',
    async (weights) => {
      const one = await caseOf(layers(), weights);
      const flat = packParameters(one.graph, parameterLayout(one.graph));
      const [folded, kept] = [await floatStep(one, undefined), await floatStep(one, 'running')];
      const [a, b] = [await folded.run(flat), await kept.run(one.norms.start(flat))];
      const [left, right] = [a, b].map((result) => numbers(result[stepOutputs.loss])[0] as number) as [number, number];
      expect(Math.abs(left - right)).toBeLessThan(1e-5 * left);
      expect(b[normNames.batchMean]).toBeUndefined();
      await folded.dispose();
      await kept.dispose();
    },
  );

  it.each([
    ['batch', {}],
    ['batch', { perChannel: false }],
    ['running', {}],
    ['running', { perChannel: false }],
  ] as const)('has the gradient that finite differences have: by the %s, weights %o', async (statistics, weights) => {
    const one = await caseOf(layers(), weights);
    const start = one.norms.start(packParameters(one.graph, parameterLayout(one.graph)));
    const step = await floatStep(one, statistics);
    const gradient = numbers((await step.run(start))[stepOutputs.gradient]);
    const loss = async (parameters: Float32Array) => numbers((await step.run(parameters))[stepOutputs.loss])[0] as number;
    const random = new Random(9);
    // Along a random direction in each tensor: β, γ and weights of all layers.
    for (const slot of one.norms.layout.slots) {
      const direction = Float64Array.from({ length: slot.size }, () => random.normal());
      const h = 2e-3;
      const moved = (by: number) => {
        const copy = start.slice();
        viewOf(copy, slot).forEach((v, i) => {
          copy[slot.offset + i] = v + by * (direction[i] as number);
        });
        return copy;
      };
      const difference = ((await loss(moved(h))) - (await loss(moved(-h)))) / (2 * h);
      const along = viewOf(gradient, slot).reduce((sum, g, i) => sum + g * (direction[i] as number), 0);
      expect(Math.abs(along - difference), slot.name).toBeLessThan(0.01 * Math.abs(along) + 2e-3);
    }
    await step.dispose();
  });

  it.each([{}, { perChannel: false }])('bears γ = 0, weights %o', async (weights) => {
    const one = await caseOf(layers('{0, 1, 1, 0, 1, 1}'), weights);
    const start = one.norms.start(packParameters(one.graph, parameterLayout(one.graph)));
    for (const statistics of ['batch', 'running'] as const) {
      const step = await floatStep(one, statistics);
      const results = await step.run(start);
      for (const tensor of Object.values(results)) expect(numbers(tensor).every(Number.isFinite)).toBe(true);
      if (statistics === 'batch') {
        const batch = { mean: numbers(results[normNames.batchMean]), variance: numbers(results[normNames.batchVariance]) };
        one.norms.replace(one.norms.factors(start), batch);
      }
      await step.dispose();
    }
    expect(one.norms.fold(start).every(Number.isFinite)).toBe(true);
    const ranges = one.norms.foldRanges(
      start,
      new Map([['w1', { scale: new Float32Array(weights.perChannel === false ? 1 : 6).fill(0.1) }]]),
    );
    expect((ranges.get('w1') as { scale: Float32Array }).scale.every((scale) => scale > 0)).toBe(true);
  });

  it('takes learned scales along when it is folded', async () => {
    const one = await caseOf(layers());
    const start = one.norms.start(packParameters(one.graph, parameterLayout(one.graph)));
    const factors = one.norms.factors(start);
    const ranges = one.norms.foldRanges(
      start,
      new Map([
        ['w1', { scale: new Float32Array(6).fill(0.5) }],
        ['w2', { share: new Float32Array(3) }],
      ]),
    );
    expect((ranges.get('w1') as { scale: Float32Array }).scale).toEqual(factors.slice(0, 6).map((f) => 0.5 * Math.abs(f)));
    expect(ranges.get('w2')).toEqual({ share: new Float32Array(3) });
  });
});

describe('a network without batch norm', () => {
  it('has the step it had, to the letter', async () => {
    const graph = smallNet();
    expect(await normalise(graph.clone())).toEqual([]);
    const plan = planQuantization(graph, defaultRecipe());
    const layout = parameterLayout(graph);
    const norms = new Norms(graph, layout, plan, []);
    expect(norms.layout).toBe(layout);
    const flat = packParameters(graph, layout);
    for (const same of [norms.start(flat), norms.quantizerInputs(flat), norms.fold(flat)]) expect(same).toBe(flat);
    expect([norms.state, norms.feeds('batch'), norms.feeds('running')]).toEqual([[], {}, {}]);
    const spec = {
      graph,
      batch: 4,
      batchSymbol: 'N',
      layout,
      plan,
      loss: lossSpec(graph.outputs[0]?.name as string),
      observe: true,
    } as const;
    const plain = print(buildTrainingStep(spec).graph);
    for (const statistics of ['batch', 'running'] as const)
      expect(print(buildTrainingStep({ ...spec, norms: { points: norms.points, statistics } }).graph)).toBe(plain);
  });

  it('is trained to the same bytes whatever is said of batch norm', async () => {
    const plain = bitsOf(await finish(await jobOf()));
    expect(
      bitsOf(await finish(await jobOf({ training: { batchNorm: 'fold', freezeBatchNormAfter: 2, reestimateBatchNorm: false } }))),
    ).toEqual(plain);
  });
});

/** What a result is to the last bit; times aside. */
const bitsOf = ({ result }: Finished) => ({
  parameters: Buffer.from(result.parameters.buffer, result.parameters.byteOffset, result.parameters.byteLength).toString('hex'),
  ranges: [...result.ranges],
  weightRanges: [...result.weightRanges],
  losses: result.history.map(({ loss, holdoutLoss }) => [loss, holdoutLoss]),
  bestEpoch: result.bestEpoch,
});

async function normedJob(options: Options = {}) {
  const { graph, norms } = await normedNet();
  return jobOf({ graph, ...options, training: { learningRate: 0.02, ...options.training }, input: { norms, ...options.input } });
}

type Saved = Extract<TrainEvent, { kind: 'checkpoint' }>;
const checkpointsOf = ({ events }: Finished) =>
  events.filter((event): event is Saved => event.kind === 'checkpoint').map(({ checkpoint }) => checkpoint);
const fourBits = { weights: { bits: 4 }, activations: { bits: 4 } };

describe('training', () => {
  it('lowers the loss, learns statistics until they freeze, and gives the parameters of the folded network', async () => {
    const input = await normedJob({ training: { epochs: 4, freezeBatchNormAfter: 2 } });
    const finished = await finish(input);
    const { result } = finished;
    expect(result).toMatchObject({ keptNorms: 2, normsFrozenAtStep: 6 });
    expect(result.history.at(-1)?.loss).toBeLessThan(0.5 * (result.history[0]?.loss as number));
    expect(result.history.at(-1)?.holdoutMetric).toBeGreaterThan(0.9);
    expect(result.parameters).toHaveLength(parameterLayout(input.graph).size);
    const statistics = checkpointsOf(finished).map(({ arrays }) => [arrays['norms.mean'], arrays['norms.variance']]);
    expect(statistics[1]).not.toEqual(statistics[0]);
    expect(statistics[2]).toEqual(statistics[1]);
    expect(statistics[3]).toEqual(statistics[1]);
  });

  it('scores what is folded: the held-out loss is that of the parameters that are returned', async () => {
    const input = await normedJob({ quantization: fourBits, training: { epochs: 1 } });
    const { result } = await finish(input);
    // A second training that starts from the result, folded, and whose first step changes nothing.
    const { graph } = await normedNet();
    const layout = parameterLayout(graph);
    const values = new Map(graph.constants().map((value) => [value.name, value]));
    for (const slot of layout.slots) {
      const value = values.get(slot.name);
      if (value) value.constant = Tensor.float32(slot.shape, viewOf(result.parameters, slot).slice());
    }
    const calibrated = new Map([...result.ranges].map(([name, range]) => [name, { range, average: range }]));
    const { norms: _, ...rest } = input;
    const again = await finish({
      ...rest,
      graph,
      calibrated,
      weightRanges: result.weightRanges,
      recipe: {
        ...input.recipe,
        training: { ...input.recipe.training, learningRate: 1e-12, weightDecay: 0, freezeObserversAfter: 0, scales: 'observed' },
      },
    });
    expect(again.result.history[0]?.holdoutLoss).toBeCloseTo(result.history[0]?.holdoutLoss as number, 5);
  });

  it.each([
    ['scales a channel', fourBits],
    ['one scale', { weights: { bits: 4, perChannel: false } }],
  ])('with %s gives the same bytes twice, with one thread or two, and from any checkpoint', async (_what, quantization) => {
    const input = await normedJob({ quantization, training: { freezeBatchNormAfter: 1.5 } });
    const whole = await finish(input);
    expect(bitsOf(await finish({ ...input, threads: 2 }))).toEqual(bitsOf(whole));
    for (const checkpoint of checkpointsOf(whole).slice(0, 2)) {
      const resumed = await finish({ ...input, threads: 2, checkpoint: reread(checkpoint) });
      expect(bitsOf(resumed)).toEqual(bitsOf(whole));
    }
  });

  it('goes by the settings', async () => {
    const bits = async (training: Options['training']) =>
      bitsOf(await finish(await normedJob({ training: { epochs: 2, ...training } }))).parameters;
    const all = await Promise.all([{}, { reestimateBatchNorm: false }, { freezeBatchNormAfter: 0 }, { freezeBatchNormAfter: 2 }].map(bits));
    expect(new Set(all).size).toBe(4);
  });

  it('measures statistics anew: those of the layers with everything quantized', async () => {
    const input = await normedJob({ training: { epochs: 1 } });
    const { norms: folded = [] } = input;
    const layout = parameterLayout(input.graph);
    const norms = new Norms(input.graph, layout, input.plan, folded);
    const start = norms.start(packParameters(input.graph, layout));
    const observed = [...input.calibrated.keys()];
    const quant = new QuantState(input.plan, norms.layout, observed, input.calibrated, new Map());
    const { [feedNames.activationLow]: _low, [feedNames.activationHigh]: _high, ...activations } = quant.activationFeeds();
    const { mean, variance } = await estimateStatistics(input, norms, 16, 2, {
      ...activations,
      ...quant.weightFeeds(start),
      [feedNames.parameters]: vector(start),
    });
    // All 48 training samples through the first layer in float.
    const { x } = await input.samples.batch(input.trainIndices);
    const layer = graphOf(
      'graph g (x: float32[48, 1, 8, 8]) opset 18\nc = Conv(x, w=float32[8, 1, 3, 3]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]}\nreturn c',
    );
    const weight = layer.nodes[0]?.input(1);
    if (weight) weight.constant = folded[0]?.weight;
    const results = numbers((await runGraph(layer, { x })).c);
    for (let channel = 0; channel < 8; channel++) {
      const own = results.filter((_, i) => Math.floor(i / 64) % 8 === channel);
      const average = own.reduce((a, v) => a + v, 0) / own.length;
      const spread = own.reduce((a, v) => a + (v - average) ** 2, 0) / own.length;
      expect(Math.abs((mean[channel] as number) - average)).toBeLessThan(0.02 * Math.sqrt(spread));
      expect(Math.abs((variance[channel] as number) - spread)).toBeLessThan(0.03 * spread);
    }
  });
});
