import type { Graph, Node, Value } from '../ir/graph.js';
import type { QuantGrid } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import type { ActivationPoint, QuantPlan, WeightPoint } from './plan.js';

/** Where scales and zero points come from: constants for a simulation, step inputs while training. */
export interface ScaleSource {
  activation(group: number): { scale: Value; zeroPoint: Value };
  weight(index: number): { scale: Value; zeroPoint: Value };
}

export interface InsertedActivation {
  point: ActivationPoint;
  /** The float value that is quantized. */
  float: Value;
  quantize: Node<'QuantizeLinear'>;
  dequantize: Node<'DequantizeLinear'>;
  /** Every node of the fake quant, in order. */
  chain: Node[];
}

export interface InsertedWeight {
  point: WeightPoint;
  quantize: Node<'QuantizeLinear'>;
  dequantize: Node<'DequantizeLinear'>;
}

export interface Inserted {
  activations: InsertedActivation[];
  weights: InsertedWeight[];
}

/** Whether the grid is all of its integer type, so that saturation alone keeps values inside. */
export const fillsType = (grid: QuantGrid): boolean =>
  grid.dtype === 'uint8' ? grid.qmin === 0 && grid.qmax === 255 : grid.qmin <= -127 && grid.qmax === 127;

/**
 * Put a fake quant (QuantizeLinear, then a clip on the integers where the grid is narrower than its type, then
 * DequantizeLinear) on every activation and weight of the plan. Returns the nodes that were made.
 */
export function insertFakeQuant(graph: Graph, plan: QuantPlan, source: ScaleSource): Inserted {
  const values = new Map(graph.values().map((value) => [value.name, value]));
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const activations = plan.activations.map((point) => {
    const float = values.get(point.value) as Value;
    const { scale, zeroPoint } = source.activation(point.group);
    const before = [...float.readers];
    const grid = plan.groups[point.group]?.grid as QuantGrid;
    const quantize = graph.node('QuantizeLinear', [float, scale, zeroPoint], {}, { name: `${point.value}_quantize` });
    const chain: Node[] = [quantize];
    let integers = quantize.output();
    if (!fillsType(grid)) {
      const clip = clipIntegers(graph, integers, grid, point.value);
      chain.push(clip);
      integers = clip.output();
    }
    const dequantize = graph.node('DequantizeLinear', [integers, scale, zeroPoint], {}, { name: `${point.value}_dequantize` });
    chain.push(dequantize);
    const output = dequantize.output();
    output.type = float.type;
    const chosen = point.readers ? new Set(point.readers) : undefined;
    for (const reader of before) {
      if (chosen && !chosen.has(reader.name)) continue;
      reader.inputs.forEach((value, port) => {
        if (value === float) reader.setInput(port, output);
      });
    }
    if (!chosen && graph.outputs.includes(float)) {
      [float.name, output.name] = [output.name, float.name];
      graph.outputs.splice(0, graph.outputs.length, ...graph.outputs.map((value) => (value === float ? output : value)));
    }
    return { point, float, quantize, dequantize, chain };
  });
  const weights = plan.weights.map((point, index) => {
    const node = nodes.get(point.node) as Node;
    const weight = node.input(point.port);
    const { scale, zeroPoint } = source.weight(index);
    const axis = point.axis === undefined ? {} : { axis: point.axis };
    const quantize = graph.node('QuantizeLinear', [weight, scale, zeroPoint], axis, { name: `${point.value}_quantize` });
    let integers = quantize.output();
    if (!fillsType(point.grid)) integers = clipIntegers(graph, integers, point.grid, point.value).output();
    const dequantize = graph.node('DequantizeLinear', [integers, scale, zeroPoint], axis, { name: `${point.value}_dequantize` });
    dequantize.output().type = weight.type;
    node.setInput(point.port, dequantize.output());
    return { point, quantize, dequantize };
  });
  graph.sort();
  return { activations, weights };
}

/** `min(max(q, qmin), qmax)` on the integers themselves. */
export function clipIntegers(graph: Graph, integers: Value, grid: QuantGrid, name: string): Node<'Clip'> {
  const make =
    grid.dtype === 'uint8'
      ? (v: number) => new Tensor('uint8', [], Uint8Array.of(v))
      : (v: number) => new Tensor('int8', [], Int8Array.of(v));
  const low = graph.constant(`${name}_qmin`, make(grid.qmin));
  const high = graph.constant(`${name}_qmax`, make(grid.qmax));
  return graph.node('Clip', [integers, low, high], {}, { name: `${name}_range` });
}
