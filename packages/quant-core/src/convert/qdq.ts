import { beforeAbsorbed } from '../fakequant/absorb.js';
import { clipIntegers, fillsType } from '../fakequant/insert.js';
import { padsWithZero } from '../fakequant/obstacles.js';
import type { BiasPoint, QuantPlan, WeightPoint } from '../fakequant/plan.js';
import { int32Max, quantizeBias, quantizeWeight, type WeightScales } from '../fakequant/scales.js';
import { inputScaleOf, planWeights, type ScaleTable, scaleConstants } from '../fakequant/simulate.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { AffineParams, QuantGrid } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import { alignDepthwise } from './depthwise.js';
import { packWeights } from './pack.js';
import { poolWhole } from './pools.js';
import { widenInputs } from './widen.js';

export interface Converted {
  graph: Graph;
  /** What was changed to fit the integers, for the report. */
  notes: { node: string; text: string }[];
  /** Scales as written: weight scales may have been raised for a bias. */
  table: ScaleTable;
}

/**
 * The int8 model: weights as int8 constants, biases as int32 with scale `s_in · s_w`, QuantizeLinear/DequantizeLinear around
 * every integer op, activations that the requantization absorbs dropped where that is exact. The interface stays float.
 */
export function toQdq(graph: Graph, plan: QuantPlan, table: ScaleTable): Converted {
  const copy = graph.clone();
  const notes: { node: string; text: string }[] = [];
  const nodes = new Map(copy.nodes.map((node) => [node.name, node]));
  const values = new Map(copy.values().map((value) => [value.name, value]));
  const biasOf = new Map(plan.biases.map((bias) => [bias.node, bias]));
  const weightScale = table.weights.map((scales, index) => {
    const point = plan.weights[index] as WeightPoint;
    const bias = biasOf.get(point.node);
    if (!bias) return scales;
    return raisedForBias(scales, biasTensor(nodes, bias), inputScaleOf(plan, table, bias), (channel) => {
      notes.push({ node: point.node, text: `the scale of channel ${channel} was raised so that its bias fits int32` });
    });
  });
  const weights = planWeights(copy, plan);
  plan.weights.forEach((point, index) => {
    writeWeight(copy, nodes.get(point.node) as Node, point, weights[index] as Tensor<'float32'>, weightScale[index] as WeightScales);
  });
  for (const bias of plan.biases) {
    const index = plan.weights.findIndex((point) => point.node === bias.node);
    writeBias(copy, nodes, bias, weightScale[index] as WeightScales, inputScaleOf(plan, table, bias));
  }
  for (const point of plan.activations) {
    const group = plan.groups[point.group] as QuantPlan['groups'][number];
    const params = table.activations[point.group] as AffineParams;
    writeActivation(copy, values.get(point.value) as Value, point.readers, group.grid, params);
  }
  copy.sort();
  padIntegers(copy);
  inferShapes(copy);
  poolWhole(copy);
  alignDepthwise(copy);
  widenInputs(copy);
  packWeights(copy, plan);
  inferShapes(copy);
  return { graph: copy, notes, table: { activations: table.activations, weights: weightScale } };
}

const biasTensor = (nodes: ReadonlyMap<string, Node>, bias: BiasPoint) =>
  nodes.get(bias.node)?.input(bias.port).constant?.as('float32') as Tensor<'float32'>;

/** A bias beyond int32 raises the scale of its weights, as ONNX Runtime's own quantizer does. */
function raisedForBias(scales: WeightScales, bias: Tensor<'float32'>, inputScale: number, note: (channel: number) => void): WeightScales {
  const scale = scales.scale.slice();
  const single = scale.length === 1;
  bias.data.forEach((value, channel) => {
    const at = single ? 0 : channel;
    // A margin of 2 keeps the accumulator away from the edge as well.
    const least = (2 * Math.abs(value)) / (int32Max * inputScale);
    if ((scale[at] as number) >= least) return;
    scale[at] = least;
    note(channel);
  });
  return { scale, zeroPoint: scales.zeroPoint };
}

function writeWeight(graph: Graph, node: Node, point: WeightPoint, tensor: Tensor<'float32'>, scales: WeightScales): void {
  const integers = new Tensor('int8', tensor.shape, quantizeWeight(tensor, point, scales));
  const constants =
    point.axis === undefined
      ? scaleConstants(graph, point.value, 'int8', scales.scale[0] as number, scales.zeroPoint[0] as number)
      : scaleConstants(graph, point.value, 'int8', scales.scale, scales.zeroPoint);
  const stored = graph.constant(`${point.value}_int8`, integers);
  const attrs = point.axis === undefined ? {} : { axis: point.axis };
  const dequantize = graph.node('DequantizeLinear', [stored, constants.scale, constants.zeroPoint], attrs, {
    name: `${point.value}_dequantize`,
  });
  node.setInput(point.port, dequantize.output());
}

