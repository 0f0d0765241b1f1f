import type * as Tf from '@tensorflow/tfjs-core';
import type { OpType } from '../../../ir/ops.js';
import type { TfModule } from '../backend.js';
import { axisOf, type Call, type Kernel, lacking, operand, tensorAt } from './kernel.js';
import { taken } from './movement.js';

/** Where the place `x` of a resized axis lies on the axis it was made from. */
function original(mode: string, x: number, from: number, to: number, scale: number): number | undefined {
  switch (mode) {
    case 'half_pixel':
      return (x + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric': {
      const adjusted = to / (scale * from);
      return (from / 2) * (1 - adjusted) + (x + 0.5) / scale - 0.5;
    }
    case 'pytorch_half_pixel':
      return to > 1 ? (x + 0.5) / scale - 0.5 : 0;
    case 'align_corners':
      return to > 1 ? (x * (from - 1)) / (to - 1) : 0;
    case 'asymmetric':
      return x / scale;
    default:
      return undefined;
  }
}

const nearest: Record<string, (x: number) => number> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
};

/** Weights of the taps -1, 0, 1, 2 (Keys 1981) or of 0, 1, at a distance `t` after the tap 0. */
function weights(mode: string, t: number, a: number): [tap: number, weight: number][] {
  if (mode === 'linear')
    return [
      [0, 1 - t],
      [1, t],
    ];
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((d - 5) * d + 8) * a * d - 4 * a;
  return [
    [-1, far(1 + t)],
    [0, near(t)],
    [1, near(1 - t)],
    [2, far(2 - t)],
  ];
}

interface Axis {
  axis: number;
  to: number;
  scale: number;
}

/** One axis resized: each element is a weighted sum of elements. */
function along(call: Call<'Resize'>, x: Tf.Tensor, { axis, to, scale }: Axis): Tf.Tensor {
  const { tf, node } = call;
  const from = x.shape[axis] as number;
  const transform = node.attr('coordinate_transformation_mode');
  const places = Array.from({ length: to }, (_, i) => original(transform, i, from, to, scale));
  if (places.some((place) => place === undefined)) throw lacking(node, `coordinate_transformation_mode "${transform}"`);
  const within = (at: number) => Math.min(from - 1, Math.max(0, at));
  const mode = node.attr('mode');
  const round = nearest[node.attr('nearest_mode')];
  if (mode === 'nearest') {
    if (!round) throw lacking(node, `nearest_mode "${node.attr('nearest_mode')}"`);
    return taken(
      tf,
      x,
      (places as number[]).map((place) => within(round(place))),
      axis,
    );
  }
  return weightedSum(tf, x, axis, places as number[], within, (t) => weights(mode, t, node.attr('cubic_coeff_a')));
}

function weightedSum(
  tf: TfModule,
  x: Tf.Tensor,
  axis: number,
  places: readonly number[],
  within: (at: number) => number,
  of: (t: number) => [tap: number, weight: number][],
): Tf.Tensor {
  const taps = places.map((place) => of(place - Math.floor(place)));
  const shape = x.shape.map((_, i) => (i === axis ? places.length : 1));
  const parts = (taps[0] ?? []).map(([tap], k) => {
    const index = places.map((place) => within(Math.floor(place) + tap));
    const weight = taps.map((list) => list[k]?.[1] as number);
    return tf.mul(taken(tf, x, index, axis), tf.tensor(weight, shape));
  });
  return parts.reduce((a, b) => tf.add(a, b));
}

const resize: Kernel<'Resize'> = (call) => {
  const { node } = call;
  const x = tensorAt(call, 0);
  if (node.attr('antialias')) throw lacking(node, 'antialias');
  if (node.attr('exclude_outside')) throw lacking(node, 'exclude_outside');
  if (node.attr('keep_aspect_ratio_policy') !== 'stretch') throw lacking(node, 'a keep_aspect_ratio_policy');
  const axes = (node.attr('axes') ?? x.shape.map((_, i) => i)).map((axis) => axisOf(axis, x.rank));
  const sizes = call.inputs[3]?.numbers;
  const scales = sizes?.length ? undefined : operand(call, 2).numbers;
  const resized = axes.map((axis, i): Axis => {
    const from = x.shape[axis] as number;
    const to = sizes?.length ? (sizes[i] as number) : Math.floor(Math.fround(from * Math.fround(scales?.[i] as number)));
    return { axis, to, scale: scales?.[i] ?? to / from };
  });
  return resized.filter(({ axis, to, scale }) => to !== x.shape[axis] || scale !== 1).reduce((out, axis) => along(call, out, axis), x);
};

export const resizing = { Resize: resize } satisfies { [K in OpType]?: Kernel<K> };
