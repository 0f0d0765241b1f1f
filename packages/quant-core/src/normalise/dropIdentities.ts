import type { Node, Value } from '../ir/graph.js';
import type { KnownElements } from '../ir/infer.js';
import type { OpType } from '../ir/ops.js';
import type { Pass } from '../ir/pass.js';
import { alwaysEqual } from '../ir/shapes/dim.js';
import { toNumbers } from '../tensor/tensor.js';
import { bypass, constantOperand, sweep, uniformConstant } from './match.js';

/** The input a node passes on unchanged, if it does. */
type Rule<K extends OpType> = (node: Node<K>, known: KnownElements) => Value | undefined;

const sameShape = (a: Value, b: Value): boolean =>
  a.shape !== undefined && a.shape.length === b.shape?.length && a.shape.every((dim, axis) => alwaysEqual(dim, b.shape?.[axis] ?? -1));

/** For ops that keep all elements in order: unchanged when the shape is. */
const unlessReshaped = (node: Node<OpType>): Value | undefined => (sameShape(node.input(0), node.output()) ? node.input(0) : undefined);

const onlyInput = (node: Node<OpType>): Value | undefined => (node.inputs.length === 1 ? node.input(0) : undefined);

/** `x op c`, where `c` is the neutral element; `c op x` too when the op commutes. */
function neutral(element: number, commutes: boolean) {
  return (node: Node<OpType>): Value | undefined => {
    const operands = constantOperand(node);
    if (!operands || (operands.port === 0 && !commutes) || uniformConstant(operands.constant) !== element) return undefined;
    return sameShape(operands.other, node.output()) && operands.other.dtype === node.output().dtype ? operands.other : undefined;
  };
}

const allAre = (values: readonly number[] | undefined, wanted: number): boolean => values?.every((value) => value === wanted) ?? true;

/** A window of one element that moves by one. */
function pointWindow(node: Node<'MaxPool' | 'AveragePool'>): Value | undefined {
  const trivial =
    node.outputs.length === 1 && allAre(node.attr('kernel_shape'), 1) && allAre(node.attr('strides'), 1) && allAre(node.attr('pads'), 0);
  return trivial ? node.input(0) : undefined;
}

const identities: { [K in OpType]?: Rule<K> } = {
  Identity: (node) => node.input(0),
  Cast: (node) => (node.input(0).dtype !== undefined && node.input(0).dtype === node.attr('to') ? node.input(0) : undefined),
  Reshape: unlessReshaped,
  Flatten: unlessReshaped,
  Squeeze: unlessReshaped,
  Unsqueeze: unlessReshaped,
  Expand: unlessReshaped,
  Transpose: (node) =>
    node.attr('perm')?.every((axis, at) => axis === at) || node.input(0).shape?.length === 1 ? node.input(0) : undefined,
  Pad: (node) => {
    const pads = node.input(1).constant;
    return pads && Array.from(toNumbers(pads)).every((pad) => pad === 0) ? node.input(0) : undefined;
  },
  Slice: (node, known) => {
    const steps = node.inputs[4];
    const forward = !steps || (steps.constant ? uniformConstant(steps) === 1 : known.get(steps)?.every((step) => step === 1));
    return forward ? unlessReshaped(node) : undefined;
  },
  Concat: onlyInput,
  Max: onlyInput,
  Min: onlyInput,
  Split: (node) => (node.outputs.length === 1 ? unlessReshaped(node) : undefined),
  Mul: neutral(1, true),
  Div: neutral(1, false),
  Pow: neutral(1, false),
  Add: neutral(0, true),
  Sub: neutral(0, false),
  Clip: (node) => {
    const open = (port: number, limit: number) => !node.inputs[port] || uniformConstant(node.inputs[port]) === limit;
    return open(1, Number.NEGATIVE_INFINITY) && open(2, Number.POSITIVE_INFINITY) ? node.input(0) : undefined;
  },
  MaxPool: pointWindow,
  AveragePool: pointWindow,
};

/** Take out every node that passes its input on unchanged. */
export const dropIdentities: Pass = {
  name: 'dropIdentities',
  run: (graph, known) =>
    sweep(graph, (node) => {
      const rule = identities[node.op] as Rule<OpType> | undefined;
      const to = rule?.(node, known);
      return to !== undefined && bypass(graph, node, to);
    }),
};
