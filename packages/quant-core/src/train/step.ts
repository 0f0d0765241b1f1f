import { differentiate } from '../autodiff/build.js';
import { straightThrough } from '../autodiff/straightThrough.js';
import { rangesOf } from '../calibrate/observe.js';
import type { InsertedActivation } from '../fakequant/insert.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { type GraphBuilder, staticShape } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { bindDims, inferShapes } from '../ir/infer.js';
import { runPasses } from '../ir/pass.js';
import { deadCode } from '../normalise/deadCode.js';
import { buildLoss, type LossSpec, lossOutput } from '../tasks/loss.js';
import { Tensor } from '../tensor/tensor.js';
import { type NormPoint, normNames } from './batchNorm.js';
import { type Forward, type KeptNorms, parameterise } from './forward.js';
import type { LearnedSelection } from './learnedScales.js';
import type { ParameterLayout } from './parameters.js';

export interface StepSpec {
  /** Normalised float graph; its batch dimension is named `batchSymbol`. */
  graph: Graph;
  /** Samples of one run: the batch, or one shard of it. */
  batch: number;
  batchSymbol: string;
  /** Sizes of the other dimensions that the model leaves open, such as those of its images. */
  sizes?: Readonly<Record<string, number>>;
  layout: ParameterLayout;
  /** Absent: a float training step. */
  plan?: QuantPlan;
  loss: LossSpec;
  /** Whether the step also reports the range of every observed activation. */
  observe: boolean;
  /** Names of weights that do not keep all of their range, so that the estimator masks them too. */
  clippedWeights?: ReadonlySet<string>;
  /** Scales that are trained beside the parameters. */
  learned?: LearnedSelection;
  /** Batch norms that come after their layers; the step reports the statistics of the batch where it normalises by them. */
  norms?: KeptNorms;
}

export const stepOutputs = {
  loss: 'octet_loss',
  gradient: 'octet_gradient',
  scaleGradient: 'octet_scale_gradient',
  minimum: 'octet_minimum',
  maximum: 'octet_maximum',
} as const;

export interface TrainingStep {
  graph: Graph;
  /** Names of the activations whose ranges are reported, in order. */
  observed: string[];
  /** Names of the trained tensors that the loss does not depend on, or only through operators without a gradient. */
  unreached: string[];
}

/** Activations whose range is looked at: those that do not merely repeat the range of another member of their group, nor learn it. */
function observedActivations(inserted: readonly InsertedActivation[], plan: QuantPlan, learned: LearnedSelection): InsertedActivation[] {
  return inserted.filter(({ point }) => !plan.groups[point.group]?.fixed && !point.repeats && !learned.groups.has(point.group));
}

const nothingLearned: LearnedSelection = { weights: new Set(), groups: new Set() };

/**
 * One training step up to the gradient as an ordinary graph: forward pass with fake quant, loss, gradients of all parameters as
 * one flat vector. Inputs: the samples, target and/or teacher, parameters, scales; outputs: loss, gradient and, with `observe`,
 * the range of every observed activation. The update is not a part of it (`optimizer.ts`), so that a batch can be split.
 */