function writeBias(graph: Graph, nodes: ReadonlyMap<string, Node>, bias: BiasPoint, weight: WeightScales, inputScale: number): void {
  const node = nodes.get(bias.node) as Node;
  const tensor = biasTensor(nodes, bias);
  const { integers, scale } = quantizeBias(tensor, inputScale, weight);
  const single = scale.length === 1;
  const shape = single ? [] : [scale.length];
  const stored = graph.constant(`${bias.value}_int32`, new Tensor('int32', tensor.shape, integers));
  const scales = graph.constant(`${bias.value}_scale`, Tensor.float32(shape, scale));
  const zero = graph.constant(`${bias.value}_zero_point`, new Tensor('int32', shape, new Int32Array(scale.length)));
  const dequantize = graph.node('DequantizeLinear', [stored, scales, zero], single ? {} : { axis: 0 }, {
    name: `${bias.value}_dequantize`,
  });
  node.setInput(bias.port, dequantize.output());
}

function writeActivation(graph: Graph, float: Value, chosen: readonly string[] | undefined, grid: QuantGrid, params: AffineParams): void {
  const readers = new Set(chosen ?? float.readers.map((node) => node.name));
  const before = [...float.readers];
  const source = chosen ? float : beforeAbsorbed(float, grid, params);
  const { scale, zeroPoint } = scaleConstants(graph, float.name, grid.dtype, params.scale, params.zeroPoint);
  const quantize = graph.node('QuantizeLinear', [source, scale, zeroPoint], {}, { name: `${float.name}_quantize` });
  const integers = fillsType(grid) ? quantize.output() : clipIntegers(graph, quantize.output(), grid, float.name).output();
  const dequantize = graph.node('DequantizeLinear', [integers, scale, zeroPoint], {}, { name: `${float.name}_dequantize` });
  const output = dequantize.output();
  for (const reader of before) {
    if (!readers.has(reader.name)) continue;
    reader.inputs.forEach((value, port) => {
      if (value === float) reader.setInput(port, output);
    });
  }
  if (!chosen && graph.outputs.includes(float)) {
    [float.name, output.name] = [output.name, float.name];
    graph.outputs.splice(0, graph.outputs.length, ...graph.outputs.map((value) => (value === float ? output : value)));
  }
  for (let node = float.producer; node && source !== float && node.output().readers.length === 0; ) {
    const up: Node | undefined = node.inputs[0]?.producer;
    const done = node.inputs[0] === source;
    graph.remove(node);
    node = done ? undefined : up;
  }
}

/**
 * DequantizeLinear → Pad → QuantizeLinear on one scale becomes a Pad of the integers with the zero point: the runtime has no
 * rule of its own for Pad, and would leave float arithmetic there.
 */
function padIntegers(graph: Graph): void {
  for (const node of [...graph.nodes]) {
    if (!node.is('Pad') || node.attr('mode') !== 'constant' || !padsWithZero(node)) continue;
    const before = node.input(0).producer;
    const after = node.output().readers.length === 1 ? node.output().readers[0] : undefined;
    if (!before?.is('DequantizeLinear') || !after?.is('QuantizeLinear') || graph.outputs.includes(node.output())) continue;
    if (!sameConstant(before.inputs[1], after.inputs[1]) || !sameConstant(before.inputs[2], after.inputs[2])) continue;
    const axes = node.inputs[3];
    const zeroPoint = before.inputs[2]?.constant;
    if (!zeroPoint) continue;
    const fill = graph.constant(`${node.name}_fill`, zeroPoint);
    const padded = graph.node('Pad', [before.input(0), node.input(1), fill, ...(axes ? [axes] : [])], {}, { name: node.name });
    graph.replaceAll(after.output(), padded.output());
    graph.remove(after);
    graph.remove(node);
    if (before.output().readers.length === 0 && !graph.outputs.includes(before.output())) graph.remove(before);
  }
  graph.sort();
}

const sameConstant = (a: Value | undefined, b: Value | undefined) =>
  a?.constant !== undefined && b?.constant !== undefined && Buffer.compare(a.constant.raw, b.constant.raw) === 0;
