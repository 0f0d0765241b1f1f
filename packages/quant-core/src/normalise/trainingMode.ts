import { OctetError } from '../errors.js';
import type { Graph, Node } from '../ir/graph.js';
import { runPasses } from '../ir/pass.js';
import { toNumbers } from '../tensor/tensor.js';
import { toInference } from './toInference.js';

/**
 * Bring a graph that was exported in training mode to inference form, in place, and say so: a batch norm there takes the statistics of the samples beside
 * a sample, a dropout draws at random, so that nothing measured on it would mean anything. Nothing is done to other graphs. Returns one sentence for each operator.
 * Throws MODEL_INVALID where the running statistics are those of a layer that never saw a sample: the file does not hold what inference needs.
 */
export function leaveTrainingMode(graph: Graph): string[] {
  const norms = graph.nodes.filter(
    (node) => node.is('BatchNormalization') && (node.attr('training_mode') === 1 || node.outputs.length > 1),
  );
  const dropouts = graph.nodes.filter((node) => node.is('Dropout') && isTrue(node));
  if (norms.length + dropouts.length === 0) return [];
  norms.forEach(checkStatistics);
  runPasses(graph, [toInference]);
  const named = (nodes: readonly Node[]) =>
    nodes
      .slice(0, 3)
      .map((node) => node.name)
      .join(', ') + (nodes.length > 3 ? ` and ${nodes.length - 3} more` : '');
  return [
    ...(norms.length > 0
      ? [
          `The model was exported in training mode: BatchNormalization ${named(norms)} would use the statistics of the batch. Float and int8 are both taken with the running statistics of the file, as model.eval() before the export does.`,
        ]
      : []),
    ...(dropouts.length > 0
      ? [
          `The model was exported in training mode: Dropout ${named(dropouts)} would drop at random, and is left out of float and int8 alike.`,
        ]
      : []),
  ];
}

/** Whether a dropout is on: its third input is a constant that is true. */
function isTrue(node: Node): boolean {
  const live = node.inputs[2]?.constant;
  return live !== undefined && toNumbers(live)[0] === 1;
}

function checkStatistics(node: Node): void {
  const [mean, variance] = [node.inputs[3]?.constant, node.inputs[4]?.constant];
  const all = (tensor: typeof mean, value: number) =>
    tensor !== undefined && tensor.size > 0 && Array.from(toNumbers(tensor)).every((each) => each === value);
  if (!all(mean, 0) || !all(variance, 1)) return;
  throw new OctetError(
    'MODEL_INVALID',
    `BatchNormalization "${node.name}" is in training mode, and its running statistics were never updated (mean 0, variance 1 in all channels), so that it has no inference form.`,
    { node: node.name, op: node.opName },
    { hint: 'Export the trained model in inference form (in PyTorch: model.eval() before torch.onnx.export).' },
  );
}
