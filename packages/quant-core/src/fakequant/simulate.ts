import type { Graph, Node, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { AffineParams } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import { insertFakeQuant } from './insert.js';
import type { ActivationPoint, BiasPoint, QuantPlan } from './plan.js';
import { roundedBias, type WeightRange, type WeightScales, weightScales } from './scales.js';

/** Scale and zero point of everything in a plan, by position in it. */
export interface ScaleTable {
  activations: readonly AffineParams[];
  weights: readonly WeightScales[];
}

/** The weights of the plan as tensors of `graph`. */
export function planWeights(graph: Graph, plan: QuantPlan): Tensor<'float32'>[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  return plan.weights.map((point) => nodes.get(point.node)?.input(point.port).constant?.as('float32') as Tensor<'float32'>);
}

/** Scales of every weight of the plan, from the values in `graph`. */
export function scalesOfWeights(graph: Graph, plan: QuantPlan, ranges: ReadonlyMap<string, WeightRange>): WeightScales[] {
  return planWeights(graph, plan).map((tensor, index) => {
    const point = plan.weights[index] as QuantPlan['weights'][number];
    return weightScales(tensor.data, tensor.shape, point, ranges.get(point.value));
  });
}

/** Constants for scale and zero point: a scalar each, or one entry a channel. */
export function scaleConstants(
  graph: Graph,
  name: string,
  dtype: 'uint8' | 'int8',
  scale: Float32Array | number,
  zeroPoint: ArrayLike<number> | number,
): { scale: Value; zeroPoint: Value } {
  const single = typeof scale === 'number';
  const scales = single ? Tensor.scalar(scale) : Tensor.float32([scale.length], scale);
  const points = typeof zeroPoint === 'number' ? [zeroPoint] : Array.from(zeroPoint);
  const shape = single ? [] : [points.length];
  const zero = dtype === 'uint8' ? new Tensor('uint8', shape, Uint8Array.from(points)) : new Tensor('int8', shape, Int8Array.from(points));
  return { scale: graph.constant(`${name}_scale`, scales), zeroPoint: graph.constant(`${name}_zero_point`, zero) };
}

/** Scale of the input of the layer that a bias belongs to. */
export function inputScaleOf(plan: QuantPlan, table: ScaleTable, bias: BiasPoint): number {
  const point = plan.activations.find((activation) => activation.value === bias.input) as ActivationPoint;
  return (table.activations[point.group] as AffineParams).scale;
}

/** The fake-quant graph with fixed scales and rounded biases: what the int8 model computes, in float. */
export function simulate(graph: Graph, plan: QuantPlan, table: ScaleTable): Graph {
  const copy = graph.clone();
  const nodes = new Map(copy.nodes.map((node) => [node.name, node]));
  for (const bias of plan.biases) {
    const node = nodes.get(bias.node) as Node;
    const weight = table.weights[plan.weights.findIndex((point) => point.node === bias.node)] as WeightScales;
    const rounded = roundedBias(
      node.input(bias.port).constant?.as('float32') as Tensor<'float32'>,
      inputScaleOf(plan, table, bias),
      weight,
    );
    node.setInput(bias.port, copy.constant(bias.value, rounded));
  }
  const shared = plan.groups.map((group, index) => {
    const params = table.activations[index] as AffineParams;
    return scaleConstants(copy, `group_${index}`, group.grid.dtype, params.scale, params.zeroPoint);
  });
  insertFakeQuant(copy, plan, {
    activation: (group) => shared[group] as { scale: Value; zeroPoint: Value },
    weight: (index) => {
      const point = plan.weights[index] as QuantPlan['weights'][number];
      const { scale, zeroPoint } = table.weights[index] as WeightScales;
      return point.axis === undefined
        ? scaleConstants(copy, point.value, point.grid.dtype, scale[0] as number, zeroPoint[0] as number)
        : scaleConstants(copy, point.value, point.grid.dtype, scale, zeroPoint);
    },
  });
  inferShapes(copy);
  return copy;
}
