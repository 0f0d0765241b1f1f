import type { CalibratedRange } from '../calibrate/calibrate.js';
import { averagingConstant, withZero } from '../calibrate/observers.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { activationParams, type ChannelRanges, gridEnds, type WeightRange, weightScales } from '../fakequant/scales.js';
import type { Range } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import type { NamedArrays } from './arrays.js';
import { feedNames } from './forward.js';
import type { LearnedScales } from './learnedScales.js';
import { type ParameterLayout, viewOf } from './parameters.js';

/** Moving ranges of the observed activations, scales that are learned, and the feeds that follow from them and from the weights. */
export class QuantState {
  private readonly averageMin: Float64Array;
  private readonly averageMax: Float64Array;
  private readonly keepMin: Float64Array;
  private readonly keepMax: Float64Array;

  constructor(
    private readonly plan: QuantPlan,
    private readonly layout: ParameterLayout,
    private readonly observed: readonly string[],
    calibrated: ReadonlyMap<string, CalibratedRange>,
    /** Where the range of a weight comes from, for those that do not keep all of it. */
    private readonly givenRanges: ReadonlyMap<string, WeightRange>,
    private readonly learned?: LearnedScales,
  ) {
    const of = (name: string) => calibrated.get(name) as CalibratedRange;
    this.averageMin = Float64Array.from(observed, (name) => of(name).average.min);
    this.averageMax = Float64Array.from(observed, (name) => of(name).average.max);
    // Calibration may clip the range; training keeps the same share of whatever range it sees, and never more than it sees:
    // after a Clip a wider range could not be absorbed by the quantizer.
    const share = (range: number, average: number) => (average === 0 ? 1 : Math.min(1, range / average));
    this.keepMin = Float64Array.from(observed, (name) => share(of(name).range.min, of(name).average.min));
    this.keepMax = Float64Array.from(observed, (name) => share(of(name).range.max, of(name).average.max));
  }

  /** Take in the ranges that a step reports. */
  observe(min: Float32Array, max: Float32Array): void {
    for (let i = 0; i < this.observed.length; i++) {
      const batch = withZero({ min: min[i] as number, max: max[i] as number });
      this.averageMin[i] = (this.averageMin[i] as number) + averagingConstant * (batch.min - (this.averageMin[i] as number));
      this.averageMax[i] = (this.averageMax[i] as number) + averagingConstant * (batch.max - (this.averageMax[i] as number));
    }
  }

  /** Everything that changes, as it is now. */
  get arrays(): NamedArrays {
    return { 'ranges.min': this.averageMin, 'ranges.max': this.averageMax, ...this.learned?.arrays };
  }

  /** The ranges that are quantized now, by activation. */
  ranges(): Map<string, Range> {
    const ranges = new Map(
      this.observed.map((name, i) => [
        name,
        {
          min: (this.averageMin[i] as number) * (this.keepMin[i] as number),
          max: (this.averageMax[i] as number) * (this.keepMax[i] as number),
        },
      ]),
    );
    const learned = this.learned?.groupRanges();
    if (learned?.size) {
      for (const { value, group } of this.plan.activations) {
        const range = learned.get(group);
        if (range) ranges.set(value, range);
      }
    }
    return ranges;
  }

  /** Where the ranges of the weights come from now, for those that do not keep all of it. */
  weightRanges(): ReadonlyMap<string, WeightRange> {
    return this.learned ? new Map([...this.givenRanges, ...this.learned.weightRanges()]) : this.givenRanges;
  }

  /** Scale and zero point of every activation group, with the ends of its grid. */
  activationFeeds(): Record<string, Tensor> {
    const { groups } = this.plan;
    const params = activationParams(groups, this.plan.activations, this.ranges());
    const ends = params.map((p, index) => gridEnds(p, (groups[index] as (typeof groups)[number]).grid));
    const vector = (values: number[]) => Tensor.float32([values.length], values);
    return {
      [feedNames.activationScale]: vector(params.map((p) => p.scale)),
      [feedNames.activationZeroPoint]: new Tensor(
        'uint8',
        [params.length],
        Uint8Array.from(params, (p) => p.zeroPoint),
      ),
      [feedNames.activationLow]: vector(ends.map((e) => e.min)),
      [feedNames.activationHigh]: vector(ends.map((e) => e.max)),
    };
  }

  /** Whether the scale of a weight follows from the values it has now. */
  followsValues(weight: string): boolean {
    const range = this.weightRanges().get(weight);
    return !range || 'share' in range;
  }

  /**
   * Scales and zero points of every weight, for the parameters given; for other ranges than those of now, and with the ranges of channels that were found already, where
   * they are given.
   */
  weightFeeds(
    parameters: Float32Array,
    { ranges = this.weightRanges(), found }: { ranges?: ReadonlyMap<string, WeightRange>; found?: ReadonlyMap<string, ChannelRanges> } = {},
  ): Record<string, Tensor> {
    const slots = new Map(this.layout.slots.map((slot) => [slot.name, slot]));
    const all = this.plan.weights.map((point) => {
      const slot = slots.get(point.value) as ParameterLayout['slots'][number];
      return weightScales(viewOf(parameters, slot), slot.shape, point, ranges.get(point.value), found?.get(point.value));
    });
    const size = all.reduce((sum, one) => sum + one.scale.length, 0);
    const scale = new Float32Array(size);
    const zeroPoint = new Int8Array(size);
    let at = 0;
    for (const one of all) {
      scale.set(one.scale, at);
      zeroPoint.set(one.zeroPoint, at);
      at += one.scale.length;
    }
    return { [feedNames.weightScale]: Tensor.float32([size], scale), [feedNames.weightZeroPoint]: new Tensor('int8', [size], zeroPoint) };
  }
}
