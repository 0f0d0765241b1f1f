import { differentiate } from '../autodiff/build.js';
import { GraphBuilder } from '../ir/builder.js';
import { Graph, type Node, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { OpType } from '../ir/ops.js';
import type { Tensor } from '../tensor/tensor.js';
import type { MatrixForm } from './matrix.js';

/** A layer in matrix form, as the two programs below take it. All tensors are [group, inputs, outputs], or broadcast to that. */
export interface RoundingLayer {
  form: MatrixForm;
  /** The activation after the layer, node by node; empty where there is none. */
  activation: readonly Node[];
  /** [group, 1, outputs] */
  bias: Tensor<'float32'> | undefined;
  /** Integers below each weight, zero point taken off, and the scale of each. */
  floor: Tensor<'float32'>;
  scale: Tensor<'float32'>;
  /** Ends of the grid, zero point taken off. */
  low: number;
  high: number;
}

/** Names of the feeds and results. */
export const names = {
  x: 'rows',
  y: 'wanted',
  v: 'rounding',
  weight: 'weight',
  beta: 'beta',
  lambda: 'lambda',
  loss: 'loss',
  gradient: 'gradient',
} as const;

/** The stretched sigmoid `h(v) = clip(sigmoid(v)·(ζ - γ) + γ, 0, 1)`. */
export const stretch = { zeta: 1.1, gamma: -0.1 };

/** `a(x·W + b)` for both sides: the squared error, summed over channels and averaged over rows. */
function squaredError(b: GraphBuilder, layer: RoundingLayer, rows: number, x: Value, y: Value, weight: Value): Value {
  const product = b.op('MatMul', [x, weight]);
  const activated = (value: Value) =>
    layer.activation.reduce((at, node) => {
      const constants = node.inputs.slice(1).map((input) => input && b.constant(input.constant as Tensor));
      return b.op(node.op as OpType, [at, ...constants], node.attrs as never);
    }, value);
  const found = activated(layer.bias ? b.op('Add', [product, b.constant(layer.bias, 'bias')]) : product);
  const off = b.op('Sub', [found, activated(y)]);
  return b.op('Mul', [b.op('ReduceSum', [b.op('Mul', [off, off])], { keepdims: 0 }), b.scalar(1 / rows)]);
}

function inputs(graph: Graph, { form }: RoundingLayer, rows: number): { x: Value; y: Value } {
  const { group, inputs, outputs } = form;
  return {
    x: graph.input(names.x, { dtype: 'float32', shape: [group, rows, inputs] }),
    y: graph.input(names.y, { dtype: 'float32', shape: [group, rows, outputs] }),
  };
}

function publish(graph: Graph, value: Value, name: string): void {
  graph.outputs.push(graph.node('Identity', [value], {}, { outputNames: [name] }).output());
}

/** Squared error of a layer with a given weight: rows and weight in, error out. */
export function errorGraph(layer: RoundingLayer, rows: number): Graph {
  const graph = new Graph('rounding_error');
  const { x, y } = inputs(graph, layer, rows);
  const weight = graph.input(names.weight, { dtype: 'float32', shape: layer.floor.shape });
  publish(graph, squaredError(new GraphBuilder(graph), layer, rows, x, y, weight), names.loss);
  inferShapes(graph);
  return graph;
}

/**
 * Gradient of AdaRound's loss by the rounding variables (Nagel et al. 2020, arXiv:2004.10568, equations 21 to 24):
 * `‖a(W̃·x̂ + b) - a(W·x + b)‖² + λ·Σ(1 - |2·h(v) - 1|^β)` with `W̃ = s · clip(⌊W/s⌋ + h(v), low, high)`.
 */
export function gradientGraph(layer: RoundingLayer, rows: number): Graph {
  const graph = new Graph('rounding');
  const b = new GraphBuilder(graph);
  const { x, y } = inputs(graph, layer, rows);
  const v = graph.input(names.v, { dtype: 'float32', shape: layer.floor.shape });
  const beta = graph.input(names.beta, { dtype: 'float32', shape: [] });
  const lambda = graph.input(names.lambda, { dtype: 'float32', shape: [] });
  const { zeta, gamma } = stretch;
  const wide = b.op('Add', [b.op('Mul', [b.op('Sigmoid', [v]), b.scalar(zeta - gamma)]), b.scalar(gamma)]);
  const h = b.op('Clip', [wide, b.scalar(0), b.scalar(1)]);
  const q = b.op('Clip', [b.op('Add', [b.constant(layer.floor, 'floor'), h]), b.scalar(layer.low), b.scalar(layer.high)]);
  const error = squaredError(b, layer, rows, x, y, b.op('Mul', [q, b.constant(layer.scale, 'scale')]));
  const undecided = b.op('Sub', [
    b.scalar(1),
    b.op('Pow', [b.op('Abs', [b.op('Sub', [b.op('Mul', [h, b.scalar(2)]), b.scalar(1)])]), beta]),
  ]);
  const loss = b.op('Add', [error, b.op('Mul', [b.op('ReduceSum', [undecided], { keepdims: 0 }), lambda])]);
  inferShapes(graph);
  const gradient = differentiate(graph, loss, [v]).get(v) as Value;
  publish(graph, gradient, names.gradient);
  inferShapes(graph);
  return graph;
}
