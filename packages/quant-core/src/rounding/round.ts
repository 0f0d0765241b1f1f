import { setImmediate } from 'node:timers/promises';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import type { QuantPlan, WeightPoint } from '../fakequant/plan.js';
import { forEachChannelRun, quantizeWeight, type WeightRange, type WeightScales } from '../fakequant/scales.js';
import { planWeights, type ScaleTable, simulate } from '../fakequant/simulate.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import { dequantizeValue, splitValue } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { Optimizer } from '../train/optimizer.js';
import { matrixForm } from './matrix.js';
import { errorGraph, gradientGraph, names, type RoundingLayer, stretch } from './programs.js';
import { type RowPart, RowStore } from './rows.js';
import { Walk } from './walk.js';

/** Weight of the regulariser beside the reconstruction error, both counted per weight and relative to the error of rounding to nearest. */
const share = 5;
const learningRate = 0.03;
/** The exponent of the regulariser falls from the first to the second, after a first part without regulariser. */
const [firstBeta, lastBeta, warmUp] = [20, 2, 0.2];
/** One part in so many is not optimized on: it judges whether the learned rounding is the better one. */
const heldOut = 8;
/** Iterations between two looks at the abort signal. */
const breath = 32;

export interface RoundingJob {
  graph: Graph;
  plan: QuantPlan;
  table: ScaleTable;
  /** The same batches at every call. */
  samples: () => AsyncIterable<Pick<Batch, 'x' | 'others'>>;
  /** Number of samples that gives. */
  count: number;
  engine: Engine;
  iterations: number;
  seed: number;
  /** Which weights of the plan are to be rounded anew. */
  wanted: (point: WeightPoint) => boolean;
  signal?: AbortSignal;
  onLayer?: (done: number, total: number) => void;
}

/** What became of one layer: squared error of its result on rows that were not optimized on. */
export interface RoundedLayer {
  node: string;
  nearest: number;
  adaptive: number;
  /** Whether the learned rounding is the better one, and was taken. */
  taken: boolean;
}

export interface Rounded {
  /** A copy whose weights stand on their grid. */
  graph: Graph;
  /** Scales of the weights that were rounded, which must not be found anew. */
  ranges: Map<string, WeightRange>;
  layers: RoundedLayer[];
}

/**
 * AdaRound (Nagel et al. 2020, arXiv:2004.10568): layer by layer, from the first to the last, learn for every weight whether it is rounded up or down,
 * so that the layer's result after its activation, from inputs as the quantized layers before give them, is nearest to that of the float network.
 * The rows that a layer is looked at are a sample of at most 2^25 numbers, whatever its size. Deterministic by `seed`.
 */
export async function adaptRounding(job: RoundingJob): Promise<Rounded> {
  const graph = job.graph.clone();
  const ranges = new Map<string, WeightRange>();
  const layers: RoundedLayer[] = [];
  const points = new Map(job.plan.weights.map((point, index) => [point.node, { point, index }]));
  const order = job.graph.nodes.flatMap((original) => {
    const found = points.get(original.name);
    // A constant of two layers has one rounding only.
    return found && job.wanted(found.point) && original.input(found.point.port).readers.length === 1 ? [{ ...found, original }] : [];
  });
  const tensors = planWeights(job.graph, job.plan);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const walks = new Walks(
    job,
    order.map(({ original }) => original),
  );
  for (const [done, { point, index, original }] of order.entries()) {
    const scales = job.table.weights[index] as WeightScales;
    const node = nodes.get(point.node) as Node;
    const tensor = tensors[index] as Tensor<'float32'>;
    const parts = await collectRows(job, walks, original, point);
    const form = matrixForm(node, tensor.shape);
    const layer = roundingLayer(job.graph, original, point, tensor, scales, form);
    const nearest = onGrid(tensor, point, scales, quantizeWeight(tensor, point, scales));
    const { learned, errors } = await learn(job, layer, parts, tensor, point, scales, nearest);
    const taken = errors.adaptive < errors.nearest;
    const weight = node.input(point.port);
    weight.constant = taken ? learned : nearest;
    walks.settle(original.input(point.port), weight.constant);
    ranges.set(point.value, scales);
    layers.push({ node: point.node, ...errors, taken });
    job.onLayer?.(done + 1, order.length);
  }
  return { graph, ranges, layers };
}

/** The real values of integers. */
function onGrid(tensor: Tensor, point: WeightPoint, scales: WeightScales, integers: Int8Array): Tensor<'float32'> {
  const data = new Float32Array(tensor.size);
  forEachChannelRun(tensor.shape, point.axis, (channel, start, length) => {
    const params = { scale: scales.scale[channel] as number, zeroPoint: scales.zeroPoint[channel] as number };
    for (let i = start; i < start + length; i++) data[i] = dequantizeValue(integers[i] as number, params);
  });
  return Tensor.float32(tensor.shape, data);
}

/** The quantized and the float network side by side. */
class Walks {
  private readonly quantized: Walk;
  private readonly float: Walk;
  private readonly nodes: ReadonlyMap<string, Node>;
  private readonly values: ReadonlyMap<string, Value>;

