import type { Engine, Program } from '../engine/engine.js';
import type { QuantPlan, WeightPoint } from '../fakequant/plan.js';
import type { ChannelRanges } from '../fakequant/scales.js';
import { GraphBuilder } from '../ir/builder.js';
import { Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { Tensor } from '../tensor/tensor.js';
import { type ParameterLayout, type ParameterSlot, viewOf } from './parameters.js';

const names = (index: number) => ({ weight: `weight_${index}`, min: `min_${index}`, max: `max_${index}` });

/**
 * Looks for the ranges of weights inside the runtime, before every step: its reductions go through a network of millions of weights several times as fast
 * as a loop here does, and find the same two numbers for each channel.
 */
export class WeightScan {
  private constructor(
    private readonly program: Program | undefined,
    private readonly points: readonly { point: WeightPoint; slot: ParameterSlot }[],
  ) {}

  /** For the weights of `plan` that `wanted` names. */
  static async create(engine: Engine, plan: QuantPlan, layout: ParameterLayout, wanted: (value: string) => boolean): Promise<WeightScan> {
    const slots = new Map(layout.slots.map((slot) => [slot.name, slot]));
    const points = plan.weights.flatMap((point) => {
      const slot = slots.get(point.value);
      return slot && wanted(point.value) ? [{ point, slot }] : [];
    });
    return new WeightScan(points.length ? await engine.compile(scanGraph(points), { threads: 1, mode: 'train' }) : undefined, points);
  }

  /** Ranges by the name of the weight. */
  async ranges(parameters: Float32Array): Promise<Map<string, ChannelRanges>> {
    const { program, points } = this;
    const feeds = points.map(({ slot }, index) => [names(index).weight, Tensor.float32(slot.shape, viewOf(parameters, slot))]);
    const results = (await program?.run(Object.fromEntries(feeds))) ?? {};
    const of = (name: string) => (results[name] as Tensor).as('float32').data;
    return new Map(points.map(({ point }, index) => [point.value, { min: of(names(index).min), max: of(names(index).max) }]));
  }

  async dispose(): Promise<void> {
    await this.program?.dispose();
  }
}

function scanGraph(points: readonly { point: WeightPoint; slot: ParameterSlot }[]): Graph {
  const graph = new Graph('weight_ranges');
  const b = new GraphBuilder(graph);
  for (const [index, { point, slot }] of points.entries()) {
    const { weight, min, max } = names(index);
    const value = graph.input(weight, { dtype: 'float32', shape: slot.shape });
    const others = b.ints(slot.shape.flatMap((_, axis) => (axis === point.axis ? [] : [axis])));
    graph.outputs.push(graph.node('ReduceMin', [value, others], { keepdims: 0 }, { outputNames: [min] }).output());
    graph.outputs.push(graph.node('ReduceMax', [value, others], { keepdims: 0 }, { outputNames: [max] }).output());
  }
  inferShapes(graph);
  return graph;
}
