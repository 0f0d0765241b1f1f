import { type GraphBuilder, staticShape } from '../../ir/builder.js';
import type { Node, Value } from '../../ir/graph.js';
import type { Reduction } from '../../ir/shapes/reduce.js';
import { sizeOf } from '../../tensor/tensor.js';
import { constantInts, expanded, type GradientRule, kept, normalised, rule, untrainable } from '../rule.js';

/** Axes of a Reduce op, none given meaning all. */
function reducedAxes(node: Node<Reduction>): number[] {
  const rank = staticShape(node.input(0)).length;
  const axes = constantInts(node.inputs[1]);
  if (!axes && node.inputs[1]) throw untrainable(node, 'its axes are not constant');
  if (!axes?.length) return node.attr('noop_with_empty_axes') ? [] : Array.from({ length: rank }, (_, i) => i);
  return axes.map((axis) => normalised(axis, rank));
}

interface Reduced {
  b: GraphBuilder;
  x: Value;
  /** Gradient and result, in the shape of the input. */
  dy: Value;
  y: () => Value;
  shape: readonly number[];
  axes: readonly number[];
}

/** `body` gives dx from x and what is expanded to its shape. */
const reduction = <K extends Reduction>(body: (parts: Reduced) => Value): GradientRule<K> =>
  rule((node, dy, _wanted, b) => {
    const [x, shape, axes] = [node.input(0), staticShape(node.input(0)), reducedAxes(node)];
    const y = () => expanded(b, node.output(), shape, axes);
    return [body({ b, x, dy: expanded(b, dy, shape, axes), y, shape, axes }), undefined];
  });

/** Ties share the gradient equally. */
const extremum = <K extends 'ReduceMax' | 'ReduceMin'>(): GradientRule<K> =>
  rule((node, dy, _wanted, b) => {
    const x = node.input(0);
    const shape = staticShape(x);
    const axes = reducedAxes(node);
    const hit = b.toFloat(b.op('Equal', [x, expanded(b, node.output(), shape, axes)]));
    const share = b.op('Div', [b.reshape(dy, kept(shape, axes)), b.sum(hit, axes, true)]);
    return [b.op('Mul', [hit, share]), undefined];
  });

export const reduceRules = {
  ReduceSum: reduction<'ReduceSum'>(({ dy }) => dy),
  ReduceMean: reduction<'ReduceMean'>(({ b, dy, shape, axes }) =>
    b.op('Mul', [dy, b.scalar(1 / sizeOf(axes.map((axis) => shape[axis] as number)))]),
  ),
  ReduceMax: extremum<'ReduceMax'>(),
  ReduceMin: extremum<'ReduceMin'>(),
  ReduceSumSquare: reduction<'ReduceSumSquare'>(({ b, x, dy }) => b.op('Mul', [b.op('Mul', [x, b.scalar(2)]), dy])),
  ReduceL1: reduction<'ReduceL1'>(({ b, x, dy }) => b.op('Mul', [b.op('Sign', [x]), dy])),
  // x / ‖x‖, and 0 where the norm is.
  ReduceL2: reduction<'ReduceL2'>(({ b, x, dy, y }) => b.op('Mul', [dy, b.op('Div', [x, b.op('Max', [y(), b.scalar(1e-30)])])])),
  ReduceLogSum: reduction<'ReduceLogSum'>(({ b, dy, y }) => b.op('Div', [dy, b.op('Exp', [y()])])),
  ReduceLogSumExp: reduction<'ReduceLogSumExp'>(({ b, x, dy, y }) => b.op('Mul', [dy, b.op('Exp', [b.op('Sub', [x, y()])])])),
};
