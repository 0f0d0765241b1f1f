import type { QuantPlan } from '../fakequant/plan.js';
import type { WeightRange } from '../fakequant/scales.js';
import type { GraphBuilder } from '../ir/builder.js';
import { type Graph, type Node, Value } from '../ir/graph.js';
import type { FoldedNorm } from '../normalise/foldBatchNorm.js';
import { Tensor } from '../tensor/tensor.js';
import type { NamedArrays } from './arrays.js';
import { type ParameterLayout, type ParameterSlot, vectorParts, viewOf } from './parameters.js';

/** Inputs of a step that hold the running statistics, and the results that hold those of the batch: one number a channel, layer by layer. */
export const normNames = {
  mean: 'octet_norm_mean',
  inverse: 'octet_norm_inverse',
  batchMean: 'octet_norm_batch_mean',
  batchVariance: 'octet_norm_batch_variance',
} as const;

/** `batch`: normalise by the samples of the step, as while statistics are learned. `running`: by what was learned, as in the int8 model. */
export type Statistics = 'batch' | 'running';

/** One batch norm that comes after its layer again. */
export interface NormPoint {
  node: string;
  weight: ParameterSlot;
  beta: ParameterSlot;
  gamma: ParameterSlot;
  channels: number;
  /** Axis of the weights, and of the layer's result, that counts the channels. */
  weightAxis: number;
  axis: number;
  /** Rank of the weights, and of the result. */
  weightRank: number;
  rank: number;
  /** Where its channels begin in the vectors of statistics. */
  offset: number;
  epsilon: number;
  /**
   * Whether the weights are scaled by γ/σ before they are quantized. Needed where all channels share one scale; with a scale a channel, fake
   * quantization gives the same integers with and without the factor, and the factor comes after it.
   */
  scaledFirst: boolean;
}

/** Weight of a batch in the running statistics, as in PyTorch. */
const momentum = 0.1;

/**
 * Batch norms kept while training. The trained vector is that of the folded graph, with the layer's own weights in place of the folded
 * ones, β in place of the folded bias, and the γ of all layers after them. Running mean and variance live outside of the step, as scales do.
 * With σ² = running variance + ε, the folded layer is `W·γ/σ` and `β - mean·γ/σ`.
 */
export class Norms {
  readonly points: readonly NormPoint[];
  /** Layout of the trained vector; that of the folded graph where no batch norm is kept. */
  readonly layout: ParameterLayout;
  /** Running mean and variance of the layers' results without bias; nothing where no batch norm is kept. */
  readonly state: Float64Array[];
  private readonly size: number;

  constructor(
    graph: Graph,
    private readonly folded: ParameterLayout,
    plan: QuantPlan,
    private readonly norms: readonly FoldedNorm[],
  ) {
    const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
    const slots = new Map(folded.slots.map((slot) => [slot.name, slot]));
    const slotOf = (value: Value) => slots.get(value.name) as ParameterSlot;
    let end = folded.size;
    let offset = 0;
    this.points = norms.map((norm): NormPoint => {
      const node = nodes.get(norm.node) as Node;
      const channels = norm.gamma.length;
      const gamma = { name: freeName(slots, `${norm.node}.gamma`), shape: [channels], offset: end, size: channels };
      slots.set(gamma.name, gamma);
      const weights = plan.weights.find((point) => point.node === norm.node);
      const dense = node.op === 'Gemm';
      const point: NormPoint = {
        node: norm.node,
        weight: slotOf(node.input(1)),
        beta: slotOf(node.input(2)),
        gamma,
        channels,
        weightAxis: node.op === 'ConvTranspose' || (node.is('Gemm') && !node.attr('transB')) ? 1 : 0,
        axis: 1,
        weightRank: norm.weight.shape.length,
        rank: dense ? 2 : norm.weight.shape.length,
        offset,
        epsilon: norm.epsilon,
        scaledFirst: weights !== undefined && weights.axis === undefined,
      };
      end += channels;
      offset += channels;
      return point;
    });
    this.size = offset;
    this.layout = norms.length ? { slots: [...folded.slots, ...this.points.map((point) => point.gamma)], size: end } : folded;
    this.state = norms.length ? [concat(norms.map((norm) => norm.mean)), concat(norms.map((norm) => norm.variance))] : [];
  }

