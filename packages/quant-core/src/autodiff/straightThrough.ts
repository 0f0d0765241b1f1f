import type { Inserted, InsertedActivation, InsertedWeight } from '../fakequant/insert.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { type GraphBuilder, staticShape } from '../ir/builder.js';
import type { Node, Value } from '../ir/graph.js';
import type { CustomGradients } from './build.js';
import type { GradientRule } from './rules.js';

/** Real values at the ends of a grid, as step inputs. */
export interface GridEnds {
  low: Value;
  high: Value;
}

/** What the estimator is told about the scales of a step. */
export interface ScaleFacts {
  /** Ends of the grid of an activation group. */
  activationEnds(group: number): GridEnds;
  /** Ends of the grid of a weight, broadcast over its channels; absent where no value can lie outside. */
  weightEnds(index: number): GridEnds | undefined;
  /** Whether the scale of an activation group, or of a weight, is trained itself. */
  learned: { activation(group: number): boolean; weight(index: number): boolean };
}

type Rule = GradientRule<never>;
type Gradients = readonly (Value | undefined)[];

const rule = (make: (node: Node, dy: Value, b: GraphBuilder) => Gradients): Rule =>
  ((node: Node, dy: Gradients, _wanted: readonly boolean[], b: GraphBuilder) => make(node, dy[0] as Value, b)) as unknown as Rule;

/** The gradient goes through unchanged to the first input. */
const pass: Rule = rule((_node, dy) => [dy]);

/** Where `x` lies between the ends; `low` absent: it cannot lie below. */
function inside(b: GraphBuilder, x: Value, low: Value | undefined, high: Value): Value {
  const below = b.op('LessOrEqual', [x, high]);
  return low ? b.op('And', [b.op('GreaterOrEqual', [x, low]), below]) : below;
}

/**
 * Gradient by a scale, learned step size (Esser et al. 2020, arXiv:1902.08153): `Σ dy·(x̂ - x)/s` over the values inside the grid and
 * `Σ dy·x̂/s` over those outside, x̂ being the dequantized value. Summed over all axes but `axis`.
 */
function scaleGradient(b: GraphBuilder, dy: Value, x: Value, dequantized: Value, mask: Value, scale: Value, axis?: number): Value {
  const each = b.op('Mul', [dy, b.op('Sub', [dequantized, b.masked(x, mask)])]);
  const axes = staticShape(x)
    .map((_, at) => at)
    .filter((at) => at !== axis);
  return b.op('Div', [b.reshape(b.sum(each, axes), staticShape(scale)), scale]);
}

/**
 * Straight-through estimator: `dx = dy` where `low ≤ x ≤ high`, 0 outside (Bengio et al. 2013, arXiv:1308.3432; clipped form of
 * Jacob et al. 2018, arXiv:1712.05877), with the gradient by the scale where that is learned. For weights every value lies inside
 * unless their range is clipped or learned. After a ReLU whose zero is the bottom of the grid both masks become one, `0 < x ≤ high`.
 */
export function straightThrough(inserted: Inserted, plan: QuantPlan, facts: ScaleFacts): CustomGradients {
  const rules = new Map<Node, Rule>();
  for (const activation of inserted.activations) activationRules(rules, activation, plan, facts);
  inserted.weights.forEach((weight, index) => {
    weightRules(rules, weight, facts, index);
  });
  return rules;
}

function activationRules(rules: Map<Node, Rule>, activation: InsertedActivation, plan: QuantPlan, facts: ScaleFacts): void {
  const { point, float, chain, quantize, dequantize } = activation;
  for (const node of chain) rules.set(node, pass);
  const { low, high } = facts.activationEnds(point.group);
  const learned = facts.learned.activation(point.group);
  const grid = plan.groups[point.group]?.grid;
  const relu = float.producer;
  const merged = relu?.op === 'Relu' && float.readers.length === 1 && grid && !grid.symmetric;
  if (merged) {
    rules.set(
      relu,
      rule((node, dy, b) => {
        const y = node.output();
        return [b.masked(dy, b.op('And', [b.op('Greater', [y, b.scalar(0)]), b.op('LessOrEqual', [y, high])]))];
      }),
    );
  }
  if (merged && !learned) return;
  rules.set(
    quantize,
    rule((node, dy, b) => {
      const x = node.input(0);
      const mask = inside(b, x, merged ? undefined : low, high);
      const scale = learned ? scaleGradient(b, dy, x, dequantize.output(), mask, node.input(1)) : undefined;
      return [merged ? dy : b.masked(dy, mask), scale];
    }),
  );
}

function weightRules(rules: Map<Node, Rule>, weight: InsertedWeight, facts: ScaleFacts, index: number): void {
  const { quantize, dequantize } = weight;
  rules.set(dequantize, pass);
  rules.set(quantize, pass);
  const between = dequantize.input(0).producer;
  if (between && between !== quantize) rules.set(between, pass);
  const ends = facts.weightEnds(index);
  if (!ends) return;
  rules.set(
    quantize,
    rule((node, dy, b) => {
      const x = node.input(0);
      const mask = inside(b, x, ends.low, ends.high);
      const scale = facts.learned.weight(index)
        ? scaleGradient(b, dy, x, dequantize.output(), mask, node.input(1), weight.point.axis)
        : undefined;
      return [b.masked(dy, mask), scale];
    }),
  );
}
