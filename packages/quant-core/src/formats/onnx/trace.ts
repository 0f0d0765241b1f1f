import { type AttributeProto, type GraphProto, type NodeProto, type TensorProto, type TypeProto, toNumber } from './schema.js';
import { capturedNames } from './subgraph.js';
import { isSupported, readTensor } from './tensors.js';

interface Known {
  elementType?: number;
  rank?: number;
}

const binary = new Set(['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'Sum', 'Mean', 'Where', 'PRelu']);
const comparing = new Set(['Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'And', 'Or', 'Not']);
const sameRank = new Set([
  'Conv',
  'ConvTranspose',
  'BatchNormalization',
  'InstanceNormalization',
  'GroupNormalization',
  'RMSNormalization',
  'LayerNormalization',
  'LRN',
  'Relu',
  'LeakyRelu',
  'Elu',
  'Selu',
  'Celu',
  'ThresholdedRelu',
  'Gelu',
  'Mish',
  'Swish',
  'Sin',
  'Cos',
  'CumSum',
  'Trilu',
  'Tile',
  'Clip',
  'Sigmoid',
  'Tanh',
  'HardSigmoid',
  'HardSwish',
  'Softmax',
  'LogSoftmax',
  'Hardmax',
  'Abs',
  'Neg',
  'Exp',
  'Log',
  'Sqrt',
  'Reciprocal',
  'Floor',
  'Ceil',
  'Round',
  'Sign',
  'Erf',
  'MaxPool',
  'AveragePool',
  'GlobalAveragePool',
  'GlobalMaxPool',
  'Dropout',
  'Transpose',
  'Concat',
  'Slice',
  'Pad',
  'Split',
  'Identity',
  'Cast',
  'Resize',
  'Upsample',
  'Softplus',
  'Softsign',
  'DepthToSpace',
  'SpaceToDepth',
  'QuantizeLinear',
  'DequantizeLinear',
]);

/** Element types and ranks as far as they show without shape inference: enough to choose between old forms of an operator. */
export class TypeTrace {
  private readonly known = new Map<string, Known>();
  private readonly tensors = new Map<string, TensorProto>();

  constructor(
    graph: GraphProto,
    private readonly outer: TypeTrace | undefined,
  ) {
    for (const info of [...(graph.valueInfo ?? []), ...(graph.output ?? []), ...(graph.input ?? [])])
      this.declare(info.name ?? '', info.type);
    for (const tensor of graph.initializer ?? []) this.learn(tensor.name ?? '', tensor);
  }

  private declare(name: string, type: TypeProto | undefined): void {
    const tensor = type?.tensorType;
    if (!tensor) return;
    this.known.set(name, {
      ...(tensor.elemType ? { elementType: tensor.elemType } : {}),
      ...(tensor.shape ? { rank: tensor.shape.dim?.length ?? 0 } : {}),
    });
  }

  /** Note a constant. */
  learn(name: string, tensor: TensorProto): void {
    this.tensors.set(name, tensor);
    this.known.set(name, { elementType: tensor.dataType ?? 0, rank: tensor.dims?.length ?? 0 });
  }

  private find(name: string): Known {
    return this.known.get(name) ?? this.outer?.find(name) ?? {};
  }

  rank(name: string): number | undefined {
    return this.find(name).rank;
  }

  elementType(name: string): number | undefined {
    return this.find(name).elementType;
  }

  private tensor(name: string): TensorProto | undefined {
    return this.tensors.get(name) ?? this.outer?.tensor(name);
  }

  /** Dimensions of a constant. */
  dims(name: string): readonly number[] | undefined {
    return this.tensor(name)?.dims?.map(toNumber);
  }

  /** Elements of a float32 constant. */
  floats(name: string): readonly number[] | undefined {
    const proto = this.tensor(name);
    return proto && isSupported(proto, name) && proto.dataType === 1 && proto.dataLocation !== 1
      ? [...readTensor(proto, name).as('float32').data]
      : undefined;
  }

  /** Number of elements of a one-dimensional constant. */
  private length(name: string | undefined): number | undefined {
    const dims = name ? this.tensor(name)?.dims : undefined;
    return dims?.length === 1 ? toNumber(dims[0]) : undefined;
  }

  /** Carry types over a node, in the form of opset 18. What the file declares of its outputs wins. */
  follow(node: NodeProto): void {
    const [output = ''] = node.output ?? [];
    const [input = ''] = node.input ?? [];
    if (node.opType === 'Constant') {
      const value = node.attribute?.find((attribute) => attribute.name === 'value')?.t;
      if (value) this.learn(output, value);
      return;
    }
    const from = this.find(input);
    const declared = this.known.get(output) ?? {};
    const elementType = declared.elementType ?? this.elementTypeOf(node, from);
    const rank = declared.rank ?? this.rankOf(node, from);
    const found: Known = { ...(elementType === undefined ? {} : { elementType }), ...(rank === undefined ? {} : { rank }) };
    // All outputs of a Split are alike; those of other operators are not asked for.
    for (const name of node.opType === 'Split' ? (node.output ?? []) : [output]) this.known.set(name, found);
  }

  private largestRank(node: NodeProto): number | undefined {
    let largest = 0;
    for (const name of node.input ?? []) {
      const rank = this.rank(name);
      if (rank === undefined) return undefined;
      largest = Math.max(largest, rank);
    }
    return largest;
  }

  private elementTypeOf(node: NodeProto, from: Known): number | undefined {
    if (node.opType === 'Cast') return toNumber(attribute(node, 'to')?.i);
    if (node.opType === 'Shape' || node.opType === 'Size' || node.opType === 'ArgMax' || node.opType === 'ArgMin') return 7;
    if (comparing.has(node.opType ?? '')) return 9;
    return node.opType === 'Where' ? this.elementType(node.input?.[1] ?? '') : from.elementType;
  }

  private rankOf(node: NodeProto, from: Known): number | undefined {
    const op = node.opType ?? '';
    if (op === 'Gemm' || op === 'Flatten') return 2;
    if (op === 'Reshape' || op === 'ConstantOfShape') return this.length(node.input?.[op === 'Reshape' ? 1 : 0]);
    if (binary.has(op) || comparing.has(op)) {
      return this.largestRank(node);
    }
    if (op === 'MatMul') {
      const both = (node.input ?? []).every((name) => (this.rank(name) ?? 0) >= 2);
      return both ? this.largestRank(node) : undefined;
    }
    if (from.rank === undefined) return undefined;
    if (sameRank.has(op)) return from.rank;
    const axes = this.length(node.input?.[1]);
    if (op === 'Squeeze' && axes !== undefined) return from.rank - axes;
    if (op === 'Unsqueeze' && axes !== undefined) return from.rank + axes;
    if (op.startsWith('Reduce') && toNumber(attribute(node, 'keepdims')?.i ?? 1) === 1) return from.rank;
    return undefined;
  }
}

function attribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute?.find((entry) => entry.name === name);
}

/** Names that nodes, their subgraphs or the graph's outputs read. */
export function readsOf(graph: GraphProto): Set<string> {
  const reads = new Set<string>();
  for (const node of graph.node ?? []) {
    for (const name of node.input ?? []) reads.add(name);
    for (const name of capturedNames(node)) reads.add(name);
  }
  for (const output of graph.output ?? []) reads.add(output.name ?? '');
  return reads;
}
