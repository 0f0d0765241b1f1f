import { type GraphBuilder, staticShape } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { sizeOf } from '../tensor/tensor.js';
import { logitsOf, type ModelOutput } from './output.js';
import { type ClassLayout, type LossKind, layoutOf } from './task.js';

/** What one output adds to the loss. */
export interface LossTerm {
  /** Name of the output. */
  output: string;
  kind: LossKind;
  /** Class axis, the batch being axis 0; null where every element stands for itself. */
  axis: number | null;
  /** Share of the distance from the float model's output, 0..1; the rest is the distance from the labels. */
  distillationWeight: number;
  /** Factor of the term. */
  weight: number;
}

/** The loss of a training run: the sum of its terms. */
export interface LossSpec {
  /** The first is that of the output the labels belong to, where there are labels. */
  terms: readonly [LossTerm, ...LossTerm[]];
  /** Of distillation between class scores. */
  temperature: number;
}

/** Names of the graph inputs that hold the targets, and what the float model says to each output. */
export const lossFeeds = {
  target: 'octet_target',
  teacher: (term: number): string => (term === 0 ? 'octet_teacher' : `octet_teacher_${term}`),
} as const;

/** Least probability whose logarithm is taken. */
const leastProbability = 1e-12;

/** What the loss of an output is taken of: the output itself for values, the logits it is made of for scores. */
export function lossOutput(output: Value, kind: LossKind): Value {
  return kind === 'mse' || kind === 'huber' ? output : logitsOf(output).logits;
}

/** What the loss of a term is taken of, one sample of it. */
export interface LossHead {
  /** Name of the tensor. */
  name: string;
  /** Elements of one sample. */
  width: number;
  layout: ClassLayout;
  /** Shape of its targets after the first dimension. */
  row: readonly number[];
}

/** Of a graph whose dimensions are all known. */
export function lossHeads(graph: Graph, { terms }: LossSpec): LossHead[] {
  return terms.map((term) => {
    const output = outputOf(graph, term);
    const value = lossOutput(output, term.kind);
    const [shape, full] = [staticShape(output).slice(1), staticShape(value).slice(1)];
    const width = sizeOf(shape);
    const flat = isRow(shape);
    const row = isScored(term.kind) && isRow(full) ? [sizeOf(full)] : full;
    return { name: value.name, width, layout: layoutOf(flat ? [width] : shape, flat ? 1 : (term.axis ?? 1)), row };
  });
}

/** A target or what the float model says, for `samples` samples, as the loss takes it. */
export const targetShape = ({ width, row }: LossHead, samples: number): number[] => [(samples * width) / sizeOf(row), ...row];

const isScored = (kind: LossKind): boolean => kind === 'cross_entropy' || kind === 'binary_cross_entropy';

/** Whether a sample has one position: its classes are all that it has. */
const isRow = (shape: readonly number[]): boolean => shape.filter((dim) => dim !== 1).length <= 1;

function outputOf(graph: Graph, term: LossTerm): Value {
  const found = graph.outputs.find((value) => value.name === term.output);
  if (!found) throw new Error(`the graph has no output ${term.output}`);
  return found;
}

/**
 * The scalar loss of a batch. Classes: `target` are shares of the classes along the class axis (one-hot for labels), the mean is over samples and
 * positions; distillation adds `T²·KL(softmax(teacher/T) ‖ softmax(z/T))` up to a constant (Hinton et al. 2015, arXiv:1503.02531), for independent
 * scores with the sigmoid in the place of the softmax. Values: the mean over all elements. The targets and what the float model says become graph inputs
 * where the loss needs them.
 */
export function buildLoss(graph: Graph, b: GraphBuilder, spec: LossSpec): Value {
  return total(
    b,
    spec.terms.flatMap((term, at) => termsOf(graph, b, term, at, spec.temperature)),
  );
}

