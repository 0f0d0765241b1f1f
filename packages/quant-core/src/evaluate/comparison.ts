import { clipIntegers } from '../fakequant/insert.js';
import { scaleConstants } from '../fakequant/simulate.js';
import { GraphBuilder } from '../ir/builder.js';
import { copyNode } from '../ir/extract.js';
import { Graph, type Node, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import type { AffineParams, QuantGrid } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';

/** One tensor of two networks that are compared. */
export interface ComparedTensor {
  /** In the float network. */
  float: Value;
  /** In the simulation of the quantized one. */
  simulated: Value;
  /** Per-tensor grid of the tensor; without it rounding and clipping are not measured. */
  grid?: AffineParams & QuantGrid;
  /** Where the layer alone begins, in both networks: it is run from the float network's value as well. */
  from?: { float: Value; simulated: Value };
}

/** Name of the only output of a comparison. */
export const comparisonOutput = 'octet_comparison';

/** Figures of one tensor over a batch, in the order the comparison gives them. */
export const figures = ['count', 'signal', 'noise', 'local', 'low', 'high', 'rounding', 'inside'] as const;
export type FigureName = (typeof figures)[number];

const typeEnds = { uint8: [0, 255], int8: [-128, 127] } as const;

/** Copies what is needed of networks into one graph, each node when it is first asked for. */
class Copier {
  private readonly constants = new Map<Tensor, Value>();

  constructor(private readonly graph: Graph) {}

  /** The twin of a value, after everything it depends on has been copied; `twins` holds what is there already. */
  take(value: Value, twins: Map<Value, Value>): Value {
    const stack = [value];
    while (stack.length) {
      const top = stack.at(-1) as Value;
      const { producer } = top;
      if (twins.has(top)) stack.pop();
      else if (!producer) twins.set(top, this.constant(top));
      else {
        const missing = producer.inputs.filter((input): input is Value => input !== undefined && !twins.has(input));
        if (missing.length) stack.push(...missing.reverse());
        else this.graph.nodes.push(copyNode(this.graph, producer, twins));
      }
    }
    return twins.get(value) as Value;
  }

  /** Both networks share the tensors that are the same in both. */
  private constant({ name, constant }: Value): Value {
    if (!constant) throw new Error(`${name} is neither an input nor a constant`);
    const known = this.constants.get(constant) ?? this.graph.constant(name, constant);
    this.constants.set(constant, known);
    return known;
  }
}

/** Values that depend on `from`, itself included. */
function dependentsOf(from: Value): Set<Value> {
  const found = new Set([from]);
  for (const value of found) for (const reader of value.readers) for (const output of reader.outputs) found.add(output);
  return found;
}

/** The layer alone: what lies between `from` and the tensor is copied once more, fed with the float network's value; the rest, weights above all, is shared. */
function alone(
  copier: Copier,
  { simulated, from }: Required<Pick<ComparedTensor, 'simulated' | 'from'>>,
  float: Value,
  twins: Map<Value, Value>,
): Value {
  const own = new Map<Value, Value>([[from.simulated, float]]);
  const dependent = dependentsOf(from.simulated);
  const seen = new Set<Node>();
  const stack = [simulated];
  for (let value = stack.pop(); value; value = stack.pop()) {
    if (value === from.simulated) continue;
    if (!dependent.has(value)) own.set(value, copier.take(value, twins));
    else if (value.producer && !seen.has(value.producer)) {
      seen.add(value.producer);
      for (const input of value.producer.inputs) if (input) stack.push(input);
    }
  }
  return copier.take(simulated, own);
}

/** The float32 next to `x` on the side of `direction`, or `x` itself where it is one: `v < x` and `v < float32Towards(x, 1)` are the same for every float32 `v`. */
function float32Towards(x: number, direction: 1 | -1): number {
  const near = Math.fround(x);
  if (direction > 0 ? near >= x : near <= x) return near;
  const bits = new Int32Array(Float32Array.of(near).buffer);
  const away = near > 0 === direction > 0;
  bits[0] = near === 0 ? (direction > 0 ? 1 : -2147483647) : (bits[0] as number) + (away ? 1 : -1);
  return new Float32Array(bits.buffer)[0] as number;
}

/**
 * Both networks in one graph, which gives sums about each of `tensors` and none of the tensors themselves: [tensors · figures], the last tensor first.
 * `tensors` stand in the order the networks compute them. The networks are laid down side by side, so that a tensor and what it is compared with live at the same time and nothing else does: of the
 * inputs of a Concat the runtime computes the one latest in the file first (docs/decisions/0008-memory-of-a-step.md), and the engine puts what serves one input
 * alone in the order of the inputs.
 */
export function comparisonGraph(float: Graph, simulation: Graph, tensors: readonly ComparedTensor[]): Graph {
  const graph = new Graph(float.name);
  graph.opset = Math.max(float.opset, simulation.opset);
  graph.origin = float.origin;
  const [ofFloat, ofSimulation] = [new Map<Value, Value>(), new Map<Value, Value>()];
  for (const [index, input] of float.inputs.entries()) {
    const twin = graph.input(input.name, input.type ?? { dtype: 'float32' });
    ofFloat.set(input, twin);
    ofSimulation.set(simulation.inputs[index] as Value, twin);
  }
  const copier = new Copier(graph);
  const b = new GraphBuilder(graph);
  const rows = tensors.map((tensor) => {
    const x = copier.take(tensor.float, ofFloat);
    const y = copier.take(tensor.simulated, ofSimulation);
    const { from, simulated } = tensor;
    const local = from && alone(copier, { simulated, from }, copier.take(from.float, ofFloat), ofSimulation);
    return figuresOf(b, x, y, local, tensor.grid);
  });
  const all = b.op('Concat', rows.reverse(), { axis: 0 });
  graph.outputs.push(graph.node('Identity', [all], {}, { outputNames: [comparisonOutput] }).output());
  inferShapes(graph);
  return graph;
}

/** A vector of `figures`: those that are not asked for are 0. */
function figuresOf(b: GraphBuilder, float: Value, simulated: Value, local: Value | undefined, grid: ComparedTensor['grid']): Value {
  const flat = (value: Value) => b.reshape(value, [-1]);
  const x = flat(float);
  const whole = (op: 'ReduceMin' | 'ReduceMax' | 'ReduceSum' | 'ReduceSumSquare', value: Value) => b.op(op, [value], { keepdims: 1 });
  const off = (value: Value) => whole('ReduceSumSquare', b.op('Sub', [x, flat(value)]));
  const none = b.constant(Tensor.float32([1], [0]));
  const found: Record<FigureName, Value> = {
    count: b.reshape(b.toFloat(b.op('Size', [x])), [1]),
    signal: whole('ReduceSumSquare', x),
    noise: off(simulated),
    local: local ? off(local) : none,
    low: whole('ReduceMin', x),
    high: whole('ReduceMax', x),
    rounding: grid ? whole('ReduceSumSquare', b.op('Sub', [x, onGrid(b, x, grid)])) : none,
    inside: grid ? whole('ReduceSum', b.toFloat(insideOf(b, x, grid))) : none,
  };
  return b.op(
    'Concat',
    figures.map((name) => found[name]),
    { axis: 0 },
    `${float.name}_figures`,
  );
}

/** A value rounded to its own grid. */
function onGrid(b: GraphBuilder, x: Value, grid: AffineParams & QuantGrid): Value {
  const { scale, zeroPoint } = scaleConstants(b.graph, 'own', grid.dtype, grid.scale, grid.zeroPoint);
  const integers = b.op('QuantizeLinear', [x, scale, zeroPoint]);
  const [least, most] = typeEnds[grid.dtype];
  const held = grid.qmin > least || grid.qmax < most ? clipIntegers(b.graph, integers, grid, 'own').output() : integers;
  return b.op('DequantizeLinear', [held, scale, zeroPoint]);
}

/** Whether each element lies on the grid. Half a step beyond the ends still rounds onto it. */
function insideOf(b: GraphBuilder, x: Value, grid: AffineParams & QuantGrid): Value {
  const low = float32Towards((grid.qmin - grid.zeroPoint - 0.5) * grid.scale, 1);
  const high = float32Towards((grid.qmax - grid.zeroPoint + 0.5) * grid.scale, -1);
  return b.op('Equal', [b.op('Clip', [x, b.scalar(low), b.scalar(high)]), x]);
}
