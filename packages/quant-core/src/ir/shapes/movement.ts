import type { Dim, Node } from '../graph.js';
import { addDims, divideDims, divideDimsExactly, minDims, multiplyDims, neverEqual, productOfDims, subtractDims } from './dim.js';
import {
  axesOf,
  axisOf,
  broadcast,
  commonDType,
  misfit,
  mostAxes,
  type ShapeContext,
  show,
  sumOfDims,
  type Types,
  typed,
  unknownDim,
  unknownShape,
  wantDType,
  wantIntegers,
} from './rule.js';

/** [d0 … dn] → [d0·…·d(axis-1), d(axis)·…·dn]. */
export function flatten(node: Node<'Flatten'>): Types {
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const axis = node.attr('axis');
  const at = axis === shape.length ? axis : axisOf(node, axis, Math.max(shape.length, 1));
  return [typed(dtype, [productOfDims(shape.slice(0, at)), productOfDims(shape.slice(at))])];
}

/** 0 copies a dimension of the input (unless `allowzero`), one -1 takes what is left. */
export function reshape(node: Node<'Reshape'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  const target = context.elements(node.input(1));
  if (!target) {
    const rank = node.input(1).shape?.[0];
    return [typed(dtype, typeof rank === 'number' ? unknownShape(node, rank) : undefined)];
  }
  let open = -1;
  const out = target.map((dim, axis): Dim => {
    if (dim === -1) {
      if (open >= 0) throw misfit(node, `the target ${show(target)} has two open dimensions`, node.input(1));
      open = axis;
      return 1;
    }
    if (typeof dim === 'number' && (dim < 0 || !Number.isSafeInteger(dim)))
      throw misfit(node, `the target ${show(target)} holds ${dim}`, node.input(1));
    if (dim !== 0 || node.attr('allowzero') === 1) return dim;
    if (!shape) return unknownDim(node.output(), axis);
    if (axis >= shape.length)
      throw misfit(node, `the target ${show(target)} copies dimension ${axis} of an input of shape ${show(shape)}`, node.input(1));
    return shape[axis] as Dim;
  });
  if (!shape)
    return [
      typed(
        dtype,
        out.map((dim, axis) => (axis === open ? unknownDim(node.output(), axis) : dim)),
      ),
    ];
  const refuse = () => misfit(node, `an input of shape ${show(shape)} cannot be reshaped to ${show(target)}`, node.input(0));
  const have = productOfDims(shape);
  const want = productOfDims(out);
  if (open < 0) {
    if (neverEqual(have, want)) throw refuse();
  } else if (want === 0) {
    if (have !== 0) throw refuse();
    out[open] = 0;
  } else {
    const rest = divideDimsExactly(have, want);
    if (rest === undefined && typeof have === 'number' && typeof want === 'number') throw refuse();
    out[open] = rest ?? divideDims(have, want);
  }
  return [typed(dtype, out)];
}

export function transpose(node: Node<'Transpose'>): Types {
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const perm = node.attr('perm') ?? shape.map((_, axis) => shape.length - 1 - axis);
  const order = axesOf(node, perm, shape.length);
  if (order.length !== shape.length) throw misfit(node, `perm ${show(perm)} does not fit an input of shape ${show(shape)}`, node.input(0));
  return [
    typed(
      dtype,
      order.map((axis) => shape[axis] as Dim),
    ),
  ];
}

export function squeeze(node: Node<'Squeeze'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  if (!node.inputs[1]) return [typed(dtype, shape.some((dim) => typeof dim === 'string') ? undefined : shape.filter((dim) => dim !== 1))];
  const given = context.elements(node.inputs[1]);
  if (!given) return [typed(dtype, undefined)];
  const axes = new Set(axesOf(node, given, shape.length));
  for (const axis of axes) {
    if (neverEqual(shape[axis] as Dim, 1)) throw misfit(node, `axis ${axis} of shape ${show(shape)} is not 1`, node.input(0));
  }
  return [
    typed(
      dtype,
      shape.filter((_, axis) => !axes.has(axis)),
    ),
  ];
}

export function unsqueeze(node: Node<'Unsqueeze'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  const given = context.elements(node.input(1));
  if (!shape || !given) return [typed(dtype, undefined)];
  const rank = shape.length + given.length;
  const axes = new Set(axesOf(node, given, rank));
  const rest = shape[Symbol.iterator]();
  return [
    typed(
      dtype,
      Array.from({ length: rank }, (_, axis) => (axes.has(axis) ? 1 : (rest.next().value as Dim))),
    ),
  ];
}