function termsOf(graph: Graph, b: GraphBuilder, term: LossTerm, at: number, temperature: number): Value[] {
  const output = outputOf(graph, term);
  const label = 1 - term.distillationWeight;
  const scored = isScored(term.kind);
  const { z, shape, axis } = scored ? scores(b, output, term) : { z: output, shape: staticShape(output), axis: 1 };
  const each = (own: Value, target: Value) => distances[term.kind](b, own, target, axis, shape);
  const input = (name: string) => graph.input(name, { dtype: 'float32', shape });
  const made: Value[] = [];
  if (label > 0) made.push(weighted(b, each(z, input(lossFeeds.target)), label * term.weight));
  if (term.distillationWeight > 0) {
    const teacher = input(lossFeeds.teacher(at));
    if (!scored) made.push(weighted(b, each(z, teacher), term.distillationWeight * term.weight));
    else {
      const cooled = b.op('Mul', [teacher, b.scalar(1 / temperature)]);
      const soft = term.kind === 'binary_cross_entropy' ? b.op('Sigmoid', [cooled]) : b.op('Softmax', [cooled], { axis });
      const scaled = b.op('Mul', [z, b.scalar(1 / temperature)]);
      made.push(weighted(b, each(scaled, soft), term.distillationWeight * temperature * temperature * term.weight));
    }
  }
  return made;
}

/** The logits of an output: one row a sample as a matrix, everything else as it is. */
function scores(b: GraphBuilder, output: Value, term: LossTerm): { z: Value; shape: number[]; axis: number } {
  const { logits, form, axis: softmaxAxis } = logitsOf(output);
  const full = staticShape(logits);
  const batch = full[0] as number;
  const row = isRow(full.slice(1));
  const axis = row ? 1 : (softmaxAxis ?? term.axis ?? 1);
  const shape = row ? [batch, sizeOf(full.slice(1))] : full;
  // A softmax that cannot be looked through: the logarithm of its shares has the same softmax.
  const hidden = form === 'logits' && term.kind === 'cross_entropy' && output.producer?.op === 'Transpose' && isProbability(output);
  const open = hidden ? b.op('Log', [b.op('Max', [logits, b.scalar(leastProbability)])]) : logits;
  const z = row && full.length !== 2 ? b.reshape(open, shape) : open;
  z.type = { dtype: 'float32', shape };
  return { z, shape, axis };
}

/** Whether a moved output ends in a softmax. */
const isProbability = (output: Value): boolean => output.producer?.input(0).producer?.op === 'Softmax';

type Distance = (b: GraphBuilder, own: Value, target: Value, axis: number, shape: readonly number[]) => Value;

/** A loss kind → the mean distance of an output from its target. */
const distances: { readonly [K in LossKind]: Distance } = {
  cross_entropy: (b, z, target, axis, shape) =>
    mean(b, b.op('Neg', [b.op('Mul', [b.op('LogSoftmax', [z], { axis }), target])]), sizeOf(shape) / (shape[axis] as number)),
  // max(z, 0) - z·y + log(1 + exp(-|z|))
  binary_cross_entropy: (b, z, target, _axis, shape) => {
    const soft = b.op('Log', [b.op('Add', [b.op('Exp', [b.op('Neg', [b.op('Abs', [z])])]), b.scalar(1)])]);
    return mean(b, b.op('Add', [b.op('Sub', [b.op('Relu', [z]), b.op('Mul', [z, target])]), soft]), sizeOf(shape));
  },
  mse: (b, output, target, _axis, shape) => {
    const difference = b.op('Sub', [output, target]);
    return mean(b, b.op('Mul', [difference, difference]), sizeOf(shape));
  },
  // ½d² up to |d| = 1, |d| - ½ beyond, as ½m² + (|d| - m) with m = min(|d|, 1). Source: Huber, Annals of Statistics 35 (1964).
  huber: (b, output, target, _axis, shape) => {
    const size = b.op('Abs', [b.op('Sub', [output, target])]);
    const near = b.op('Min', [size, b.scalar(1)]);
    const far = b.op('Sub', [size, near]);
    return mean(b, b.op('Add', [b.op('Mul', [b.op('Mul', [near, near]), b.scalar(0.5)]), far]), sizeOf(shape));
  },
};

const weighted = (b: GraphBuilder, value: Value, weight: number) => (weight === 1 ? value : b.op('Mul', [value, b.scalar(weight)]));

const total = (b: GraphBuilder, terms: readonly Value[]) => terms.reduce((sum, term) => b.op('Add', [sum, term]));

const mean = (b: GraphBuilder, each: Value, count: number) =>
  b.op('Mul', [b.op('ReduceSum', [each], { keepdims: 0 }), b.scalar(1 / count)]);

/** The loss kind that a float model teaches an output with. */
export const distilled = ({ kind, width }: Pick<ModelOutput, 'kind' | 'width'>): LossKind =>
  kind === 'classes' && width !== 1
    ? 'cross_entropy'
    : kind === 'binary' || (kind === 'classes' && width === 1)
      ? 'binary_cross_entropy'
      : 'mse';
