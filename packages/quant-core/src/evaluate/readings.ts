import type { DatasetConfig } from '../recipe.js';

/** How the samples of one float input are read now, and what is known of what is stored. */
export interface PresentReading {
  /** Of one sample, as the model takes it. */
  shape: readonly number[];
  /** Where the channels of a sample are; `null` where it has none. */
  channels: { axis: 'first' | 'last'; count: number } | null;
  /** `x = gain · stored + shift`, one pair a channel. */
  linear: Linear;
  /** Whether stored values are bytes. */
  bytes: boolean;
  /** Smallest and largest stored value. */
  range: { min: number; max: number };
  /** Whether the channels moved from last to first (or the other way) when the samples were read. */
  moved: boolean;
}

/** One gain and shift for each channel. */
export interface Linear {
  gain: readonly number[];
  shift: readonly number[];
}

/** What can be wrong with the way samples are read, the likeliest first. */
export const causes = {
  scale: 'scale',
  normalisation: 'mean and std',
  channels: 'order of the channels (RGB or BGR)',
  layout: 'layout (NCHW or NHWC)',
  inversion: 'light and dark',
  classes: 'order of the classes',
  offset: 'offset of the labels',
} as const;
export type Cause = keyof typeof causes;

/** Another way to read the samples. */
export interface Trial {
  name: string;
  cause: Cause;
  /** Fields of the dataset's config that read the samples so; null where no field does. */
  config: DatasetConfig | null;
  linear: Linear;
  reversed: boolean;
  /** Take the elements in the other layout. */
  relaid: boolean;
}

/** Mean and standard deviation of stored values. */
export interface Statistics {
  /** Of each channel. */
  mean: readonly number[];
  std: readonly number[];
}

const imageNet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const unit = 1 / 255;

/** `x = ((stored + offset) · scale − mean) / std` as gain and shift of each channel. */
export function linearOf(
  { scale = 1, offset = 0, mean = 0, std = 1 }: Pick<DatasetConfig, 'scale' | 'offset' | 'mean' | 'std'>,
  channels: number,
): Linear {
  const at = (values: number | readonly number[], c: number) =>
    typeof values === 'number' ? values : (values[values.length === 1 ? 0 : c] as number);
  const each = Array.from({ length: channels }, (_, c) => c);
  return {
    gain: each.map((c) => scale / at(std, c)),
    shift: each.map((c) => (offset * scale - at(mean, c)) / at(std, c)),
  };
}

/** Other scales, and other means and standard deviations, that the samples could have been trained with. */
export function scalingTrials(present: PresentReading, own: Statistics): Trial[] {
  const { bytes, range, shape } = present;
  const count = present.linear.gain.length;
  // Floats that can be the values of bytes are scaled as bytes are.
  const wide = bytes || (range.min >= 0 && range.max > 16 && range.max <= 255);
  const unitRange = range.min >= 0 && range.max <= 1;
  const base = wide ? unit : 1;
  const round = (value: number) => Number(value.toPrecision(4));
  const scaled = (values: readonly number[]) => values.map((value) => round(value * base));
  // A channel that never changes is left as wide as it is.
  const spread = (values: readonly number[]) => scaled(values).map((value) => (value > 0 ? value : 1));
  const joint = pooled(own);
  const normalised = (mean: number[], std: number[]): DatasetConfig => ({
    scale: base,
    mean: mean.length === 1 ? (mean[0] as number) : mean,
    std: std.length === 1 ? (std[0] as number) : std,
  });
  const candidates: { when?: boolean; name: string; cause: Cause; config: DatasetConfig }[] = [
    { when: wide, name: 'values divided by 255', cause: 'scale', config: { scale: unit } },
    { name: 'values as they are stored', cause: 'scale', config: { scale: 1 } },
    { when: unitRange, name: 'values times 255', cause: 'scale', config: { scale: 255 } },
    {
      when: wide || unitRange,
      name: 'values from −1 to 1',
      cause: 'scale',
      config: wide ? { offset: -127.5, scale: 1 / 127.5 } : { offset: -0.5, scale: 2 },
    },
    { name: 'mean and std of the data itself', cause: 'normalisation', config: normalised(scaled(own.mean), spread(own.std)) },
    {
      when: count > 1,
      name: 'mean and std of the data itself, all channels together',
      cause: 'normalisation',
      config: normalised(scaled(joint.mean), spread(joint.std)),
    },
    {
      when: count === 3 && shape.length === 3,
      name: 'mean and std of ImageNet',
      cause: 'normalisation',
      config: { scale: base, mean: [...imageNet.mean], std: [...imageNet.std] },
    },
  ];
  return candidates
    .filter(({ when }) => when !== false)
    .map(({ name, cause, config }): Trial => ({ name, cause, config, linear: linearOf(config, count), reversed: false, relaid: false }))
    .filter(({ linear }, at, all) => ![present.linear, ...all.slice(0, at).map((one) => one.linear)].some((other) => alike(linear, other)));
}