  constructor(
    private readonly job: RoundingJob,
    layers: readonly Node[],
  ) {
    const simulation = simulate(job.graph, job.plan, job.table);
    this.nodes = new Map(simulation.nodes.map((node) => [node.name, node]));
    this.values = new Map(simulation.constants().map((value) => [value.name, value]));
    this.quantized = new Walk(
      simulation,
      layers.map((layer) => this.inputOf(layer)),
      job.engine,
    );
    this.float = new Walk(
      job.graph,
      layers.map((layer) => layer.output()),
      job.engine,
    );
  }

  /** What a layer of the float network reads in the quantized one. */
  private inputOf(layer: Node): Value {
    return (this.nodes.get(layer.name) as Node).input(0);
  }

  /** From here on the quantized network has this weight. */
  settle(weight: Value, tensor: Tensor): void {
    (this.values.get(weight.name) as Value).constant = tensor;
  }

  /** The input of a layer in the quantized network and its result in the float one, batch by batch, as long as `take` wants more. */
  async at(layer: Node, take: (into: Tensor<'float32'>, wanted: Tensor<'float32'>) => boolean): Promise<void> {
    const { job } = this;
    const [quantizedBatches, floatBatches] = [this.quantized.batches, this.float.batches];
    const steps = [
      await this.quantized.to(this.inputOf(layer), job.count),
      await this.float.to(layer.input(0), job.count, layer.output()),
    ] as const;
    const read = quantizedBatches === undefined || floatBatches === undefined;
    let all = false;
    try {
      let more = true;
      let batch = 0;
      for await (const feeds of read ? feedsOfAll(job) : emptyFeeds(quantizedBatches)) {
        const [into, wanted] = [await steps[0].run(batch, feeds), await steps[1].run(batch, feeds)];
        batch++;
        if (more) more = take(into, wanted);
        if (!more && !steps.some((step) => step.wantsAll)) return;
      }
      all = true;
    } finally {
      for (const step of steps) await step.end(all);
    }
  }
}

async function* feedsOfAll(job: RoundingJob): AsyncGenerator<Record<string, Tensor>> {
  const input = (job.graph.inputs[0] as Value).name;
  for await (const batch of job.samples()) yield feedsOf(input, batch);
}

/** Feeds without tensors, one a batch: both walks read what they kept. */
function* emptyFeeds(batches: number): Generator<Record<string, Tensor>> {
  for (let i = 0; i < batches; i++) yield {};
}

/** Inputs of a layer from the quantized network before it, and its results in the float network. */
async function collectRows(job: RoundingJob, walks: Walks, node: Node, point: WeightPoint): Promise<RowPart[]> {
  const form = matrixForm(node, node.input(point.port).constant?.shape ?? []);
  let store: RowStore | undefined;
  await walks.at(node, (into, wanted) => {
    store ??= new RowStore(form, job.count, form.positions(into.shape, wanted.shape), Random.for(job.seed, `rounding ${point.node}`));
    store.add(into, wanted);
    return !store.full;
  });
  return store?.finished() ?? [];
}

/** The activations after a layer, where nothing else reads what is between. */
function activationAfter(graph: Graph, value: Value): Node[] {
  const reader = value.readers.length === 1 && !graph.outputs.includes(value) ? value.readers[0] : undefined;
  if (!reader || reader.inputs[0] !== value) return [];
  const facts = spec(reader.op);
  const element = facts.absorbedByRequantization || (facts.homogeneous === 'elements' && reader.inputs.length === 1);
  return element && reader.inputs.slice(1).every((input) => !input || input.constant)
    ? [reader, ...activationAfter(graph, reader.output())]
    : [];
}

function roundingLayer(
  graph: Graph,
  node: Node,
  point: WeightPoint,
  tensor: Tensor<'float32'>,
  scales: WeightScales,
  form: ReturnType<typeof matrixForm>,
): RoundingLayer {
  const { group, inputs, outputs } = form;
  const shape = [group, inputs, outputs];
  const [floor, scale] = [new Float32Array(tensor.size), new Float32Array(tensor.size)];
  forEachChannelRun(tensor.shape, point.axis, (channel, start, length) => {
    const s = scales.scale[channel] as number;
    for (let i = start; i < start + length; i++) {
      const to = form.place(i);
      floor[to] = splitValue(tensor.data[i] as number, s).floor;
      scale[to] = s;
    }
  });
  const bias = node.inputs[spec(node.op).bias ?? -1]?.constant?.as('float32');
  const zero = scales.zeroPoint[0] ?? 0;
  return {
    form,
    activation: activationAfter(graph, node.output()),
    bias:
      bias &&
      Tensor.float32([group, 1, outputs], bias.size === 1 ? new Float32Array(group * outputs).fill(bias.data[0] as number) : bias.data),
    floor: Tensor.float32(shape, floor),
    scale: Tensor.float32(shape, scale),
    low: point.grid.qmin - zero,
    high: point.grid.qmax - zero,
  };
}

