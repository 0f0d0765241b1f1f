import { type GraphBuilder, staticShape } from '../ir/builder.js';
import type { Graph, Value } from '../ir/graph.js';
import { spec as facts } from '../ir/ops.js';

export type LossKind = 'cross_entropy' | 'binary_cross_entropy' | 'mse' | 'distillation';

export interface LossSpec {
  kind: LossKind;
  /** Share of the distillation loss beside the label loss, 0..1; 1 for `distillation` alone. */
  distillationWeight: number;
  temperature: number;
}

export const lossFeeds = { target: 'octet_target', teacher: 'octet_teacher' } as const;

/** What kind of numbers the output of a classifier holds. */
export type OutputForm = 'logits' | 'probabilities' | 'log_probabilities';

/** The logits behind an output: a last Softmax, LogSoftmax or Sigmoid (and reshapes behind it) is looked through. */
export function logitsOf(output: Value): { logits: Value; form: OutputForm } {
  let at = output;
  while (at.producer && facts(at.producer.op).keepsElements === 'reshaped') at = at.producer.input(0);
  const op = at.producer?.op;
  if (at.producer && (op === 'Softmax' || op === 'Sigmoid')) return { logits: at.producer.input(0), form: 'probabilities' };
  if (at.producer && op === 'LogSoftmax') return { logits: at.producer.input(0), form: 'log_probabilities' };
  return { logits: output, form: 'logits' };
}

/** What the loss is taken of: the output itself for values, the logits behind it for classes. */
export const lossOutput = (output: Value, kind: LossKind): Value => (kind === 'mse' ? output : logitsOf(output).logits);

/**
 * The scalar loss of a batch. Classification: `target` [B, C] are one-hot labels; distillation adds
 * `T²·KL(softmax(teacher/T) ‖ softmax(z/T))` up to a constant (Hinton et al. 2015, arXiv:1503.02531), for a single logit with the
 * sigmoid in the place of the softmax. MSE: mean over all elements.
 * `target` and `teacher` become graph inputs where the loss needs them.
 */
export function buildLoss(graph: Graph, b: GraphBuilder, spec: LossSpec): Value {
  const output = graph.outputs[0] as Value;
  const terms: Value[] = [];
  const label = 1 - spec.distillationWeight;
  if (spec.kind === 'mse') {
    const shape = staticShape(output);
    if (label > 0) terms.push(weighted(b, squaredError(b, output, graph.input(lossFeeds.target, { dtype: 'float32', shape })), label));
    if (spec.distillationWeight > 0)
      terms.push(
        weighted(b, squaredError(b, output, graph.input(lossFeeds.teacher, { dtype: 'float32', shape })), spec.distillationWeight),
      );
    return total(b, terms);
  }
  const logits = lossOutput(output, spec.kind);
  const shape = staticShape(logits);
  const batch = shape[0] as number;
  const classes = shape.slice(1).reduce((x, y) => x * y, 1);
  const z = shape.length === 2 ? logits : b.reshape(logits, [batch, classes]);
  z.type = { dtype: 'float32', shape: [batch, classes] };
  const binary = spec.kind === 'binary_cross_entropy';
  const each = binary ? binaryCrossEntropy : crossEntropy;
  if (spec.kind !== 'distillation' && label > 0)
    terms.push(weighted(b, each(b, z, graph.input(lossFeeds.target, { dtype: 'float32', shape: [batch, classes] }), batch), label));
  if (spec.distillationWeight > 0) {
    const teacher = graph.input(lossFeeds.teacher, { dtype: 'float32', shape: [batch, classes] });
    const cooled = b.op('Mul', [teacher, b.scalar(1 / spec.temperature)]);
    const soft = binary ? b.op('Sigmoid', [cooled]) : b.op('Softmax', [cooled], { axis: 1 });
    const scaled = b.op('Mul', [z, b.scalar(1 / spec.temperature)]);
    terms.push(weighted(b, each(b, scaled, soft, batch), spec.distillationWeight * spec.temperature * spec.temperature));
  }
  return total(b, terms);
}

const weighted = (b: GraphBuilder, value: Value, weight: number) => (weight === 1 ? value : b.op('Mul', [value, b.scalar(weight)]));

const total = (b: GraphBuilder, terms: readonly Value[]) => terms.reduce((sum, term) => b.op('Add', [sum, term]));

const mean = (b: GraphBuilder, each: Value, count: number) =>
  b.op('Mul', [b.op('ReduceSum', [each], { keepdims: 0 }), b.scalar(1 / count)]);

function crossEntropy(b: GraphBuilder, z: Value, target: Value, batch: number): Value {
  return mean(b, b.op('Neg', [b.op('Mul', [b.op('LogSoftmax', [z], { axis: 1 }), target])]), batch);
}

/** `max(z, 0) - z·y + log(1 + exp(-|z|))`, the mean over samples. */
function binaryCrossEntropy(b: GraphBuilder, z: Value, target: Value, batch: number): Value {
  const soft = b.op('Log', [b.op('Add', [b.op('Exp', [b.op('Neg', [b.op('Abs', [z])])]), b.scalar(1)])]);
  return mean(b, b.op('Add', [b.op('Sub', [b.op('Relu', [z]), b.op('Mul', [z, target])]), soft]), batch);
}

function squaredError(b: GraphBuilder, output: Value, target: Value): Value {
  const difference = b.op('Sub', [output, target]);
  return mean(
    b,
    b.op('Mul', [difference, difference]),
    staticShape(output).reduce((x, y) => x * y, 1),
  );
}
