import type { QuantPlan } from '../fakequant/plan.js';
import { forEachChannelRun, type WeightRange } from '../fakequant/scales.js';
import { planWeights } from '../fakequant/simulate.js';
import type { Graph } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';

/** How far from its integer a weight may lie, in steps of its scale: half a step is where it would be rounded away. */
const farthest = 0.45;

/** Weights beyond the last integer of their grid keep their value; they lie further out than this. */
const clipped = 1.01;

/**
 * The weights that quantization-aware training begins with where the rounding was learned: those of `float`, moved no further than it takes for them to be rounded to
 * the integers of `rounded`. So training starts as the PTQ model, and a weight that was close to the middle between two integers stays close.
 * Returns a copy of `rounded`. `ranges` has the scales of the weights that stand on their grid there; others are left as `rounded` has them.
 */
export function latentWeights(float: Graph, rounded: Graph, plan: QuantPlan, ranges: ReadonlyMap<string, WeightRange>): Graph {
  const start = rounded.clone();
  const values = new Map(start.constants().map((value) => [value.name, value]));
  const tensors = planWeights(float, plan);
  plan.weights.forEach((point, index) => {
    const range = ranges.get(point.value);
    const value = values.get(point.value);
    const [own, grid] = [tensors[index], value?.constant?.as('float32').data];
    if (!range || !('scale' in range) || !own || !value || !grid) return;
    const latent = Float32Array.from(own.data);
    forEachChannelRun(own.shape, point.axis, (channel, from, length) => {
      const scale = range.scale[channel] as number;
      for (let i = from; i < from + length; i++) {
        const integer = grid[i] as number;
        const steps = ((own.data[i] as number) - integer) / scale;
        if (Math.abs(steps) <= clipped) latent[i] = integer + scale * Math.max(-farthest, Math.min(farthest, steps));
      }
    });
    value.constant = Tensor.float32(own.shape, latent);
  });
  return start;
}
