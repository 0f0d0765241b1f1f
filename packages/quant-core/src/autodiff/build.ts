import { OctetError } from '../errors.js';
import { GraphBuilder } from '../ir/builder.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { type GradientRule, gradientRules } from './rules.js';

/** A gradient that replaces the rule of the table for one node, such as the straight-through estimator. */
export type CustomGradients = ReadonlyMap<Node, GradientRule<never>>;

/** Values that depend on one of `roots`. */
function reachableFrom(graph: Graph, roots: Iterable<Value>): Set<Value> {
  const reached = new Set<Value>(roots);
  for (const node of graph.nodes) {
    if (node.inputs.some((value) => value && reached.has(value))) for (const value of node.outputs) reached.add(value);
  }
  return reached;
}

/**
 * Reverse-mode differentiation: appends the gradient of the scalar `loss` to its graph and returns d loss / d value for each
 * of `wrt` (absent where the loss does not depend on it, or only through an operator without gradient: what lies before that is
 * frozen). Every shape must be static. Throws MODEL_NOT_TRAINABLE, naming such an operator, when none of `wrt` is left.
 */
export function differentiate(graph: Graph, loss: Value, wrt: readonly Value[], custom: CustomGradients = new Map()): Map<Value, Value> {
  const b = new GraphBuilder(graph);
  const needed = reachableFrom(graph, wrt);
  const gradients = new Map<Value, Value>([[loss, b.scalar(1)]]);
  let obstacle: OctetError | undefined;
  for (const node of [...graph.nodes].reverse()) {
    const dy = node.outputs.map((value) => gradients.get(value));
    if (!dy.some(Boolean)) continue;
    const wanted = node.inputs.map((value) => value !== undefined && needed.has(value));
    if (!wanted.some(Boolean)) continue;
    const parts = partsOf(node, (custom.get(node) ?? gradientRules[node.op]) as GradientRule<never> | null, dy, wanted, b);
    if (parts instanceof OctetError) {
      obstacle ??= parts;
      continue;
    }
    node.inputs.forEach((value, port) => {
      const part = parts[port];
      if (!value || !part || !wanted[port]) return;
      const before = gradients.get(value);
      gradients.set(value, before ? b.op('Add', [before, part]) : part);
    });
  }
  const found = new Map(wrt.flatMap((value) => (gradients.has(value) ? [[value, gradients.get(value) as Value] as const] : [])));
  if (found.size === 0 && obstacle) throw obstacle;
  return found;
}

/** Gradients of the inputs of a node, or why it has none. */
function partsOf(
  node: Node,
  rule: GradientRule<never> | null,
  dy: readonly (Value | undefined)[],
  wanted: readonly boolean[],
  b: GraphBuilder,
): readonly (Value | undefined)[] | OctetError {
  if (!rule)
    return new OctetError(
      'MODEL_NOT_TRAINABLE',
      `${node.opName} ${node.name} has no gradient, and lies between a trained layer and the loss`,
      { node: node.name, op: node.opName },
    );
  try {
    return rule(node as Node<never>, dy, wanted, b);
  } catch (error) {
    if (error instanceof OctetError && error.code === 'MODEL_NOT_TRAINABLE') return error;
    throw error;
  }
}