export function buildTrainingStep(spec: StepSpec): TrainingStep {
  const graph = spec.graph.clone();
  bindDims(graph, { ...spec.sizes, [spec.batchSymbol]: spec.batch });
  const forward = parameterise(graph, spec.layout, spec.plan, true, spec.norms);
  inferShapes(graph);
  const { b } = forward;
  const learned = spec.learned ?? nothingLearned;
  const custom =
    forward.inserted && spec.plan
      ? straightThrough(forward.inserted, spec.plan, {
          activationEnds: (group) => ({ low: forward.low[group] as Value, high: forward.high[group] as Value }),
          weightEnds: (index) => weightEnds(forward, spec, index),
          learned: { activation: (group) => learned.groups.has(group), weight: (index) => learned.weights.has(index) },
        })
      : undefined;
  const scales = [
    ...[...learned.weights].map((index) => forward.weightScale[index] as Value),
    ...[...learned.groups].map((group) => forward.activationScale[group] as Value),
  ];
  const loss = buildLoss(graph, b, spec.loss);
  inferShapes(graph);
  const gradients = differentiate(graph, loss, [...forward.parameters, ...scales], custom);
  // The model's own output is not a result of the step, unless the loss is the output itself.
  graph.outputs.length = 0;

  const flat = (values: readonly Value[]) =>
    b.op(
      'Concat',
      values.map((value) => {
        const size = staticShape(value).reduce((x, y) => x * y, 1);
        const gradient = gradients.get(value);
        return gradient ? b.reshape(gradient, [size]) : b.constant(Tensor.zeros('float32', [size]), 'no_gradient');
      }),
      { axis: 0 },
    );
  const publish = (value: Value, name: string) => {
    graph.outputs.push(graph.node('Identity', [value], {}, { outputNames: [name] }).output());
  };
  publish(loss, stepOutputs.loss);
  publish(flat(forward.parameters), stepOutputs.gradient);
  if (scales.length) publish(flat(scales), stepOutputs.scaleGradient);
  if (spec.norms?.statistics === 'batch') publishStatistics(b, forward, publish);
  const observed =
    spec.observe && forward.inserted && spec.plan ? observedActivations(forward.inserted.activations, spec.plan, learned) : [];
  if (observed.length) {
    const { minimum, maximum } = rangesOf(
      b,
      observed.map(({ float }) => float),
    );
    publish(minimum, stepOutputs.minimum);
    publish(maximum, stepOutputs.maximum);
  }
  inferShapes(graph);
  const unreached = spec.layout.slots.flatMap(({ name }, index) => (gradients.has(forward.parameters[index] as Value) ? [] : [name]));
  return { graph, observed: observed.map(({ point }) => point.value), unreached };
}

/** Mean and variance of the batch for every channel of every batch norm. */
function publishStatistics(b: GraphBuilder, { statistics }: Forward, publish: (value: Value, name: string) => void): void {
  if (!statistics?.mean.length) return;
  publish(b.op('Concat', statistics.mean, { axis: 0 }), normNames.batchMean);
  publish(b.op('Concat', statistics.variance, { axis: 0 }), normNames.batchVariance);
}

/** The real ends of the grid of a clipped or learned weight, broadcast over its channels; absent where no value can lie outside. */
function weightEnds(forward: Forward, spec: StepSpec, index: number): { low: Value; high: Value } | undefined {
  const point = spec.plan?.weights[index];
  if (!point || !(spec.clippedWeights?.has(point.value) || spec.learned?.weights.has(index))) return undefined;
  const { b } = forward;
  const scale = forward.weightScale[index] as Value;
  const slot = spec.layout.slots.find((entry) => entry.name === point.value);
  const shape = slot ? slot.shape.map((dim, axis) => (axis === point.axis ? dim : 1)) : [1];
  const end = (q: number) => b.reshape(b.op('Mul', [scale, b.scalar(q)]), shape);
  return { low: end(point.grid.qmin), high: end(point.grid.qmax) };
}

/** The forward half alone, over any batch size: outputs what each term of the loss is taken of. */
export function buildForward(
  graph: Graph,
  layout: ParameterLayout,
  plan: QuantPlan | undefined,
  loss: LossSpec,
): { graph: Graph; outputs: string[] } {
  const copy = graph.clone();
  parameterise(copy, layout, plan, false);
  const heads = loss.terms.map((term) => lossOutput(copy.outputs.find((value) => value.name === term.output) as Value, term.kind));
  copy.outputs.splice(0, copy.outputs.length, ...new Set(heads));
  inferShapes(copy);
  return { graph: copy, outputs: heads.map((head) => head.name) };
}

/** The forward half that normalises by the samples of a run, over any batch size: outputs the statistics of every batch norm that is kept. */
export function buildStatistics(graph: Graph, layout: ParameterLayout, plan: QuantPlan, points: readonly NormPoint[]): Graph {
  const copy = graph.clone();
  const forward = parameterise(copy, layout, plan, false, { points, statistics: 'batch' });
  copy.outputs.length = 0;
  publishStatistics(forward.b, forward, (value, name) => {
    copy.outputs.push(copy.node('Identity', [value], {}, { outputNames: [name] }).output());
  });
  runPasses(copy, [deadCode]);
  return copy;
}
