import { type GraphBuilder, staticShape } from '../../ir/builder.js';
import type { Node, Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import { adjointAlong } from '../axisMap.js';
import { constantInts, type GradientRule, normalised, restored, rule, untrainable, zeros } from '../rule.js';

const transpose: GradientRule<'Transpose'> = rule((node, dy, _wanted, b) => {
  const rank = staticShape(node.input(0)).length;
  const perm = node.attr('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  const inverse = new Array<number>(rank);
  perm.forEach((from, to) => {
    inverse[from] = to;
  });
  return [b.op('Transpose', [dy], { perm: inverse })];
});

const concat: GradientRule<'Concat'> = rule((node, dy, wanted, b) => {
  const axis = normalised(node.attr('axis'), staticShape(node.output()).length);
  let start = 0;
  return node.inputs.map((value, port) => {
    const size = staticShape(value as Value)[axis] as number;
    start += size;
    return wanted[port] ? b.slice(dy, [axis], [start - size], [start]) : undefined;
  });
});

/** The gradient padded with zeros to where the slice was taken; steps other than 1 spread it first. */
const slice: GradientRule<'Slice'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const out = staticShape(node.output());
  const starts = constantInts(node.inputs[1]);
  const axes = constantInts(node.inputs[3]) ?? starts?.map((_, i) => i);
  const steps = constantInts(node.inputs[4]) ?? axes?.map(() => 1);
  if (!starts || !axes || !steps) throw untrainable(node, 'its bounds are not constant');
  let grad = dy;
  const begin = new Array<number>(shape.length).fill(0);
  const current = [...out];
  axes.forEach((raw, i) => {
    const axis = normalised(raw, shape.length);
    const dim = shape[axis] as number;
    const step = steps[i] as number;
    const size = out[axis] as number;
    let start = starts[i] as number;
    if (start < 0) start += dim;
    start = step > 0 ? Math.min(Math.max(start, 0), dim) : Math.min(Math.max(start, 0), dim - 1);
    const stride = Math.abs(step);
    if (step < 0) {
      grad = b.slice(grad, [axis], [size - 1], [-size - 1], [-1]);
      start += (size - 1) * step;
    }
    if (stride > 1) {
      const spread = [...current.slice(0, axis + 1), 1, ...current.slice(axis + 1)];
      const pads = new Array<number>(spread.length * 2).fill(0);
      pads[spread.length + axis + 1] = stride - 1;
      grad = b.pad(b.reshape(grad, spread), pads);
      current[axis] = size * stride;
      grad = b.slice(b.reshape(grad, current), [axis], [0], [(size - 1) * stride + 1]);
      current[axis] = (size - 1) * stride + 1;
    }
    begin[axis] = start;
  });
  const end = shape.map((dim, axis) => dim - (begin[axis] as number) - (current[axis] as number));
  return [b.pad(grad, [...begin, ...end]), undefined, undefined, undefined, undefined];
});

/** Reflect, edge and wrap: every element of the result is a copy of one of the input. */
function copied(node: Node<'Pad'>, dy: Value, axes: readonly number[], begin: readonly number[], b: GraphBuilder): Value {
  const mode = node.attr('mode');
  const shape = staticShape(node.input(0));
  const current = [...staticShape(node.output())];
  let grad = dy;
  for (const [i, axis] of axes.entries()) {
    const [size, out] = [shape[axis] as number, current[axis] as number];
    const source = Array.from({ length: out }, (_, at) => {
      const from = at - (begin[i] as number);
      if (mode === 'edge') return Math.min(Math.max(from, 0), size - 1);
      if (mode === 'wrap') return ((from % size) + size) % size;
      const period = Math.max(1, 2 * (size - 1));
      const folded = ((from % period) + period) % period;
      return folded < size ? folded : period - folded;
    });
    grad = adjointAlong(
      b,
      grad,
      current,
      axis,
      size,
      source.map((from) => [[from, 1]]),
    );
    current[axis] = size;
  }
  return grad;
}

