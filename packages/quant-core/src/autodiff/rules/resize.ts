import { staticShape } from '../../ir/builder.js';
import type { Node } from '../../ir/graph.js';
import { floatsOf } from '../../ir/shapes/resize.js';
import { adjointAlong, type Taps } from '../axisMap.js';
import { type GradientRule, normalised, rule, untrainable } from '../rule.js';

type ResizeNode = Node<'Resize'>;

/** Position in the input of position `at` of the output, as the specification of Resize has it. */
function positionOf(mode: string | undefined, at: number, size: number, out: number, scale: number): number {
  switch (mode) {
    case 'asymmetric':
      return at / scale;
    case 'align_corners':
      return out === 1 ? 0 : (at * (size - 1)) / (out - 1);
    case 'pytorch_half_pixel':
      return out === 1 ? 0 : (at + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric': {
      const adjustment = out / (scale * size);
      return (size / 2) * (1 - adjustment) + (at + 0.5) / scale - 0.5;
    }
    default:
      return (at + 0.5) / scale - 0.5;
  }
}

function nearest(mode: string | undefined, x: number): number {
  switch (mode) {
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5);
    default:
      return Math.ceil(x - 0.5);
  }
}

/** Weights of the four neighbours at distance `t` past the second, as in Keys (1981). */
function cubicWeights(a: number, t: number): number[] {
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
}

function tapsOf(node: ResizeNode, size: number, out: number, scale: number): Taps[] {
  const inside = (at: number) => Math.min(Math.max(at, 0), size - 1);
  const mode = node.attr('mode');
  return Array.from({ length: out }, (_, at): Taps => {
    const x = positionOf(node.attr('coordinate_transformation_mode'), at, size, out, scale);
    if (mode === 'nearest') return [[inside(nearest(node.attr('nearest_mode'), x)), 1]];
    const base = Math.floor(x);
    if (mode === 'linear') {
      const clamped = Math.min(Math.max(x, 0), size - 1);
      const low = Math.floor(clamped);
      return [
        [low, 1 - (clamped - low)],
        [inside(low + 1), clamped - low],
      ];
    }
    const weights = cubicWeights(node.attr('cubic_coeff_a'), x - base);
    const cells = weights.map((weight, i) => [base - 1 + i, weight] as const);
    if (!node.attr('exclude_outside')) return cells.map(([cell, weight]) => [inside(cell), weight]);
    const within = cells.filter(([cell]) => cell >= 0 && cell < size);
    const total = within.reduce((sum, [, weight]) => sum + weight, 0);
    return within.map(([cell, weight]) => [cell, weight / total]);
  });
}

/** Resampling is linear and works on each axis by itself: its adjoint, one axis after the other. */
export const resize: GradientRule<'Resize'> = rule((node, dy, _wanted, b) => {
  const mode = node.attr('coordinate_transformation_mode');
  if (node.attr('antialias') || mode === 'tf_crop_and_resize') throw untrainable(node, 'antialias and tf_crop_and_resize have no gradient');
  const shape = staticShape(node.input(0));
  const current = [...staticShape(node.output())];
  const axes = (node.attr('axes') ?? shape.map((_, axis) => axis)).map((axis) => normalised(axis, shape.length));
  const scales = floatsOf(node.inputs[2]);
  let grad = dy;
  for (const [i, axis] of axes.entries()) {
    const [size, out] = [shape[axis] as number, current[axis] as number];
    grad = adjointAlong(b, grad, current, axis, size, tapsOf(node as ResizeNode, size, out, scales?.[i] ?? out / size));
    current[axis] = size;
  }
  return [grad, undefined, undefined, undefined];
});
