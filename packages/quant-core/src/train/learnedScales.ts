import type { CalibratedRange } from '../calibrate/calibrate.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { activationParams, type WeightRange, weightScales } from '../fakequant/scales.js';
import type { Recipe } from '../recipe.js';
import type { AffineParams, Range } from '../tensor/affine.js';
import type { NamedArrays } from './arrays.js';
import { type ParameterLayout, viewOf } from './parameters.js';

/** Which scales are trained: positions in the plan. */
export interface LearnedSelection {
  weights: ReadonlySet<number>;
  groups: ReadonlySet<number>;
}

/**
 * The scales a recipe wants to be trained beside the weights. `auto`: those of fewer than 8 bits, where the choice between clipping and
 * coarse steps decides. Asymmetric weights keep the range of their values, and known ranges stay what they are.
 */
export function learnedScales(plan: QuantPlan, scales: Recipe['training']['scales']): LearnedSelection {
  const wanted = (bits: number) => scales === 'learned' || (scales === 'auto' && bits < 8);
  const chosen = <T>(all: readonly T[], of: (one: T) => boolean) => new Set(all.flatMap((one, index) => (of(one) ? [index] : [])));
  return {
    weights: chosen(plan.weights, (point) => wanted(point.bits) && point.grid.symmetric),
    groups: chosen(plan.groups, (group) => wanted(group.bits) && !group.fixed),
  };
}

/** Change of a scale in one step at the start of the schedule, as a share of it. */
const relativeRate = 0.002;
const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-12 };

/** Zero point of a learned group, and the scale that spans all that was seen: it grows no further. */
interface LearnedGroup {
  index: number;
  zeroPoint: number;
  most: number;
}

/**
 * Trained scales. They are kept as logarithms and moved by Adam, so that one rate suits a scale of 1e-4 and one of 1, and no scale
 * becomes negative (after Jain et al. 2019, arXiv:1903.08066). Order: the channels of every learned weight, then every learned group.
 * In double precision and outside of the step: they are few.
 */
export class LearnedScales {
  private readonly groups: LearnedGroup[];
  private readonly weights: { value: string; offset: number; size: number }[] = [];
  /** Logarithms of the scales, and Adam's two moments of each. */
  private readonly state: [logarithms: Float64Array, moment1: Float64Array, moment2: Float64Array];

  constructor(
    private readonly plan: QuantPlan,
    layout: ParameterLayout,
    selection: LearnedSelection,
    parameters: Float32Array,
    calibrated: ReadonlyMap<string, CalibratedRange>,
    ranges: ReadonlyMap<string, WeightRange>,
  ) {
    const start: number[] = [];
    const slots = new Map(layout.slots.map((slot) => [slot.name, slot]));
    for (const index of selection.weights) {
      const point = plan.weights[index] as QuantPlan['weights'][number];
      const slot = slots.get(point.value) as ParameterLayout['slots'][number];
      const { scale } = weightScales(viewOf(parameters, slot), slot.shape, point, ranges.get(point.value));
      this.weights.push({ value: point.value, offset: start.length, size: scale.length });
      start.push(...scale);
    }
    const chosen = (of: 'range' | 'average') => new Map([...calibrated].map(([name, both]) => [name, both[of]]));
    const params = activationParams(plan.groups, plan.activations, chosen('range'));
    // After a Clip a range wider than what was seen could not be absorbed.
    const widest = activationParams(plan.groups, plan.activations, chosen('average'));
    this.groups = [...selection.groups].map((index) => {
      const { scale, zeroPoint } = params[index] as AffineParams;
      const { scale: most } = widest[index] as AffineParams;
      start.push(Math.min(scale, most));
      return { index, zeroPoint, most };
    });
    this.state = [Float64Array.from(start, Math.log), new Float64Array(start.length), new Float64Array(start.length)];
  }

  /** Everything that changes, as it is now. */
  get arrays(): NamedArrays {
    const [logarithms, moment1, moment2] = this.state;
    return { 'scales.logarithms': logarithms, 'scales.moment1': moment1, 'scales.moment2': moment2 };
  }

  get size(): number {
    return this.state[0].length;
  }

  /** One step: `gradient` by each scale, `share` the learning rate as a share of the first, `step` counted from 1. */
  update(gradient: Float32Array, share: number, step: number): void {
    const [logs, first, second] = this.state;
    const rate = relativeRate * share;
    for (let i = 0; i < logs.length; i++) {
      // d/d log s = s · d/ds
      const g = (gradient[i] as number) * Math.exp(logs[i] as number);
      first[i] = adam.beta1 * (first[i] as number) + (1 - adam.beta1) * g;
      second[i] = adam.beta2 * (second[i] as number) + (1 - adam.beta2) * g * g;
      const mean = (first[i] as number) / (1 - adam.beta1 ** step);
      const root = Math.sqrt((second[i] as number) / (1 - adam.beta2 ** step));
      logs[i] = (logs[i] as number) - (rate * mean) / (root + adam.epsilon);
    }
    this.groups.forEach(({ most }, at) => {
      const i = logs.length - this.groups.length + at;
      logs[i] = Math.min(logs[i] as number, Math.log(most));
    });
  }

  /** The scales of the learned weights, by the name of the weight. */
  weightRanges(): Map<string, WeightRange> {
    const [logs] = this.state;
    return new Map(
      this.weights.map(({ value, offset, size }) => [
        value,
        { scale: Float32Array.from(logs.subarray(offset, offset + size), (log) => Math.exp(log)) },
      ]),
    );
  }

  /** The ranges of the learned groups, by number of the group. */
  groupRanges(): Map<number, Range> {
    const { plan } = this;
    const [logs] = this.state;
    return new Map(
      this.groups.map(({ index, zeroPoint }, at) => {
        const { grid } = plan.groups[index] as QuantPlan['groups'][number];
        const scale = Math.exp(logs[logs.length - this.groups.length + at] as number);
        const max = (grid.qmax - zeroPoint) * scale;
        return [index, { min: grid.symmetric ? -max : (grid.qmin - zeroPoint) * scale, max }];
      }),
    );
  }
}