/** Learn which way to round, and compare with the nearest integers. */
async function learn(
  job: RoundingJob,
  layer: RoundingLayer,
  parts: readonly RowPart[],
  tensor: Tensor<'float32'>,
  point: WeightPoint,
  scales: WeightScales,
  nearest: Tensor<'float32'>,
): Promise<{ learned: Tensor<'float32'>; errors: { nearest: number; adaptive: number } }> {
  const { form } = layer;
  const shape = layer.floor.shape;
  const judges = parts.filter((_, i) => i % heldOut === heldOut - 1);
  const seen = judges.length ? parts.filter((_, i) => i % heldOut !== heldOut - 1) : parts;
  const rows = parts[0]?.x.shape[1];
  if (rows === undefined) return { learned: nearest, errors: { nearest: 0, adaptive: 0 } };
  const matrix = (weight: Tensor<'float32'>) => {
    const data = new Float32Array(weight.size);
    for (let i = 0; i < weight.size; i++) data[form.place(i)] = weight.data[i] as number;
    return Tensor.float32(shape, data);
  };
  const [judge, step] = [
    await job.engine.compile(errorGraph(layer, rows), { threads: 1, mode: 'train' }),
    await job.engine.compile(gradientGraph(layer, rows), { threads: 1, mode: 'train' }),
  ];
  const errorOf = async (weight: Tensor<'float32'>, on: readonly RowPart[]) => {
    let sum = 0;
    for (const { x, y } of on)
      sum += (await judge.run({ [names.x]: x, [names.y]: y, [names.weight]: weight }))[names.loss]?.data[0] as number;
    return sum / on.length;
  };
  try {
    const first = matrix(nearest);
    const start = await errorOf(first, seen);
    // The error is counted in units in which rounding to nearest costs 1 a weight.
    const lambda = (share * start) / tensor.size;
    const v = startingPoint(tensor, point, scales, form);
    const optimizer = new Optimizer(
      { kind: 'adam', momentum: 0, weightDecay: 0 },
      { slots: [{ name: names.v, shape, offset: 0, size: v.length }], size: v.length },
    );
    const weights = { parameters: v, optimizer: optimizer.initialState() };
    for (let t = 0; t < job.iterations && start > 0; t++) {
      if (t % breath === 0) await pause(job.signal);
      const { x, y } = seen[t % seen.length] as RowPart;
      const progress = (t / job.iterations - warmUp) / (1 - warmUp);
      const feeds = {
        [names.x]: x,
        [names.y]: y,
        [names.v]: Tensor.float32(shape, weights.parameters),
        [names.beta]: Tensor.scalar(lastBeta + (firstBeta - lastBeta) * (1 - Math.max(0, progress))),
        [names.lambda]: Tensor.scalar(progress < 0 ? 0 : lambda),
      };
      const gradient = (await step.run(feeds))[names.gradient]?.data as Float32Array;
      optimizer.update(weights, [gradient], learningRate, t + 1);
    }
    const learned = onGrid(tensor, point, scales, rounded(weights.parameters, tensor, point, scales, form));
    const on = judges.length ? judges : seen;
    return { learned, errors: { nearest: await errorOf(first, on), adaptive: await errorOf(matrix(learned), on) } };
  } finally {
    await judge.dispose();
    await step.dispose();
  }
}

async function pause(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  if (signal?.aborted) throw new OctetError('CANCELLED', 'The rounding was being learned when the job was cancelled.');
}

/** Rounding variables with which every weight is what it was: `h(v)` is how far it lies above the integer below. */
function startingPoint(tensor: Tensor<'float32'>, point: WeightPoint, scales: WeightScales, form: RoundingLayer['form']): Float32Array {
  const v = new Float32Array(tensor.size);
  forEachChannelRun(tensor.shape, point.axis, (channel, start, length) => {
    const s = scales.scale[channel] as number;
    for (let i = start; i < start + length; i++) {
      const { fraction } = splitValue(tensor.data[i] as number, s);
      v[form.place(i)] = -Math.log((stretch.zeta - stretch.gamma) / (fraction - stretch.gamma) - 1);
    }
  });
  return v;
}

/** The integers that the rounding variables decide for. `h(v) ≥ 1/2` is `v ≥ 0`. */
function rounded(
  v: Float32Array,
  tensor: Tensor<'float32'>,
  point: WeightPoint,
  scales: WeightScales,
  form: RoundingLayer['form'],
): Int8Array {
  const integers = new Int8Array(tensor.size);
  const { qmin, qmax } = point.grid;
  forEachChannelRun(tensor.shape, point.axis, (channel, start, length) => {
    const [s, zero] = [scales.scale[channel] as number, scales.zeroPoint[channel] as number];
    for (let i = start; i < start + length; i++) {
      const { floor } = splitValue(tensor.data[i] as number, s);
      const up = (v[form.place(i)] as number) >= 0 ? 1 : 0;
      integers[i] = Math.min(qmax, Math.max(qmin, floor + up + zero));
    }
  });
  return integers;
}