  /** The trained vector at the start, from that of the folded graph. */
  start(parameters: Float32Array): Float32Array {
    if (!this.norms.length) return parameters;
    const flat = new Float32Array(this.layout.size);
    flat.set(parameters);
    this.norms.forEach((norm, index) => {
      const point = this.points[index] as NormPoint;
      viewOf(flat, point.weight).set(norm.weight.data);
      viewOf(flat, point.beta).set(norm.beta);
      viewOf(flat, point.gamma).set(norm.gamma);
    });
    return flat;
  }

  /** 1/σ of every channel in float32, as the step has it. */
  private inverse(): Float32Array {
    const variance = this.state[1] ?? [];
    const inverse = new Float32Array(this.size);
    for (const { offset, channels, epsilon } of this.points)
      for (let i = offset; i < offset + channels; i++) inverse[i] = 1 / Math.sqrt((variance[i] as number) + epsilon);
    return inverse;
  }

  /** Running statistics, for the form of the step given. */
  feeds(statistics: Statistics): Record<string, Tensor> {
    const { mean, inverse } = inputsOf(this.points, statistics);
    return {
      ...(inverse ? { [normNames.inverse]: Tensor.float32([this.size], this.inverse()) } : {}),
      ...(mean ? { [normNames.mean]: Tensor.float32([this.size], Float32Array.from(this.state[0] as Float64Array)) } : {}),
    };
  }

  /** What the weight quantizers read, in float: the trained vector, with the weights that are scaled first multiplied by their factors. */
  quantizerInputs(parameters: Float32Array): Float32Array {
    if (!this.points.some((point) => point.scaledFirst)) return parameters;
    const flat = parameters.slice();
    const factors = this.factors(parameters);
    for (const point of this.points) if (point.scaledFirst) scaleChannels(viewOf(flat, point.weight), point, factors);
    return flat;
  }

  /** γ/σ of every channel of every batch norm. */
  factors(parameters: Float32Array): Float32Array {
    const factors = this.inverse();
    for (const point of this.points) {
      const gamma = viewOf(parameters, point.gamma);
      for (let c = 0; c < point.channels; c++) factors[point.offset + c] = (gamma[c] as number) * (factors[point.offset + c] as number);
    }
    return factors;
  }

  /** The parameters of the folded graph: what the int8 model is made from. In float32, as the step computes them. */
  fold(parameters: Float32Array): Float32Array {
    if (!this.points.length) return parameters;
    const flat = parameters.slice(0, this.folded.size);
    const factors = this.factors(parameters);
    const mean = this.state[0] as Float64Array;
    for (const point of this.points) {
      scaleChannels(viewOf(flat, point.weight), point, factors);
      const bias = viewOf(flat, point.beta);
      for (let c = 0; c < point.channels; c++) {
        const at = point.offset + c;
        bias[c] = (bias[c] as number) - Math.fround(Math.fround(mean[at] as number) * (factors[at] as number));
      }
    }
    return flat;
  }

  /** Ranges of the weights as they hold for the folded ones: a learned scale of the layer's own weights takes on the factor. */
  foldRanges(parameters: Float32Array, ranges: ReadonlyMap<string, WeightRange>): ReadonlyMap<string, WeightRange> {
    if (!this.points.length) return ranges;
    const factors = this.factors(parameters);
    const folded = new Map(ranges);
    for (const { weight, offset, scaledFirst } of this.points) {
      const range = ranges.get(weight.name);
      // Of a channel whose γ is 0 nothing is left: any scale will do.
      if (range && 'scale' in range && !scaledFirst)
        folded.set(weight.name, { scale: range.scale.map((s, c) => s * Math.abs(factors[offset + c] as number) || s) });
    }
    return folded;
  }