const pad: GradientRule<'Pad'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const pads = constantInts(node.inputs[1]);
  if (!pads) throw untrainable(node, 'its pads are not constant');
  const axes = (constantInts(node.inputs[3]) ?? shape.map((_, i) => i)).map((axis) => normalised(axis, shape.length));
  const begin = axes.map((_, i) => pads[i] as number);
  if (node.attr('mode') !== 'constant') return [copied(node, dy, axes, begin, b), undefined, undefined, undefined];
  const sliced = b.slice(
    dy,
    axes,
    begin.map((p) => Math.max(p, 0)),
    axes.map(
      (axis, i) =>
        Math.max(begin[i] as number, 0) +
        (shape[axis] as number) +
        Math.min(begin[i] as number, 0) +
        Math.min(pads[axes.length + i] as number, 0),
    ),
  );
  const back = new Array<number>(shape.length * 2).fill(0);
  axes.forEach((axis, i) => {
    back[axis] = Math.max(0, -(begin[i] as number));
    back[shape.length + axis] = Math.max(0, -(pads[axes.length + i] as number));
  });
  return [b.pad(sliced, back), undefined, undefined, undefined];
});

const split: GradientRule<'Split'> = (node, dy, _wanted, b) => {
  const axis = normalised(node.attr('axis'), staticShape(node.input(0)).length);
  const parts = node.outputs.map((value, port) => dy[port] ?? zeros(b, staticShape(value)));
  return [b.op('Concat', parts, { axis }), undefined];
};

/** Each dimension is `repeats` copies, one after the other. */
const tile: GradientRule<'Tile'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const repeats = constantInts(node.inputs[1]);
  if (!repeats) throw untrainable(node, 'its repeats are not constant');
  const spread = shape.flatMap((dim, axis) => [repeats[axis] as number, dim]);
  return [
    b.sum(
      b.reshape(dy, spread),
      shape.map((_, axis) => 2 * axis),
    ),
    undefined,
  ];
});

const depthToSpace: GradientRule<'DepthToSpace'> = rule((node, dy, _wanted, b) => {
  const blocksize = node.attr('blocksize');
  if (node.attr('mode') !== 'CRD') return [b.op('SpaceToDepth', [dy], { blocksize })];
  const [n, c, height, width] = staticShape(node.output()) as [number, number, number, number];
  const blocks = b.reshape(dy, [n, c, height / blocksize, blocksize, width / blocksize, blocksize]);
  return [b.reshape(b.op('Transpose', [blocks], { perm: [0, 1, 3, 5, 2, 4] }), staticShape(node.input(0)))];
});

const identity = <K extends OpType>(): GradientRule<K> =>
  rule((node, dy) => [dy, ...new Array<undefined>(Math.max(0, node.inputs.length - 1)).fill(undefined)]);

export const movementRules = {
  Dropout: identity<'Dropout'>(),
  Identity: identity<'Identity'>(),
  Flatten: restored<'Flatten'>(),
  Reshape: restored<'Reshape'>(),
  Squeeze: restored<'Squeeze'>(),
  Unsqueeze: restored<'Unsqueeze'>(),
  Transpose: transpose,
  Concat: concat,
  Slice: slice,
  Pad: pad,
  Split: split,
  Tile: tile,
  DepthToSpace: depthToSpace,
  SpaceToDepth: rule<'SpaceToDepth'>((node, dy, _wanted, b) => [
    b.op('DepthToSpace', [dy], { blocksize: node.attr('blocksize'), mode: 'DCR' }),
  ]),
  Expand: rule<'Expand'>((node, dy, _wanted, b) => [b.unbroadcast(dy, staticShape(node.output()), staticShape(node.input(0))), undefined]),
  Trilu: rule<'Trilu'>((node, dy, _wanted, b) => [b.op('Trilu', [dy, node.inputs[1]], { ...node.attrs }), undefined]),
  // The sum seen from its other end.
  CumSum: rule<'CumSum'>((node, dy, _wanted, b) => [
    b.op('CumSum', [dy, node.input(1)], { ...node.attrs, reverse: node.attr('reverse') ? 0 : 1 }),
    undefined,
  ]),
};
