import { OctetError } from '../../errors.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import type { DType } from '../../tensor/dtype.js';

const floats: readonly DType[] = ['float32', 'float16', 'float64'];
const int64: readonly DType[] = ['int64'];
const indices: readonly DType[] = ['int32', 'int64'];

/** Element types that ONNX allows on the ports where constants usually stand. */
const allowed: Partial<Record<OpType, Readonly<Record<number, readonly DType[]>>>> = {
  Conv: { 1: floats, 2: floats },
  ConvTranspose: { 1: floats, 2: floats },
  BatchNormalization: { 1: floats, 2: floats, 3: floats, 4: floats },
  Reshape: { 1: int64 },
  Expand: { 1: int64 },
  ConstantOfShape: { 0: int64 },
  Squeeze: { 1: int64 },
  Unsqueeze: { 1: int64 },
  Slice: { 1: indices, 2: indices, 3: indices, 4: indices },
  Pad: { 1: int64, 3: indices },
  Split: { 1: int64 },
  Gather: { 1: indices },
  ReduceMean: { 1: int64 },
  ReduceSum: { 1: int64 },
  ReduceMax: { 1: int64 },
  ReduceMin: { 1: int64 },
  ReduceSumSquare: { 1: int64 },
};

/** Constants fit the ports that read them. Throws MODEL_DTYPE and MODEL_SHAPE naming node and tensor. */
export function checkConstants(graph: Graph): void {
  for (const node of graph.nodes) {
    if (node.op === 'Opaque') continue;
    node.inputs.forEach((value, port) => {
      if (!value?.constant) return;
      checkType(node, value, port);
      checkSize(node, value);
    });
  }
}

function checkType(node: Node, value: Value, port: number): void {
  const types = allowed[node.op]?.[port];
  const dtype = value.dtype as DType;
  if (!types || types.includes(dtype)) return;
  throw new OctetError(
    'MODEL_DTYPE',
    `Input ${port} of ${node.op} node "${node.name}" is the ${dtype} tensor "${value.name}", and must be ${types.join(' or ')}.`,
    { node: node.name, op: node.op, tensor: value.name },
  );
}

/** Empty lists of sizes and axes are in use (a Reshape to a scalar); weights without elements are not. */
function checkSize(node: Node, value: Value): void {
  const shape = value.constant?.shape ?? [];
  if (!shape.includes(0) || (shape.length === 1 && value.dtype === 'int64') || node.op === 'Concat') return;
  throw new OctetError(
    'MODEL_SHAPE',
    `The tensor "${value.name}" read by ${node.op} node "${node.name}" has the shape [${shape}] and so no elements.`,
    { node: node.name, op: node.op, tensor: value.name },
  );
}
