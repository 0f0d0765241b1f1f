import { performance } from 'node:perf_hooks';
import type { CalibratedRange } from '../calibrate/calibrate.js';
import { toQdq } from '../convert/qdq.js';
import { feedsOf } from '../data/dataset.js';
import type { Program } from '../engine/engine.js';
import { race } from '../evaluate/race.js';
import { quantile } from '../evaluate/statistics.js';
import type { LayerTimes } from '../fakequant/placement.js';
import { planQuantization, type QuantPlan } from '../fakequant/plan.js';
import { activationParams } from '../fakequant/scales.js';
import { scalesOfWeights } from '../fakequant/simulate.js';
import { writeOnnx } from '../formats/onnx/write.js';
import { extract } from '../ir/extract.js';
import { Graph, type Node, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { Recipe } from '../recipe.js';
import type { Range } from '../tensor/affine.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { inputName, openSizes } from './inputs.js';
import { endOf } from './layers.js';
import { fileBatch, graphBatch, type PreparedModel } from './model.js';

/** Threads that models are measured with: those of latency in the report. */
export const threads = 1;
/** The larger batch: up to so many samples, while one run takes less than this. */
const [largestBatch, longestRunMs] = [32, 60];
/** Time for layers alone, seconds; what is under way is finished. */
const layerSeconds = 20;
/** Measured runs at one batch size: of layers, of a mixed model beside another, and of the three that are told. */
export const runsOf = {
  layer: { runs: 200, fewest: 7, budgetMs: 60 },
  idle: { runs: 200, fewest: 50, budgetMs: 20 },
  trial: { runs: 400, fewest: 12, budgetMs: 400 },
  last: { runs: 600, fewest: 15, budgetMs: 1500 },
};
type Runs = (typeof runsOf)['layer'];

/** Programs and times of one measurement. */
export class Course {
  private readonly programs = new Set<Program>();
  private readonly ranges: ReadonlyMap<string, Range>;
  private readonly values: ReadonlyMap<string, Value>;

  constructor(
    private readonly context: Context,
    private readonly model: PreparedModel,
    private readonly plan: QuantPlan,
    private readonly data: JobData,
    calibrated: ReadonlyMap<string, CalibratedRange>,
  ) {
    this.ranges = rangesOfAll(plan, calibrated);
    this.values = new Map(model.graph.values().map((value) => [value.name, value]));
  }

  async open(program: Program): Promise<Program> {
    this.programs.add(program);
    return program;
  }

  async close(program: Program): Promise<void> {
    this.programs.delete(program);
    await program.dispose();
  }

  async closeAll(): Promise<void> {
    for (const program of [...this.programs]) await this.close(program);
  }

  private compile(graph: Graph): Promise<Program> {
    return this.context.engine.compile(graph, { threads, mode: 'infer' }).then((program) => this.open(program));
  }

  /** The int8 model with some layers in float. Ranges are near enough those it will have: they do not decide how fast it is. */
  async mixed(left: readonly string[]): Promise<{ program: Program; bytes: number }> {
    const { quantization } = this.context.job.recipe;
    const layers = [...quantization.layers, ...left.map((name) => ({ name, skip: true }))];
    const graph = this.int8(this.model.graph, { ...this.context.job.recipe, quantization: { ...quantization, layers } });
    return { program: await this.compile(graph), bytes: writeOnnx(graph).byteLength };
  }

  private int8(graph: Graph, recipe: Recipe): Graph {
    const plan = planQuantization(graph, recipe);
    const ranges = new Map(plan.activations.map(({ value }) => [value, this.ranges.get(value) ?? { min: -1, max: 1 }]));
    return toQdq(graph, plan, {
      activations: activationParams(plan.groups, plan.activations, ranges),
      weights: scalesOfWeights(graph, plan, new Map()),
    }).graph;
  }

  /** One sample, and as many as still run in little time; the batch of the file where that is fixed. */
  async batchSizes(program: Program): Promise<number[]> {
    const fixedBatch = fileBatch(this.model);
    if (fixedBatch !== undefined) return [fixedBatch];
    const [times] = await race([program], { feeds: await this.samples(1), ...runsOf.layer });
    const many = Math.min(largestBatch, Math.floor(longestRunMs / typical(times as number[])));
    return many > 1 ? [1, many] : [1];
  }

  /** Times of whole models, for each program one for each batch size. */
  async times(programs: readonly Program[], batches: readonly number[], runs: Runs): Promise<number[][]> {
    const typicals: number[][] = programs.map(() => []);
    for (const batch of batches) {
      const times = await race(programs, { feeds: await this.samples(batch), ...runs, ...this.context.abortable });
      for (const [index, own] of times.entries()) typicals[index]?.push(typical(own));
    }
    return typicals;
  }

  private async samples(batch: number): Promise<Record<string, Tensor>> {
    const { evaluationSamples, evaluationIndices } = this.data;
    const indices = Uint32Array.from({ length: batch }, (_, i) => evaluationIndices[i % evaluationIndices.length] as number);
    return feedsOf(inputName(this.model), await evaluationSamples.batch(indices));
  }

  /** Every layer alone, in both forms, and the conversions at its ends. Layers of unknown sizes, and those that no time is left for, have no times. */
  async layers(batches: readonly number[]): Promise<LayerTimes[]> {
    const { model, plan, context } = this;
    const nodes = new Map(model.graph.nodes.map((node) => [node.name, node]));
    const points = new Map(plan.activations.map((point) => [point.value, point]));
    const began = performance.now();
    const pass = await this.compile(identityGraph());
    let idle = await this.idle(pass);
    const conversions = new Map<string, number[]>();
    const conversion = async (value: Value, shape: readonly number[]) => {
      const key = shape.join();
      const known = conversions.get(key);
      if (known) return known;
      const [both] = await this.alone([converting(value)], shape, batches);
      const half = (both as number[]).map((ms) => Math.max(0, ms - idle) / 2);
      conversions.set(key, half);
      return half;
    };
    const result: LayerTimes[] = [];
    for (const point of plan.weights) {
      const node = nodes.get(point.node) as Node;
      const [input, end] = [node.input(0), endOf(node, points)];
      const [from, to] = [this.sampleShape(input), this.sampleShape(end)];
      const times: LayerTimes = { name: node.name, op: node.op, float: [], int8: [], input: [], output: [] };
      const timely = performance.now() - began < 1000 * layerSeconds;
      if (timely && from && to) {
        const part = extract(model.graph, [this.values.get(input.name) as Value], [this.values.get(end.name) as Value]);
        const both = await this.alone([part, this.int8(part, context.job.recipe)], from, batches);
        // The cost of a run falls while the code around it is compiled: it is taken anew for every layer.
        idle = await this.idle(pass);
        const [float, int8] = both.map((ms) => ms.map((value) => Math.max(0, value - idle))) as [number[], number[]];
        Object.assign(times, { float, int8, input: await conversion(input, from), output: await conversion(end, to) });
      }
      result.push(times);
      context.progress('calibrate', result.length, plan.weights.length, 'layers');
    }
    await this.close(pass);
    return result;
  }

  /** What a run of this program costs just now; it computes nothing. */
  private async idle(program: Program): Promise<number> {
    const [times] = await race([program], { feeds: { x: noise([1, 1]) }, ...runsOf.idle, ...this.context.abortable });
    return typical(times as number[]);
  }

  /** Times of graphs with one input of the same name, in turns, given `shape` for a sample. */
  private async alone(graphs: readonly Graph[], shape: readonly number[], batches: readonly number[]): Promise<number[][]> {
    const programs: Program[] = [];
    for (const graph of graphs) programs.push(await this.compile(graph));
    const name = graphs[0]?.inputs[0]?.name as string;
    const typicals: number[][] = graphs.map(() => []);
    for (const batch of batches) {
      const feeds = { [name]: noise([batch, ...shape]) };
      const times = await race(programs, { feeds, ...runsOf.layer, ...this.context.abortable });
      for (const [index, own] of times.entries()) typicals[index]?.push(typical(own));
    }
    for (const program of programs) await this.close(program);
    return typicals;
  }

  /** Shape of a float value without the batch; undefined where it is not known, or the batch does not stand in front. */
  private sampleShape(value: Value): number[] | undefined {
    const sizes = openSizes(this.model, this.data.dataset.sampleShapes);
    const [batch, ...rest] = (value.shape ?? []).map((dim) => (typeof dim === 'number' ? dim : (sizes[dim] ?? dim)));
    const whole = batch === (graphBatch(this.model) ?? this.model.batch.symbol);
    return whole && value.dtype === 'float32' && rest.every((dim) => typeof dim === 'number') ? (rest as number[]) : undefined;
  }
}

/** Ranges of all points: those that repeat others have no range of their own, and take that of their group. */
function rangesOfAll(plan: QuantPlan, calibrated: ReadonlyMap<string, CalibratedRange>): Map<string, Range> {
  const ranges = new Map([...calibrated].map(([name, { range }]) => [name, range]));
  for (const point of plan.activations) {
    if (ranges.has(point.value)) continue;
    const shared = plan.activations.find((other) => other.group === point.group && calibrated.has(other.value));
    const range = shared && calibrated.get(shared.value)?.range;
    if (range) ranges.set(point.value, range);
  }
  return ranges;
}

/** The lower quartile: what else the machine does slows single runs down, and none up. */
const typical = (times: readonly number[]) =>
  quantile(
    [...times].sort((a, b) => a - b),
    0.25,
  );

function noise(shape: readonly number[]): Tensor<'float32'> {
  const random = new Random(1);
  return Tensor.float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );
}

/** A graph that computes nothing: what a run costs by itself. */
function identityGraph(): Graph {
  const graph = new Graph('idle');
  graph.outputs.push(graph.node('Relu', [graph.input('x', { dtype: 'float32', shape: ['N', 1] })]).output());
  inferShapes(graph);
  return graph;
}

/** A value to int8 and back. */
function converting(value: Value): Graph {
  const graph = new Graph('conversion');
  const x = graph.input('x', { dtype: 'float32', ...(value.shape ? { shape: value.shape } : {}) });
  const scale = graph.constant('scale', Tensor.scalar(0.02));
  const zero = graph.constant('zero', new Tensor('uint8', [], Uint8Array.of(128)));
  const quantized = graph.node('QuantizeLinear', [x, scale, zero]).output();
  graph.outputs.push(graph.node('DequantizeLinear', [quantized, scale, zero]).output());
  inferShapes(graph);
  return graph;
}