export function concat(node: Node<'Concat'>): Types {
  const dtype = commonDType(
    node,
    node.inputs.map((_, port) => port),
  );
  const shapes = node.inputs.map((value) => value?.shape);
  const first = shapes.find((shape) => shape !== undefined);
  if (!first) return [typed(dtype, undefined)];
  const axis = axisOf(node, node.attr('axis'), first.length);
  const out: Dim[] = [...first];
  for (const [port, shape] of shapes.entries()) {
    if (!shape) continue;
    if (shape.length !== first.length)
      throw misfit(node, `inputs of shapes ${show(first)} and ${show(shape)} cannot be joined`, node.inputs[port]);
    for (const [i, dim] of shape.entries()) {
      if (i === axis) continue;
      if (neverEqual(dim, out[i] as Dim))
        throw misfit(node, `inputs of shapes ${show(first)} and ${show(shape)} cannot be joined on axis ${axis}`, node.inputs[port]);
      if (typeof dim === 'number') out[i] = dim;
    }
  }
  out[axis] = shapes.every((shape) => shape !== undefined)
    ? sumOfDims(shapes.map((shape) => shape[axis] as Dim))
    : unknownDim(node.output(), axis);
  return [typed(dtype, out)];
}

/** Positions beyond this mean "to the end" (or "from the start") whatever the size is. */
const farAway = 2 ** 30;

/** A start or end, counted from the front and clamped to `low … high`. Negative positions in an open size are taken to be inside it. */
function clampPosition(position: Dim, size: Dim, low: number, high: Dim): Dim {
  if (typeof position === 'number' && position < -farAway) return low;
  if (typeof position === 'number' && position > farAway) return high;
  const fromFront = typeof position === 'number' && position < 0 ? addDims(size, position) : position;
  const clamped = minDims(fromFront, high);
  return typeof clamped === 'number' ? Math.max(low, clamped) : clamped;
}

/** How many elements `start:end:step` selects of `size`. Backwards, a start is clamped to `0 … size - 1` and an end to `-1 … size - 1`. */
function sliceLength(start: Dim, end: Dim, step: number, size: Dim): Dim {
  const high = step > 0 ? size : addDims(size, -1);
  const from = clampPosition(start, size, 0, high);
  const to = clampPosition(end, size, step > 0 ? 0 : -1, high);
  const span = step > 0 ? subtractDims(to, from) : subtractDims(from, to);
  const length = divideDims(addDims(span, Math.abs(step) - 1), Math.abs(step));
  return typeof length === 'number' ? Math.max(0, length) : length;
}

export function slice(node: Node<'Slice'>, context: ShapeContext): Types {
  wantIntegers(node, 1, 2, 3, 4);
  const { dtype, shape } = node.input(0);
  if (!shape) return [typed(dtype, undefined)];
  const starts = context.elements(node.input(1));
  const ends = context.elements(node.input(2));
  const count = starts?.length ?? ends?.length ?? node.input(1).shape?.[0];
  const axesGiven = node.inputs[3]
    ? context.elements(node.inputs[3])
    : typeof count === 'number'
      ? Array.from({ length: Math.min(count, mostAxes) }, (_, axis) => axis)
      : undefined;
  if (!axesGiven)
    return [
      typed(
        dtype,
        shape.map((_, axis) => unknownDim(node.output(), axis)),
      ),
    ];
  const axes = axesOf(node, axesGiven, shape.length);
  const steps = node.inputs[4] ? context.elements(node.inputs[4]) : axes.map(() => 1);
  for (const [port, list] of [starts, ends, undefined, steps].entries()) {
    if (list && list.length !== axes.length)
      throw misfit(node, `input ${port + 1} has ${list.length} entries for ${axes.length} axes`, node.inputs[port + 1]);
  }
  const out: Dim[] = [...shape];
  for (const [i, axis] of axes.entries()) {
    const [start, end, step] = [starts?.[i], ends?.[i], steps?.[i]];
    if (step === 0) throw misfit(node, 'a step is 0', node.inputs[4]);
    const known = start !== undefined && end !== undefined && typeof step === 'number';
    out[axis] = known ? sliceLength(start, end, step, shape[axis] as Dim) : unknownDim(node.output(), axis);
  }
  return [typed(dtype, out)];
}

/** Pads may be negative, which crops. */
export function pad(node: Node<'Pad'>, context: ShapeContext): Types {
  wantIntegers(node, 1, 3);
  const { dtype, shape } = node.input(0);
  commonDType(node, [0, 2]);
  if (!shape) return [typed(dtype, undefined)];
  const pads = context.elements(node.input(1));
  const axesGiven = node.inputs[3] ? context.elements(node.inputs[3]) : shape.map((_, axis) => axis);
  if (!pads || !axesGiven)
    return [
      typed(
        dtype,
        shape.map((_, axis) => unknownDim(node.output(), axis)),
      ),
    ];
  const axes = axesOf(node, axesGiven, shape.length);
  if (pads.length !== 2 * axes.length) throw misfit(node, `pads has ${pads.length} entries, wanted ${2 * axes.length}`, node.input(1));
  const out: Dim[] = [...shape];
  for (const [i, axis] of axes.entries()) {
    out[axis] = addDims(out[axis] as Dim, addDims(pads[i] as Dim, pads[i + axes.length] as Dim));
  }
  return [typed(dtype, out)];
}

