import type { Node, Value } from '../ir/graph.js';
import type { OpType } from '../ir/ops.js';
import type { Pass } from '../ir/pass.js';
import { alwaysEqual } from '../ir/shapes/dim.js';
import { bypass, sweep } from './match.js';

/** Ops that broadcast on their own. */
const broadcasting: ReadonlySet<OpType> = new Set([
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Pow',
  'Min',
  'Max',
  'Where',
  'Equal',
  'Greater',
  'GreaterOrEqual',
  'Less',
  'LessOrEqual',
  'And',
  'Or',
]);

/** Take out an Expand whose readers broadcast anyhow: each has another input of the expanded shape. */
export const dropExpand: Pass = {
  name: 'dropExpand',
  run: (graph) =>
    sweep(graph, (node) => {
      if (
        !node.is('Expand') ||
        graph.outputs.includes(node.output()) ||
        !node.output().readers.every((reader) => broadcasts(reader, node.output()))
      )
        return false;
      return bypass(graph, node, node.input(0));
    }),
};

function broadcasts(reader: Node, expanded: Value): boolean {
  if (!broadcasting.has(reader.op)) return false;
  return reader.inputs.some((other) => {
    if (!other || other === expanded || other.producer?.op === 'Expand' || other.shape?.length !== expanded.shape?.length) return false;
    return other.shape?.every((dim, axis) => alwaysEqual(dim, expanded.shape?.[axis] ?? -1)) ?? false;
  });
}