/** Reversed channels, the other layout, and dark for light, each on top of one reading. */
export function orderTrials(present: PresentReading, on: Trial | null): Trial[] {
  const { shape, channels, bytes, range, moved } = present;
  if (shape.length < 2) return [];
  const linear = on?.linear ?? present.linear;
  const with_ = on ? `${on.name}, ` : '';
  const config = on?.config ?? null;
  const basis = { config, linear, reversed: false, relaid: false };
  const stored = (channels?.axis === 'last') !== moved ? 'NHWC' : 'NCHW';
  const [low, high] = bytes ? [0, 255] : [range.min, range.max];
  const image = shape.length === 3 && channels !== null;
  const trials: Trial[] = [];
  if (image && channels.count === 3)
    trials.push({ ...basis, name: `${with_}channels in reverse order`, cause: 'channels', reversed: true });
  if (image && channels.count > 1)
    trials.push({
      ...basis,
      name: `${with_}elements in the other layout`,
      cause: 'layout',
      relaid: true,
      config: { ...config, layout: stored === 'NHWC' ? 'NCHW' : 'NHWC' },
    });
  if (image || shape.length === 2) {
    const turned: Linear = {
      gain: linear.gain.map((gain) => -gain),
      shift: linear.shift.map((shift, c) => shift + (linear.gain[c] as number) * (low + high)),
    };
    trials.push({
      ...basis,
      name: `${with_}dark and light exchanged`,
      cause: 'inversion',
      linear: turned,
      config: invertedConfig(config, low + high),
    });
  }
  return trials;
}

function invertedConfig(config: DatasetConfig | null | undefined, sum: number): DatasetConfig | null {
  if (!config) return null;
  const { scale = 1, offset = 0, ...rest } = config;
  return { ...rest, offset: -sum - offset, scale: -scale };
}

function pooled({ mean, std }: Statistics): Statistics {
  const n = mean.length;
  const middle = mean.reduce((a, b) => a + b, 0) / n;
  const square = mean.reduce((sum, value, c) => sum + value * value + (std[c] as number) ** 2, 0) / n;
  return { mean: [middle], std: [Math.sqrt(Math.max(0, square - middle * middle))] };
}

function alike(a: Linear, b: Linear): boolean {
  return a.gain.every((gain, c) => {
    const [other, size] = [b.gain[c] as number, Math.max(Math.abs(a.shift[c] as number), Math.abs(b.shift[c] as number), 0.05)];
    return Math.abs(gain - other) <= 0.03 * Math.abs(other) && Math.abs((a.shift[c] as number) - (b.shift[c] as number)) <= 0.03 * size;
  });
}

/** Channel of element `i` of a sample. */
function channelOf({ shape, channels }: PresentReading): (i: number) => number {
  if (!channels || channels.count === 1) return () => 0;
  const elements = shape.reduce((a, b) => a * b, 1);
  const places = elements / channels.count;
  return channels.axis === 'first' ? (i) => Math.floor(i / places) : (i) => i % channels.count;
}

/** Mean and standard deviation of stored values, from samples as they are read now. */
export async function statisticsOf(present: PresentReading, batches: AsyncIterable<Float32Array>): Promise<Statistics> {
  const { linear, shape } = present;
  const count = linear.gain.length;
  const elements = shape.reduce((a, b) => a * b, 1);
  const channel = channelOf(present);
  const [n, sum, square] = [new Float64Array(count), new Float64Array(count), new Float64Array(count)];
  for await (const data of batches) {
    for (let i = 0; i < data.length; i++) {
      const c = channel(i % elements);
      const stored = ((data[i] as number) - (linear.shift[c] as number)) / (linear.gain[c] as number);
      n[c]!++;
      sum[c]! += stored;
      square[c]! += stored * stored;
    }
  }
  const mean = Array.from(sum, (total, c) => total / (n[c] as number));
  return { mean, std: mean.map((m, c) => Math.sqrt(Math.max(0, (square[c] as number) / (n[c] as number) - m * m))) };
}

/** Samples as they are read now, read in another way. */
export function reread(present: PresentReading, trial: Pick<Trial, 'linear' | 'reversed' | 'relaid'>, data: Float32Array): Float32Array {
  const { shape, channels, linear, moved } = present;
  const elements = shape.reduce((a, b) => a * b, 1);
  const channel = channelOf(present);
  const count = channels?.count ?? 1;
  const places = elements / count;
  const first = channels?.axis !== 'last';
  // Where element i of a sample comes from.
  const source = Uint32Array.from({ length: elements }, (_, i) => {
    let at = i;
    if (trial.relaid) at = first !== moved ? (i % places) * count + Math.floor(i / places) : (i % count) * places + Math.floor(i / count);
    if (trial.reversed)
      at = first ? (count - 1 - Math.floor(at / places)) * places + (at % places) : at - (at % count) + (count - 1 - (at % count));
    return at;
  });
  const result = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += elements) {
    for (let i = 0; i < elements; i++) {
      const from = source[i] as number;
      const before = channel(from);
      const c = channel(i);
      const stored = ((data[start + from] as number) - (linear.shift[before] as number)) / (linear.gain[before] as number);
      result[start + i] = stored * (trial.linear.gain[c] as number) + (trial.linear.shift[c] as number);
    }
  }
  return result;
}