  /** Let the running statistics follow those of a batch, which a step with `factors` reports. */
  observe(factors: Float32Array, batch: NormStatistics): void {
    this.move(factors, batch, momentum);
  }

  /** Put statistics, measured with `factors`, in the place of the running ones. */
  replace(factors: Float32Array, statistics: NormStatistics): void {
    this.move(factors, statistics, 1);
  }

  private move(factors: Float32Array, { mean, variance }: NormStatistics, share: number): void {
    const [means, variances] = this.state as [Float64Array, Float64Array];
    for (const point of this.points) {
      for (let i = point.offset; i < point.offset + point.channels; i++) {
        // Results of weights that were scaled first are scaled too. With γ = 0 they say nothing.
        const factor = point.scaledFirst ? (factors[i] as number) : 1;
        if (factor === 0) continue;
        means[i] = (means[i] as number) + share * ((mean[i] as number) / factor - (means[i] as number));
        variances[i] = (variances[i] as number) + share * ((variance[i] as number) / factor ** 2 - (variances[i] as number));
      }
    }
  }

  /** Everything that changes, as it is now; nothing where no batch norm is kept. */
  get arrays(): NamedArrays {
    const [mean, variance] = this.state;
    return mean && variance ? { 'norms.mean': mean, 'norms.variance': variance } : {};
  }
}

/** Mean and variance of the layers' results, one number a channel of every batch norm. */
export interface NormStatistics {
  mean: ArrayLike<number>;
  variance: ArrayLike<number>;
}

/** Which running statistics a form of the step reads. */
function inputsOf(points: readonly NormPoint[], statistics: Statistics): { mean: boolean; inverse: boolean } {
  const running = statistics === 'running' && points.length > 0;
  return { mean: running, inverse: running || points.some((point) => point.scaledFirst) };
}

function freeName(taken: ReadonlyMap<string, unknown>, wish: string): string {
  let name = wish;
  for (let i = 1; taken.has(name); i++) name = `${wish}_${i}`;
  return name;
}

function concat(parts: readonly ArrayLike<number>[]): Float64Array {
  return Float64Array.from(parts.flatMap((part) => Array.from(part)));
}

/** Multiply each output channel of weights by its factor, in place. */
function scaleChannels(weights: Float32Array, point: NormPoint, factors: Float32Array): void {
  const { shape } = point.weight;
  const run = shape.slice(point.weightAxis + 1).reduce((a, b) => a * b, 1);
  for (let i = 0; i < weights.length; i++)
    weights[i] = (weights[i] as number) * (factors[point.offset + (Math.floor(i / run) % point.channels)] as number);
}

/** Statistics of the batch, one vector each for all layers; absent where running ones are used. */
export interface BatchStatistics {
  mean: Value[];
  variance: Value[];
}

interface Written {
  /** To be called when weights have their fake quant. */
  afterFakeQuant(): void;
  batch: BatchStatistics;
}

/**
 * Write the batch norms after their layers, in place. `tensors` are the trained tensors by the name of their slot. The result of each takes the name of the
 * layer's own, so that plans fit as before.
 *
 * By the batch: `y = γ·(c - E[c])/√(Var[c] + ε) + β` for the convolution c without bias. Weights that are scaled first by f = γ/σ give f·c instead, and
 * `y = |γ|·(f·c - E[f·c])/√(Var[f·c] + ε·f²) + β`: the factor is never divided by, so that γ = 0 does no harm
 * (after torch.ao.nn.intrinsic.qat.ConvBn2d, which divides). Running: `W·f` and `β - mean·f`, the folded layer itself.
 */
