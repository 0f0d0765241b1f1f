import type { Dim, Node, Value } from '../../ir/graph.js';
import { alwaysEqual, divideDimsExactly, multiplyDims, productOfDims } from '../../ir/shapes/dim.js';
import type { Reduction } from '../../ir/shapes/reduce.js';
import { Tensor } from '../../tensor/tensor.js';
import {
  awayFrom,
  type BatchContext,
  fromFront,
  ints,
  isPlain,
  mixes,
  moved,
  onlyFirst,
  type Place,
  type Places,
  pointwise,
  rankOf,
  samePlace,
  toAll,
} from './place.js';
import { madeFor, sampleOf } from './same.js';

/**
 * Every axis of shape `to` on which the samples of shape `from` can stand when the elements keep their order: as many elements before and after a
 * sample's as there were. Usually one; more where the batch is 1, likeliest first: an axis for samples alone, then not the last one.
 */
function placesAfter(from: readonly Dim[], place: Place, to: readonly Dim[], batch: number): Place[] {
  const before = multiplyDims(productOfDims(from.slice(0, place.axis)), place.outer);
  const after = multiplyDims(place.inner, productOfDims(from.slice(place.axis + 1)));
  const found = to.flatMap((dim, axis): Place[] => {
    const outer = divideDimsExactly(before, productOfDims(to.slice(0, axis)));
    const inner = divideDimsExactly(after, productOfDims(to.slice(axis + 1)));
    if (outer === undefined || inner === undefined || outer === 0 || inner === 0) return [];
    return alwaysEqual(multiplyDims(multiplyDims(outer, batch), inner), dim) ? [{ axis, outer, inner }] : [];
  });
  const likeliness = (next: Place): number =>
    isPlain(next) ? (next.axis === place.axis ? 0 : 1) : next.axis === to.length - 1 ? 4 : next.outer === 1 ? 2 : 3;
  return found.sort((a, b) => likeliness(a) - likeliness(b));
}

/** The target says -1 where the samples stand (0 where nothing changed), and the size or 0 elsewhere. */
export function reshape(node: Node<'Reshape'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const [from, to] = [node.input(0).shape, node.output().shape];
  const options = place && from && to ? placesAfter(from, place, to, context.batch) : [];
  if (!place || !from || !to || !options.length || node.attr('allowzero') === 1 || to.includes(0))
    return 'reshapes in a way that does not keep samples apart';
  const next = context.choose(options);
  const copied = samePlace(next, place);
  const target = to.map((dim, axis) => {
    if (axis === next.axis) return copied ? 0 : -1;
    if (typeof dim === 'number') return dim;
    return axis < from.length && alwaysEqual(dim, from[axis] as Dim) ? 0 : -1;
  });
  if (target.filter((dim) => dim === -1).length > 1) return 'reshapes to more than one size that is not constant';
  context.edit(() => node.setInput(1, context.constant(node.input(1).name, Tensor.ints(target))));
  return [next];
}

/** The axes before `axis` become the first, the others the second. */
export function flatten(node: Node<'Flatten'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const shape = node.input(0).shape;
  const [axis] = fromFront([node.attr('axis')], rankOf(node.input(0))) ?? [];
  if (!place || !shape || axis === undefined) return mixes;
  const start = place.axis < axis ? 0 : axis;
  const end = place.axis < axis ? axis : shape.length;
  return [
    {
      axis: place.axis < axis ? 0 : 1,
      outer: multiplyDims(productOfDims(shape.slice(start, place.axis)), place.outer),
      inner: multiplyDims(place.inner, productOfDims(shape.slice(place.axis + 1, end))),
    },
  ];
}

