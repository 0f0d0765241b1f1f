import { OctetError } from '../errors.js';
import type { Graph } from '../ir/graph.js';

/** The opset that brought int4. */
export const opsetOfInt4 = 21;

/** Operators whose form changed between opset 18 and that of int4, and those that hold graphs which may hold one. */
const otherForms = new Set(['GroupNormalization', 'GridSample', 'DFT', 'If', 'Loop', 'Scan', 'SequenceMap']);

/** Throws CONFIG_IMPOSSIBLE when weights are to be stored as int4 and none is narrow enough, or the model cannot be written in the opset of int4. */
export function checkStorage(graph: Graph, wanted: boolean, weights: readonly { storage?: 'int4' }[]): void {
  if (!wanted) return;
  const pointer = '/quantization/weights/storage';
  if (!weights.some((point) => point.storage === 'int4'))
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      'weights.storage is "int4", and no layer has weights of 4 bits or less',
      { pointer },
      { hint: 'Set weights.bits to 4, 3 or 2, or leave storage out.' },
    );
  const other =
    graph.opset < opsetOfInt4 ? graph.nodes.find((node) => (node.opaque?.domain ?? '') === '' && otherForms.has(node.opName)) : undefined;
  if (other)
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      `int4 is of opset ${opsetOfInt4}, the model is of opset ${graph.opset}, and ${other.opName} ${other.name} has another form there`,
      { node: other.name, op: other.opName, pointer },
      { hint: `Export the model with opset ${opsetOfInt4} or newer, or leave weights.storage out.` },
    );
}