export function writeNorms(
  b: GraphBuilder,
  points: readonly NormPoint[],
  tensors: ReadonlyMap<string, Value>,
  statistics: Statistics,
): Written {
  const { graph } = b;
  const batch: BatchStatistics = { mean: [], variance: [] };
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const wanted = inputsOf(points, statistics);
  const sizes = points.map((point) => point.channels);
  const vector = (name: string) =>
    vectorParts(b, graph.input(name, { dtype: 'float32', shape: [sizes.reduce((x, y) => x + y, 0)] }), sizes);
  const inverse = wanted.inverse ? vector(normNames.inverse) : [];
  const mean = wanted.mean ? vector(normNames.mean) : [];
  const later: (() => void)[] = [];
  points.forEach((point, index) => {
    const node = nodes.get(point.node) as Node;
    const [gamma, beta] = [tensors.get(point.gamma.name) as Value, tensors.get(point.beta.name) as Value];
    const factor = inverse[index] && b.op('Mul', [gamma, inverse[index]]);
    const scaleWeights = () => {
      const before = node.input(1);
      const scaled = b.op(
        'Mul',
        [before, b.reshape(factor as Value, along(point.weightRank, point.weightAxis))],
        {},
        `${point.node}_scaled`,
      );
      scaled.type = before.type;
      node.setInput(1, scaled);
    };
    if (point.scaledFirst) scaleWeights();
    else if (statistics === 'running') later.push(scaleWeights);
    if (statistics === 'running') {
      node.setInput(2, b.op('Sub', [beta, b.op('Mul', [mean[index], factor as Value])]));
      return;
    }
    node.setInputs(node.inputs.slice(0, 2));
    normaliseByBatch(b, node, point, gamma, beta, point.scaledFirst ? factor : undefined, batch);
  });
  return {
    batch,
    afterFakeQuant: () => {
      for (const write of later) write();
      graph.sort();
    },
  };
}

/** The shape in which a channel vector broadcasts along `axis`. */
const along = (rank: number, axis: number) => Array.from({ length: rank }, (_, at) => (at === axis ? -1 : 1));

/** Smallest ε·f²: of a channel whose γ is 0 the variance is 0 too. */
const tiny = 1e-20;

function normaliseByBatch(
  b: GraphBuilder,
  node: Node,
  point: NormPoint,
  gamma: Value,
  beta: Value,
  factor: Value | undefined,
  batch: BatchStatistics,
): void {
  const result = node.output();
  const raw = new Value(b.graph.freshName(`${point.node}_raw`), result.type);
  [raw.producer, node.outputs[0]] = [node, raw];
  const axes = Array.from({ length: point.rank }, (_, at) => at).filter((at) => at !== point.axis);
  const channel = (value: Value) => b.reshape(value, along(point.rank, point.axis));
  const mean = b.op('ReduceMean', [raw, b.ints(axes)], { keepdims: 1 });
  const centred = b.op('Sub', [raw, mean]);
  const variance = b.op('ReduceMean', [b.op('Mul', [centred, centred]), b.ints(axes)], { keepdims: 1 });
  const epsilon = b.scalar(point.epsilon);
  const floor = factor ? channel(b.op('Max', [b.op('Mul', [b.op('Mul', [factor, factor]), epsilon]), b.scalar(tiny)])) : epsilon;
  const inverse = b.op('Reciprocal', [b.op('Sqrt', [b.op('Add', [variance, floor])])]);
  const scale = b.op('Mul', [channel(factor ? b.op('Abs', [gamma]) : gamma), inverse]);
  const sum = b.node('Add', [b.op('Mul', [centred, scale]), channel(beta)], {}, 1, `${point.node}_norm`);
  // The value that everybody reads is now the sum.
  [sum.outputs[0], result.producer] = [result, sum];
  batch.mean.push(b.reshape(mean, [point.channels]));
  // Running variances are those of the population, of which a batch is a sample.
  const count = axes.reduce((product, axis) => product * Number(result.shape?.[axis]), 1);
  const unbiased = count > 1 ? b.op('Mul', [variance, b.scalar(count / (count - 1))]) : variance;
  batch.variance.push(b.reshape(unbiased, [point.channels]));
}