export function transpose(node: Node<'Transpose'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const rank = rankOf(node.input(0));
  if (!place) return mixes;
  const perm = node.attr('perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  return [moved(place, perm.indexOf(place.axis))];
}

/** `place` when `axes` are taken out and are not its own. */
function without(axes: readonly number[], place: Place): Place {
  return moved(place, place.axis - new Set(axes.filter((axis) => axis < place.axis)).size);
}

export function reduce(node: Node<Reduction>, context: BatchContext): Places {
  const axes = ints(node.inputs[1]);
  const away = awayFrom(axes?.length === 0 ? undefined : axes, node, context);
  if (typeof away === 'string' || node.attr('keepdims') === 1) return away;
  return [without(fromFront(axes, rankOf(node.input(0))) as number[], away[0] as Place)];
}

export function argument(node: Node<'ArgMax' | 'ArgMin'>, context: BatchContext): Places {
  const axes = [node.attr('axis')];
  const away = awayFrom(axes, node, context);
  if (typeof away === 'string' || node.attr('keepdims') === 1) return away;
  return [without(fromFront(axes, rankOf(node.input(0))) as number[], away[0] as Place)];
}

export function squeeze(node: Node<'Squeeze'>, context: BatchContext): Places {
  const axes = ints(node.inputs[1]);
  const away = awayFrom(axes, node, context);
  return typeof away === 'string' ? away : [without(fromFront(axes, rankOf(node.input(0))) as number[], away[0] as Place)];
}

/** `place` when an axis of the result is new at each of `axes`. */
function beside(axes: readonly number[], place: Place): Place {
  let axis = place.axis;
  for (const added of [...axes].sort((a, b) => a - b)) if (added <= axis) axis++;
  return moved(place, axis);
}

export function unsqueeze(node: Node<'Unsqueeze'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const axes = fromFront(ints(node.inputs[1]), rankOf(node.output()));
  return place && axes ? [beside(axes, place)] : mixes;
}

export function oneHot(node: Node<'OneHot'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const axes = fromFront([node.attr('axis')], rankOf(node.output()));
  return place && axes ? [beside(axes, place)] : mixes;
}

export function concat(node: Node<'Concat'>, context: BatchContext): Places {
  const first = node.inputs.find((value) => context.place(value)) as Value;
  const place = context.place(first) as Place;
  const [axis] = fromFront([node.attr('axis')], rankOf(first)) ?? [];
  if (axis === undefined || axis === place.axis) return 'joins on the batch axis';
  for (const [port, value] of node.inputs.entries()) {
    const own = context.place(value);
    if (own && samePlace(own, place)) continue;
    if (own) return 'joins samples that are laid out in different ways';
    const row = sampleOf(value, place.axis, place, context.batch);
    if (!row) return madeFor(value, context);
    context.edit(() => node.setInput(port, context.repeat(context.constant(value?.name ?? '', row), place.axis, first, node)));
  }
  return [place];
}

export function gather(node: Node<'Gather'>, context: BatchContext): Places {
  const [data, indices] = [context.place(node.inputs[0]), context.place(node.inputs[1])];
  const [axis] = fromFront([node.attr('axis')], rankOf(node.input(0))) ?? [];
  if (axis === undefined || (data && indices)) return mixes;
  if (indices) return [moved(indices, axis + indices.axis)];
  const away = awayFrom([axis], node, context);
  const place = data as Place;
  if (typeof away === 'string' || rankOf(node.inputs[1]) < 0) return mixes;
  return [place.axis < axis ? place : moved(place, place.axis + rankOf(node.inputs[1]) - 1)];
}

export function slice(node: Node<'Slice'>, context: BatchContext): Places {
  const count = node.input(1).shape?.[0];
  const axes = node.inputs[3] ? ints(node.inputs[3]) : typeof count === 'number' ? Array.from({ length: count }, (_, i) => i) : undefined;
  return awayFrom(axes, node, context);
}

export function pad(node: Node<'Pad'>, context: BatchContext): Places {
  const pads = ints(node.inputs[1]);
  const axes = node.inputs[3] ? ints(node.inputs[3]) : node.input(0).shape?.map((_, axis) => axis);
  const padded = pads && axes?.filter((_, i) => pads[i] !== 0 || pads[i + axes.length] !== 0);
  return awayFrom(padded, node, context);
}

/** The target says 1 where the samples stand. */
export function expand(node: Node<'Expand'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const target = ints(node.inputs[1]);
  const [from, to] = [node.input(0).shape, node.output().shape];
  if (!place || !target || !from || !to) return 'expands to a size that is not constant';
  const axis = place.axis + to.length - from.length;
  if (!alwaysEqual(to[axis] as Dim, from[place.axis] as Dim)) return 'repeats samples, or as often as is not constant';
  const own = place.axis + target.length - from.length;
  if (own >= 0 && target[own] !== 1)
    context.edit(() => node.setInput(1, context.constant(node.input(1).name, Tensor.ints(target.map((dim, i) => (i === own ? 1 : dim))))));
  return [moved(place, axis)];
}

/** Indices go with the data: both have samples. */
export function gatherElements(node: Node<'GatherElements'>, context: BatchContext): Places {
  const [data, indices] = [context.place(node.inputs[0]), context.place(node.inputs[1])];
  const [axis] = fromFront([node.attr('axis')], rankOf(node.input(0))) ?? [];
  return data && indices && samePlace(data, indices) && axis !== undefined && axis !== data.axis ? [data] : mixes;
}

export function gatherND(node: Node<'GatherND'>, context: BatchContext): Places {
  const [data, indices] = [context.place(node.inputs[0]), context.place(node.inputs[1])];
  return data && indices && samePlace(data, indices) && data.axis < node.attr('batch_dims') ? [data] : mixes;
}

export function tile(node: Node<'Tile'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  return place && ints(node.inputs[1])?.[place.axis] === 1 ? [place] : 'repeats samples, or as often as is not constant';
}

/**
 * The first axis keeps its size. Sizes, which would name it, are written as the scales that give them (and not as sizes of named axes: ONNX
 * Runtime's optimizer loses the names when it moves a transpose across).
 */
export function resize(node: Node<'Resize'>, context: BatchContext): Places {
  const [input, output] = [node.input(0).shape, node.output().shape];
  const place = onlyFirst(node, context);
  if (place?.axis !== 0) return mixes;
  if (node.attr('axes')) return awayFrom(node.attr('axes'), node, context);
  if (!input || !output || input[0] !== output[0] || node.attr('keep_aspect_ratio_policy') !== 'stretch') return mixes;
  if (node.inputs[3]) {
    const scales = scalesBetween(input, ints(node.inputs[3]));
    if (!scales) return 'resizes to a size that is not constant';
    context.edit(() =>
      node.setInputs([node.input(0), node.inputs[1], context.constant(`${node.name}_scales`, Tensor.float32([scales.length], scales))]),
    );
  }
  return [place];
}

/** Scales that give exactly the sizes `to`, in the arithmetic of the runtime. */
function scalesBetween(from: readonly Dim[], to: readonly number[] | undefined): number[] | undefined {
  const scales = to?.map((size, axis) => Math.fround(size / (from[axis] as number)));
  const exact = scales?.every((scale, axis) => Math.floor(Math.fround((from[axis] as number) * scale)) === to?.[axis]);
  return exact ? scales : undefined;
}

/** The sizes of other axes alone. */
export function shape(node: Node<'Shape'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const rank = rankOf(node.input(0));
  const at = (position: number): number => Math.min(Math.max(position < 0 ? position + rank : position, 0), rank);
  const [start, end] = [at(node.attr('start')), at(node.attr('end') ?? rank)];
  return place && (place.axis < start || place.axis >= end) ? [undefined] : 'reads the batch as a size';
}

export function trilu(node: Node<'Trilu'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  return place && place.axis < rankOf(node.inputs[0]) - 2 ? toAll(node, place) : mixes;
}

/** Normalised over `axis` and all after it. */
export function normalised(node: Node<'LayerNormalization' | 'RMSNormalization'>, context: BatchContext): Places {
  const place = onlyFirst(node, context);
  const [axis] = fromFront([node.attr('axis')], rankOf(node.inputs[0])) ?? [];
  return place && axis !== undefined && place.axis < axis ? pointwise(node, context) : mixes;
}
