import type { Dim, Node } from '../graph.js';
import { misfit, show, type Types, typed, unknownDim, wantFloat, wantRank } from './rule.js';

/**
 * X [time, batch, input] (or [batch, time, input] with layout 1), W [directions, gates·hidden, input], R [directions, gates·hidden, hidden] →
 * Y [time, directions, batch, hidden] and the last states [directions, batch, hidden].
 */
export function recurrent(node: Node<'RNN' | 'GRU' | 'LSTM'>): Types {
  wantFloat(node);
  for (const port of [0, 1, 2]) wantRank(node, port, 3);
  const { dtype, shape } = node.input(0);
  if (!['forward', 'reverse', 'bidirectional'].includes(node.attr('direction')))
    throw misfit(node, `direction "${node.attr('direction')}" is unknown`, undefined, 'MODEL_INVALID');
  const directions = node.attr('direction') === 'bidirectional' ? 2 : 1;
  const weights = node.input(2).shape;
  if (weights && typeof weights[0] === 'number' && weights[0] !== directions)
    throw misfit(node, `the weights ${show(weights)} are not those of ${directions} directions`, node.input(2));
  const hidden: Dim = node.attr('hidden_size') ?? weights?.[2] ?? unknownDim(node.outputs[0], 3);
  if (typeof hidden === 'number' && hidden < 1) throw misfit(node, `hidden_size is ${hidden}`, undefined, 'MODEL_INVALID');
  const batchFirst = node.attr('layout') === 1;
  const time = shape?.[batchFirst ? 1 : 0] ?? unknownDim(node.outputs[0], 0);
  const batch = shape?.[batchFirst ? 0 : 1] ?? unknownDim(node.outputs[0], 2);
  const state = typed(dtype, batchFirst ? [batch, directions, hidden] : [directions, batch, hidden]);
  return [typed(dtype, batchFirst ? [batch, time, directions, hidden] : [time, directions, batch, hidden]), state, state];
}
