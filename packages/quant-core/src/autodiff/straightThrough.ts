import type { Inserted } from '../fakequant/insert.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Node, Value } from '../ir/graph.js';
import type { CustomGradients } from './build.js';
import type { GradientRule } from './rules.js';

/** Real values at the ends of the grid of an activation group, as step inputs. */
export type GridEnds = (group: number) => { low: Value; high: Value };

type Rule = GradientRule<never>;

/** The gradient goes through unchanged to the first input. */
const pass: Rule = ((node: Node, dy: readonly (Value | undefined)[]) =>
  node.inputs.map((_, port) => (port === 0 ? dy[0] : undefined))) as unknown as Rule;

/**
 * Straight-through estimator: `dx = dy` where `low ≤ x ≤ high`, 0 outside (Bengio et al. 2013, arXiv:1308.3432; clipped form of
 * Jacob et al. 2018, arXiv:1712.05877). For weights every value lies inside unless their range is clipped.
 * Behind a ReLU whose zero is the bottom of the grid both masks become one, `0 < x ≤ high`.
 */
export function straightThrough(
  inserted: Inserted,
  plan: QuantPlan,
  ends: GridEnds,
  weightEnds: (index: number) => { low: Value; high: Value } | undefined,
): CustomGradients {
  const rules = new Map<Node, Rule>();
  const masked = (low: Value | undefined, high: Value): Rule =>
    ((node: Node, dy: readonly (Value | undefined)[], _wanted: readonly boolean[], b: import('../ir/builder.js').GraphBuilder) => {
      const x = node.input(0);
      const below = b.op('LessOrEqual', [x, high]);
      const mask = low ? b.op('And', [b.op('GreaterOrEqual', [x, low]), below]) : below;
      return [b.masked(dy[0] as Value, mask), ...node.inputs.slice(1).map(() => undefined)];
    }) as unknown as Rule;
  for (const { point, float, chain, quantize } of inserted.activations) {
    for (const node of chain) rules.set(node, pass);
    const { low, high } = ends(point.group);
    const relu = float.producer;
    const grid = plan.groups[point.group]?.grid;
    if (relu?.op === 'Relu' && float.readers.length === 1 && grid && !grid.symmetric) {
      rules.set(relu, ((
        node: Node,
        dy: readonly (Value | undefined)[],
        _wanted: readonly boolean[],
        b: import('../ir/builder.js').GraphBuilder,
      ) => {
        const y = node.output();
        return [b.masked(dy[0] as Value, b.op('And', [b.op('Greater', [y, b.scalar(0)]), b.op('LessOrEqual', [y, high])]))];
      }) as unknown as Rule);
    } else {
      rules.set(quantize as unknown as Node, masked(low, high));
    }
  }
  inserted.weights.forEach(({ quantize, dequantize }, index) => {
    const clipped = weightEnds(index);
    rules.set(dequantize as unknown as Node, pass);
    rules.set(quantize as unknown as Node, clipped ? masked(clipped.low, clipped.high) : pass);
    const between = dequantize.input(0).producer;
    if (between && between !== (quantize as unknown as Node)) rules.set(between, pass);
  });
  return rules;
}