export function split(node: Node<'Split'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  const count = node.outputs.length;
  if (!shape) return node.outputs.map(() => typed(dtype, undefined));
  const axis = axisOf(node, node.attr('axis'), shape.length);
  const size = shape[axis] as Dim;
  const pieces = node.inputs[1] ? context.elements(node.inputs[1]) : equalPieces(node, size, count);
  if (pieces) {
    if (pieces.length !== count) throw misfit(node, `split names ${pieces.length} pieces for ${count} outputs`, node.inputs[1]);
    if (neverEqual(sumOfDims(pieces), size))
      throw misfit(node, `pieces ${show(pieces)} do not add up to ${size} on axis ${axis}`, node.input(0));
  }
  return node.outputs.map((value, i) =>
    typed(
      dtype,
      shape.map((dim, at) => (at === axis ? (pieces?.[i] ?? unknownDim(value, at)) : dim)),
    ),
  );
}

/** Equal pieces; with `num_outputs` the last one may be smaller. */
function equalPieces(node: Node<'Split'>, size: Dim, count: number): Dim[] {
  const stated = node.attr('num_outputs');
  if (stated !== undefined && stated !== count) throw misfit(node, `num_outputs is ${stated} for ${count} outputs`);
  const exact = divideDimsExactly(size, count);
  if (exact !== undefined) return new Array<Dim>(count).fill(exact);
  if (stated === undefined && typeof size === 'number')
    throw misfit(node, `a dimension of ${size} does not divide into ${count} equal pieces`, node.input(0));
  const piece = divideDims(addDims(size, count - 1), count);
  return Array.from({ length: count }, (_, i) => (i < count - 1 ? piece : subtractDims(size, multiplyDims(piece, count - 1))));
}

export function gather(node: Node<'Gather'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  const indices = node.input(1).shape;
  if (!shape || !indices) return [typed(dtype, undefined)];
  const axis = axisOf(node, node.attr('axis'), shape.length);
  const size = shape[axis] as Dim;
  for (const index of context.elements(node.input(1)) ?? []) {
    if (typeof index === 'number' && typeof size === 'number' && (index < -size || index >= size))
      throw misfit(node, `index ${index} is outside a dimension of ${size}`, node.input(1));
  }
  return [typed(dtype, [...shape.slice(0, axis), ...indices, ...shape.slice(axis + 1)])];
}

/** Indices and updates have one shape, no larger than the data away from the axis. */
export function scatter(node: Node<'ScatterElements'>): Types {
  wantIntegers(node, 1);
  const dtype = commonDType(node, [0, 2]);
  const [data, indices, updates] = [0, 1, 2].map((port) => node.input(port).shape);
  if (data) axisOf(node, node.attr('axis'), data.length);
  if (indices && updates && (indices.length !== updates.length || indices.some((dim, axis) => neverEqual(dim, updates[axis] as Dim)))) {
    throw misfit(node, `indices ${show(indices)} and updates ${show(updates)} differ in shape`, node.input(2));
  }
  if (data && indices && indices.length !== data.length)
    throw misfit(node, `indices ${show(indices)} do not fit data ${show(data)}`, node.input(1));
  return [typed(dtype, data)];
}

export function expand(node: Node<'Expand'>, context: ShapeContext): Types {
  wantIntegers(node, 1);
  const { dtype, shape } = node.input(0);
  const target = context.elements(node.input(1));
  return [typed(dtype, target && broadcast(node, [shape, target]))];
}

export function shapeOf(node: Node<'Shape'>): Types {
  const rank = node.input(0).shape?.length;
  return [typed('int64', rank === undefined ? [unknownDim(node.output(), 0)] : [shapeRange(node, rank).length])];
}

/** Which axes a Shape node reports. */
export function shapeRange(node: Node<'Shape'>, rank: number): { start: number; length: number } {
  const clamp = (at: number) => Math.max(0, Math.min(rank, at < 0 ? at + rank : at));
  const start = clamp(node.attr('start'));
  return { start, length: Math.max(0, clamp(node.attr('end') ?? rank) - start) };
}

export function constant(node: Node<'Constant'>): Types {
  const { dtype, shape } = node.attr('value');
  return [{ dtype, shape }];
}

export function constantOfShape(node: Node<'ConstantOfShape'>, context: ShapeContext): Types {
  wantDType(node, 0, ['int64']);
  const dtype = node.attr('value')?.dtype ?? 'float32';
  const rank = node.input(0).shape?.[0];
  const shape = context.elements(node.input(0)) ?? (typeof rank === 'number' ? unknownShape(node, rank) : undefined);
  return [typed(dtype, shape)];
}
