import type { Graph, Node, Value } from '../ir/graph.js';
import type { OpType } from '../ir/ops.js';
import type { Pass } from '../ir/pass.js';
import { Tensor } from '../tensor/tensor.js';
import { bypass, constantOperand, scalarConstant, soleProducer, sweep } from './match.js';

/**
 * Activations that exporters spell out: ReLU and ReLU6 from Max, Min and Clip; HardSigmoid and HardSwish from
 * `Clip(x + 3, 0, 6) / 6` and `x` times that.
 */
export const fuseActivations: Pass = {
  name: 'fuseActivations',
  run: (graph) => sweep(graph, (node) => node.outputs[0]?.dtype === 'float32' && rules.some((rule) => rule(graph, node))),
};

const rules: readonly ((graph: Graph, node: Node) => boolean)[] = [relu, clip, hardSigmoid, hardSwish, scaledHardSwish];

/** Put a node in the place of `node`, under its name. */
function replace<K extends OpType>(graph: Graph, node: Node, make: () => Node<K>): boolean {
  const [before, after] = [node.output(), make().output()];
  after.type = before.type;
  if (!bypass(graph, node, after)) return false;
  if (!graph.outputs.includes(after)) [before.name, after.name] = [after.name, before.name];
  return true;
}

/** Bounds of a clamp, in whichever op it is written; `x` is what it clamps. */
interface Clamp {
  x: Value;
  low: number;
  high: number;
}

const isBound = (value: number | undefined): value is number => value !== undefined && !Number.isNaN(value);

function clampOf(node: Node): Clamp | undefined {
  const open = { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  if (node.is('Relu')) return { x: node.input(0), ...open, low: 0 };
  if (node.is('Clip')) {
    const low = node.inputs[1] ? scalarConstant(node.inputs[1]) : open.low;
    const high = node.inputs[2] ? scalarConstant(node.inputs[2]) : open.high;
    return isBound(low) && isBound(high) ? { x: node.input(0), low, high } : undefined;
  }
  if (!(node.is('Max') || node.is('Min')) || node.inputs.length !== 2) return undefined;
  const operands = constantOperand(node);
  const bound = scalarConstant(operands?.constant);
  const rank = operands?.other.shape?.length;
  // A bound of shape [1] is only one where it does not add an axis.
  if (!operands || !isBound(bound) || rank === undefined || rank < (operands.constant.shape?.length ?? 0)) return undefined;
  return node.is('Max') ? { x: operands.other, ...open, low: bound } : { x: operands.other, ...open, high: bound };
}

/** A clamp from 0 to infinity is a Relu. */
function relu(graph: Graph, node: Node): boolean {
  if (node.is('Relu')) return false;
  const clamp = clampOf(node);
  if (clamp?.low !== 0 || clamp.high !== Number.POSITIVE_INFINITY) return false;
  return replace(graph, node, () => graph.node('Relu', [clamp.x], {}, { name: node.name, before: node }));
}

/** Two clamps in a row are one, and a clamp written as Min or Max is a Clip. */
function clip(graph: Graph, node: Node): boolean {
  const outer = clampOf(node);
  if (!outer) return false;
  const between = outer.x.producer && soleProducer(graph, outer.x, 'Relu', 'Clip', 'Max', 'Min');
  const inner = between && clampOf(between);
  if (!inner && (node.is('Relu') || node.is('Clip'))) return false;
  // max(min(x, a), b) with b above a would be constant; leave it as it is.
  const low = Math.max(outer.low, inner?.low ?? outer.low);
  const high = Math.min(outer.high, inner?.high ?? outer.high);
  if (low > high) return false;
  const bound = (name: string, value: number): Value | undefined =>
    Number.isFinite(value) ? graph.constant(`${node.name}_${name}`, Tensor.scalar(value)) : undefined;
  const x = inner?.x ?? outer.x;
  return replace(graph, node, () =>
    low === 0 && high === Number.POSITIVE_INFINITY
      ? graph.node('Relu', [x], {}, { name: node.name, before: node })
      : graph.node('Clip', [x, bound('min', low), bound('max', high)], {}, { name: node.name, before: node }),
  );
}

/** `x` in `Clip(x + 3, 0, 6)`. */
function shiftedRelu6(graph: Graph, value: Value | undefined): Value | undefined {
  const node = soleProducer(graph, value, 'Clip');
  const clamp = node && clampOf(node);
  if (clamp?.low !== 0 || clamp.high !== 6) return undefined;
  const add = soleProducer(graph, clamp.x, 'Add');
  const operands = add && constantOperand(add);
  return scalarConstant(operands?.constant) === 3 && operands?.other.shape?.length === clamp.x.shape?.length ? operands?.other : undefined;
}

/** What `node` multiplies by a sixth. */
function sixthOf(node: Node): Value | undefined {
  const operands = node.is('Mul') || node.is('Div') ? constantOperand(node) : undefined;
  const factor = scalarConstant(operands?.constant);
  if (!operands || factor === undefined || operands.other.shape?.length !== node.output().shape?.length) return undefined;
  const fits = node.is('Mul') ? Math.abs(factor * 6 - 1) < 1e-6 : operands.port === 1 && factor === 6;
  return fits ? operands.other : undefined;
}

function hardSigmoid(graph: Graph, node: Node): boolean {
  const x = shiftedRelu6(graph, sixthOf(node));
  if (!x) return false;
  return replace(graph, node, () =>
    graph.node('HardSigmoid', [x], { alpha: Math.fround(1 / 6), beta: 0.5 }, { name: node.name, before: node }),
  );
}

/** The other factor when `node` multiplies by a value that `match` recognises as made from it. */
function timesOwn(node: Node, match: (value: Value) => Value | undefined): Value | undefined {
  if (!node.is('Mul') || node.inputs.length !== 2) return undefined;
  const [a, b] = [node.input(0), node.input(1)];
  if (match(a) === b) return b;
  return match(b) === a ? a : undefined;
}

/** `x · HardSigmoid(x)` with slope 1/6. */
function hardSwish(graph: Graph, node: Node): boolean {
  const x = timesOwn(node, (value) => {
    const gate = soleProducer(graph, value, 'HardSigmoid');
    return gate && Math.abs(gate.attr('alpha') * 6 - 1) < 1e-6 && gate.attr('beta') === 0.5 ? gate.input(0) : undefined;
  });
  return x !== undefined && replace(graph, node, () => graph.node('HardSwish', [x], {}, { name: node.name, before: node }));
}

/** `x · Clip(x + 3, 0, 6)`, and a sixth of it. */
function scaledHardSwish(graph: Graph, node: Node): boolean {
  const product = soleProducer(graph, sixthOf(node), 'Mul');
  const x = product && timesOwn(product, (value) => shiftedRelu6(graph, value));
  return x !== undefined && replace(graph, node, () => graph.node('HardSwish', [x], {}, { name: node.name, before: node }));
}
