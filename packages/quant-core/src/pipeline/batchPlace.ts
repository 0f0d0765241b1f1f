import { OctetError } from '../errors.js';
import type { Dim, Graph, Node, Value } from '../ir/graph.js';
import { show } from '../ir/shapes/rule.js';

/** Where a symbol stands among the inputs: the first input that has it as an axis of its own. */
function placeOf(graph: Graph, symbol: Dim | undefined): { input: Value; axis: number } | undefined {
  if (typeof symbol !== 'string') return undefined;
  for (const input of graph.inputs) {
    const axis = input.shape?.indexOf(symbol) ?? -1;
    if (axis >= 0) return { input, axis };
  }
  return undefined;
}

/** Whether the symbol is the first axis of some input. */
const isFirst = (graph: Graph, symbol: Dim | undefined): boolean => graph.inputs.some(({ shape }) => shape?.[0] === symbol);

/** Order of the axes that a recurrent layer takes: 0 for time first, 1 for the batch first; undefined for any other node. */
function layoutOf(node: Node): number | undefined {
  if (node.is('LSTM')) return node.attr('layout');
  if (node.is('GRU')) return node.attr('layout');
  return node.is('RNN') ? node.attr('layout') : undefined;
}

/**
 * An output with the first two names of an input the other way round: one of both has the batch in another place, and names do not tell which.
 * Throws MODEL_INPUTS_UNSUPPORTED that shows the two.
 */
function checkTurnedOutput(graph: Graph): void {
  // One output with the batch in front is enough; others may hold states or lists.
  if (graph.outputs.some(({ shape }) => isFirst(graph, shape?.[0]))) return;
  for (const output of graph.outputs) {
    const place = placeOf(graph, output.shape?.[0]);
    const turned = place && typeof place.input.shape?.[0] === 'string' && output.shape?.includes(place.input.shape[0]);
    if (!turned) continue;
    const { input } = place;
    throw new OctetError(
      'MODEL_INPUTS_UNSUPPORTED',
      `Input ${input.name} is ${show(input.shape)} and output ${output.name} is ${show(output.shape)}: the batch must be the first dimension of both`,
      { tensor: output.name },
      { hint: 'Export the model with a module around it that transposes the one that has the batch elsewhere.' },
    );
  }
}

/**
 * The batch must be the first axis of the inputs. Where it is shows in the names of dimensions: the outputs have one row for each sample, and a recurrent layer
 * (layout 0: time, batch, features) has the batch as its second axis. Throws MODEL_INPUTS_UNSUPPORTED naming input and axis; a file without names does not show it.
 */
export function checkBatchPlace(graph: Graph): void {
  checkTurnedOutput(graph);
  const rows = graph.outputs.map((value) => ({
    symbol: value.shape?.[0],
    only: undefined,
    why: `output ${value.name} has one row for each "${value.shape?.[0]}"`,
  }));
  // One output with the batch in front is enough; others may hold states or lists.
  const others = rows.some(({ symbol }) => isFirst(graph, symbol)) ? [] : rows;
  const recurrent = graph.nodes.flatMap((node) => {
    if (layoutOf(node) !== 0) return [];
    const symbol = node.inputs[0]?.shape?.[1];
    return [{ symbol, only: 1, why: `${node.op} ${node.name} has "${symbol}" as batch` }];
  });
  for (const { symbol, why, only } of [...others, ...recurrent]) {
    const place = isFirst(graph, symbol) ? undefined : placeOf(graph, symbol);
    if (!place || (only !== undefined && place.axis !== only)) continue;
    const { input, axis } = place;
    throw new OctetError(
      'MODEL_INPUTS_UNSUPPORTED',
      `Input ${input.name} has the batch "${symbol}" as axis ${axis} of ${show(input.shape)}, and must have it as axis 0 (${why})`,
      { tensor: input.name },
      {
        hint: 'Export the model with the batch as first dimension: in PyTorch with batch_first=True, or with a module around it that transposes its input.',
      },
    );
  }
}
