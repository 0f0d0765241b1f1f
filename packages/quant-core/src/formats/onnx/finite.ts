import { OctetError } from '../../errors.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import { type OpType, spec } from '../../ir/ops.js';
import type { Tensor } from '../../tensor/tensor.js';

/**
 * Ports that hold parameters where they are constant, beside the weight and bias of the op list. Bounds (Clip, Pad), masks (Add, Where) and other constants may be infinite.
 */
const parameterPorts: Partial<Record<OpType, readonly number[]>> = {
  MatMul: [0, 1],
  Gemm: [0, 1, 2],
  FusedMatMul: [0, 1],
  BatchNormalization: [1, 2, 3, 4],
  InstanceNormalization: [1, 2],
  LayerNormalization: [1, 2],
  GroupNormalization: [1, 2],
  RMSNormalization: [1],
  PRelu: [1],
  RNN: [1, 2, 3],
  GRU: [1, 2, 3],
  LSTM: [1, 2, 3, 7],
};

/** Operators that also read tables and masks: infinity may be meant there, NaN never is. */
const mayBeInfinite: ReadonlySet<OpType> = new Set<OpType>(['Add', 'Sub', 'Mul', 'Div', 'Gather']);

/** Operators that a weight may pass on its way to a layer. */
const handsOn: ReadonlySet<OpType> = new Set<OpType>(['Identity', 'Cast', 'Transpose', 'Reshape', 'Squeeze', 'Unsqueeze', 'Flatten']);

/** Weights are numbers. Throws MODEL_INVALID naming the initializer that holds NaN or infinity, and the node that reads it. */
export function checkFinite(graph: Graph): void {
  const seen = new Map<Tensor, string | undefined>();
  for (const node of graph.nodes) {
    const { weight, bias } = spec(node.op);
    const ports = new Set([
      ...(weight === undefined ? [] : [weight]),
      ...(bias === undefined ? [] : [bias]),
      ...(parameterPorts[node.op] ?? []),
    ]);
    node.inputs.forEach((input, port) => {
      const strict = ports.has(port);
      if (!input || (!strict && !mayBeInfinite.has(node.op))) return;
      const value = sourceOf(input);
      if (!value.constant) return;
      if (!seen.has(value.constant)) seen.set(value.constant, firstWrong(value.constant));
      const wrong = seen.get(value.constant);
      if (wrong !== undefined && (strict || wrong.startsWith('NaN'))) throw refuse(node, value, wrong);
    });
  }
}

function refuse(node: Node, value: Value, wrong: string): OctetError {
  return new OctetError(
    'MODEL_INVALID',
    `The weights "${value.name}" of ${node.opName} "${node.name}" hold ${wrong}.`,
    { node: node.name, op: node.opName, tensor: value.name },
    { hint: 'The training of the float model diverged, or its file is damaged. Export it from a checkpoint whose weights are numbers.' },
  );
}

function sourceOf(value: Value): Value {
  let at = value;
  while (at.producer && handsOn.has(at.producer.op) && at.producer.inputs[0]) at = at.producer.inputs[0];
  return at;
}

/** `NaN at element 5`, for the first element that is not finite. */
function firstWrong({ dtype, data }: Tensor): string | undefined {
  if (dtype === 'float16') {
    // Exponent of ones: infinity where the fraction is 0, else NaN.
    const at = (data as Uint16Array).findIndex((bits) => (bits & 0x7c00) === 0x7c00);
    return at < 0 ? undefined : `${((data as Uint16Array)[at] as number) & 0x3ff ? 'NaN' : 'infinity'} at element ${at}`;
  }
  if (dtype !== 'float32' && dtype !== 'float64') return undefined;
  const floats = data as Float32Array | Float64Array;
  for (let at = 0; at < floats.length; at++) {
    const x = floats[at] as number;
    // x - x is 0 for every finite number.
    if (x - x !== 0) return `${Number.isNaN(x) ? 'NaN' : 'infinity'} at element ${at}`;
  }
  return undefined;
}
