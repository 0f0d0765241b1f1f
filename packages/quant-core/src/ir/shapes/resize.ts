import { Tensor } from '../../tensor/tensor.js';
import type { Dim, Node, Value } from '../graph.js';
import { divideDimsExactly, multiplyDims } from './dim.js';
import { axesOf, misfit, type ShapeContext, type Types, typed, unknownDim } from './rule.js';

/** The floats of a constant that is not empty; older files leave a tensor without elements where an input is omitted. */
export function floatsOf(value: Value | undefined): readonly number[] | undefined {
  const tensor = value?.constant;
  return tensor instanceof Tensor && tensor.size > 0 && (tensor.dtype === 'float32' || tensor.dtype === 'float64')
    ? Array.from(tensor.data as Float32Array)
    : undefined;
}

const isGiven = (value: Value | undefined): boolean => value !== undefined && value.constant?.size !== 0 && value.shape?.[0] !== 0;

/** Sizes are given, or each is `floor(size · scale)`. Axes that are not named keep their size. */
export function resize(node: Node<'Resize'>, context: ShapeContext): Types {
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const named = node.attr('axes');
  const axes = named ? axesOf(node, named, shape.length) : shape.map((_, axis) => axis);
  const bySize = isGiven(node.inputs[3]);
  if (bySize === isGiven(node.inputs[2])) throw misfit(node, 'wants either scales or sizes', undefined, 'MODEL_INVALID');
  const cropped = node.attr('coordinate_transformation_mode') === 'tf_crop_and_resize';
  const given = bySize ? context.elements(node.inputs[3]) : cropped ? undefined : floatsOf(node.inputs[2]);
  if (given && given.length !== axes.length)
    throw misfit(node, `${bySize ? 'sizes' : 'scales'} has ${given.length} entries for ${axes.length} axes`, node.inputs[bySize ? 3 : 2]);
  const out: Dim[] = [...shape];
  const sized =
    bySize && given
      ? keepRatio(
          node,
          given,
          axes.map((axis) => shape[axis] as Dim),
        )
      : undefined;
  for (const [i, axis] of axes.entries()) {
    const open = unknownDim(node.output(), axis);
    if (bySize) out[axis] = sized?.[i] ?? open;
    else out[axis] = (given && scaled(node, shape[axis] as Dim, given[i] as number)) ?? open;
  }
  return [typed(dtype, out)];
}

function scaled(node: Node<'Resize'>, dim: Dim, scale: number): Dim | undefined {
  if (!(scale > 0)) throw misfit(node, `a scale is ${scale}`, node.inputs[2]);
  if (typeof dim === 'number') return Math.floor(Math.fround(dim * Math.fround(scale)));
  return Number.isInteger(scale) ? multiplyDims(dim, scale) : divideDimsExactly(dim, Math.round(1 / scale));
}

/** `keep_aspect_ratio_policy`: one scale for all axes, the smallest (or largest) that the sizes ask for. */
function keepRatio(node: Node<'Resize'>, sizes: readonly Dim[], dims: readonly Dim[]): readonly Dim[] | undefined {
  const policy = node.attr('keep_aspect_ratio_policy');
  if (policy === 'stretch') return sizes;
  if (![...sizes, ...dims].every((dim) => typeof dim === 'number')) return undefined;
  const scales = (sizes as number[]).map((size, i) => size / (dims[i] as number));
  const scale = policy === 'not_larger' ? Math.min(...scales) : Math.max(...scales);
  return (dims as number[]).map((dim) => Math.floor(dim * scale + 0.5));
}
