import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import type { TfModule } from '../backend.js';
import { axisOf, type Call, type Kernel, operand, tensorAt } from './kernel.js';

type ReduceOp = Extract<OpType, `Reduce${string}`>;

/** A reduction over the axes named, over all where none are. */
const reduction =
  <K extends ReduceOp>(f: (tf: TfModule, x: Tf.Tensor, axes: number[], keep: boolean) => Tf.Tensor): Kernel<K> =>
  (given) => {
    const call: Call<ReduceOp> = given;
    const x = tensorAt(call, 0);
    const axes = call.inputs[1]?.numbers.map((axis) => axisOf(axis, x.rank));
    if (!axes?.length && call.node.attr('noop_with_empty_axes')) return f(call.tf, call.tf.expandDims(x, x.rank), [x.rank], false);
    return f(call.tf, x, axes?.length ? axes : x.shape.map((_, axis) => axis), call.node.attr('keepdims') === 1);
  };

const spatial = (x: Tf.Tensor) => x.shape.map((_, axis) => axis).slice(2);

export const reductions = {
  ReduceMean: reduction((tf, x, axes, keep) => tf.mean(x, axes, keep)),
  ReduceSum: reduction((tf, x, axes, keep) => tf.sum(x, axes, keep)),
  ReduceMax: reduction((tf, x, axes, keep) => tf.max(x, axes, keep)),
  ReduceMin: reduction((tf, x, axes, keep) => tf.min(x, axes, keep)),
  ReduceSumSquare: reduction((tf, x, axes, keep) => tf.sum(tf.square(x), axes, keep)),
  ReduceL1: reduction((tf, x, axes, keep) => tf.sum(tf.abs(x), axes, keep)),
  ReduceL2: reduction((tf, x, axes, keep) => tf.sqrt(tf.sum(tf.square(x), axes, keep))),
  ReduceLogSum: reduction((tf, x, axes, keep) => tf.log(tf.sum(x, axes, keep))),
  ReduceLogSumExp: reduction((tf, x, axes, keep) => tf.logSumExp(x, axes, keep)),
  ReduceProd: reduction((tf, x, axes, keep) => tf.prod(x, axes, keep)),
  CumSum: (call) => {
    const x = tensorAt(call, 0);
    const axis = axisOf(operand(call, 1).numbers[0] as number, x.rank);
    return call.tf.cumsum(x, axis, call.node.attr('exclusive') === 1, call.node.attr('reverse') === 1);
  },
  GlobalAveragePool: (call) => call.tf.mean(tensorAt(call, 0), spatial(tensorAt(call, 0)), true),
  GlobalMaxPool: (call) => call.tf.max(tensorAt(call, 0), spatial(tensorAt(call, 0)), true),
} satisfies { [K in OpType]?: Kernel<K> };
