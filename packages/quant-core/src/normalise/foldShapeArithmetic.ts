import type { Dim, Graph, Node, Value } from '../ir/graph.js';
import type { KnownElements } from '../ir/infer.js';
import type { Pass } from '../ir/pass.js';
import { alwaysEqual, subtractDims } from '../ir/shapes/dim.js';
import { allocate } from '../tensor/dtype.js';
import { Tensor } from '../tensor/tensor.js';
import { sweep } from './match.js';

/** "To the end" of a Slice, whatever the size is. */
const toTheEnd = Number.MAX_SAFE_INTEGER;

/**
 * Sizes that the model computes but that are known: whole numbers become constants, and the targets of Reshape, Expand and Slice
 * that hold an open size are written so that they need not know it (`[N, 784]` as `[0, 784]`).
 */
export const foldShapeArithmetic: Pass = {
  name: 'foldShapeArithmetic',
  run: (graph, known) =>
    sweep(graph, (node) => {
      if (toConstant(graph, node, known)) return true;
      if (node.is('Reshape')) return setTarget(graph, node, 1, known, reshapeTarget(node));
      if (node.is('Expand')) return setTarget(graph, node, 1, known, expandTarget(node));
      if (node.is('Slice'))
        return [1, 2].map((port) => setTarget(graph, node, port, known, slicePositions(node, port, known))).includes(true);
      return false;
    }),
};

function toConstant(graph: Graph, node: Node, known: KnownElements): boolean {
  if (node.op === 'Opaque' || node.op === 'Constant') return false;
  let changed = false;
  for (const value of node.outputs) {
    const elements = known.get(value);
    const { dtype, shape } = value.type ?? {};
    if (!elements?.every((dim) => typeof dim === 'number') || value.readers.length === 0 || graph.outputs.includes(value)) continue;
    if ((dtype !== 'int64' && dtype !== 'int32' && dtype !== 'bool') || !shape?.every((dim) => typeof dim === 'number')) continue;
    const data = allocate(dtype, elements.length);
    for (const [i, element] of (elements as number[]).entries()) data[i] = dtype === 'int64' ? BigInt(element) : element;
    graph.replaceAll(value, graph.constant(`${value.name}_known`, new Tensor(dtype, shape as number[], data)));
    changed = true;
  }
  return changed;
}

/** Replace a computed input whose elements are known (with open sizes in them) by a constant that means the same. */
function setTarget(
  graph: Graph,
  node: Node<'Reshape' | 'Expand' | 'Slice'>,
  port: number,
  known: KnownElements,
  target: readonly number[] | undefined,
): boolean {
  const before = node.inputs[port];
  if (!target || !before || before.constant || !known.has(before)) return false;
  const dtype = before.dtype === 'int32' ? 'int32' : 'int64';
  const data = dtype === 'int32' ? Int32Array.from(target) : BigInt64Array.from(target, BigInt);
  node.setInput(port, graph.constant(`${node.name}_${['', 'shape', 'end'][port]}`, new Tensor(dtype, [target.length], data)));
  return true;
}

/** The result's shape with 0 for a size copied from the input and -1 for one other open size. */
function reshapeTarget(node: Node<'Reshape'>): number[] | undefined {
  const from = node.input(0).shape;
  const to = node.output().shape;
  if (!from || !to || to.includes(0) || node.attr('allowzero') === 1) return undefined;
  let open = 0;
  const target = to.map((dim, axis) => {
    if (typeof dim === 'number') return dim;
    if (axis < from.length && alwaysEqual(dim, from[axis] as Dim)) return 0;
    open++;
    return -1;
  });
  return open <= 1 ? target : undefined;
}

/** The result's shape with 1 for a size of the input. */
function expandTarget(node: Node<'Expand'>): number[] | undefined {
  const from = node.input(0).shape;
  const to = node.output().shape;
  if (!from || !to) return undefined;
  const target = to.map((dim, axis) => {
    if (typeof dim === 'number') return dim;
    const at = axis - (to.length - from.length);
    return at >= 0 && alwaysEqual(dim, from[at] as Dim) ? 1 : undefined;
  });
  return target.every((dim) => dim !== undefined) ? target : undefined;
}

/** Starts or ends counted from the end of their axis, where they are given by its size. */
function slicePositions(node: Node<'Slice'>, port: number, known: KnownElements): number[] | undefined {
  const positions = known.get(node.input(port));
  const { shape } = node.input(0);
  const axes = node.inputs[3] ? elementsOf(node.inputs[3], known) : positions?.map((_, axis) => axis);
  if (!positions || !shape || !axes) return undefined;
  const found = positions.map((position, i) => {
    if (typeof position === 'number') return position;
    const axis = axes[i];
    const size = typeof axis === 'number' ? shape.at(axis) : undefined;
    const distance = size === undefined ? undefined : subtractDims(position, size);
    if (typeof distance !== 'number') return undefined;
    return distance < 0 ? distance : toTheEnd;
  });
  return found.every((position) => position !== undefined) ? found : undefined;
}

function elementsOf(value: Value, known: KnownElements): readonly Dim[] | undefined {
  return (
    known.get(value) ?? (value.constant && value.constant.size <= 64 ? Array.from(value.constant.data as BigInt64Array, Number) : undefined)
  );
}
