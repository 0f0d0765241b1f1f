import type { Dim, Node, Value } from '../ir/graph.js';
import type { OpType } from '../ir/ops.js';
import { subscriptsOf } from '../ir/shapes/einsum.js';
import type { Reduction } from '../ir/shapes/reduce.js';
import { Tensor, toNumbers } from '../tensor/tensor.js';

/** What is known while the batch is followed through a graph whose shapes still hold the fixed one. */
export interface BatchContext {
  /** The batch of the file. */
  readonly batch: number;
  /** How many rows of the first axis belong to one sample; undefined for a value that no sample has a part in. */
  rows(value: Value | undefined): number | undefined;
  /** Note a change that makes room for any batch. */
  edit(change: () => void): void;
  constant(name: string, tensor: Tensor): Value;
  /** A constant row once for every sample of `like`, computed before the node. */
  repeat(row: Value, like: Value, before: Node): Value;
}

/**
 * Whether a node treats samples apart, each in its own rows of the first axis, one after the other. Rows for each sample of every output
 * (undefined for an output without samples), or a sentence why not. Asked only of nodes that read a value with samples.
 */
export type BatchRule<K extends OpType> = (node: Node<K>, context: BatchContext) => readonly (number | undefined)[] | string;

const mixes = 'works across samples';

const rankOf = (value: Value | undefined): number => value?.shape?.length ?? -1;

/** Only the first input has samples, and the op goes along its rows. */
function along(node: Node<OpType>, context: BatchContext): readonly (number | undefined)[] | string {
  const rows = context.rows(node.inputs[0]);
  if (rows === undefined || node.inputs.slice(1).some((value) => context.rows(value) !== undefined)) return mixes;
  return node.outputs.map(() => rows);
}

/** As `along`, when `axes` (negative ones count from the end) leave the first axis alone. */
function awayFromFirst(
  node: Node<OpType>,
  context: BatchContext,
  axes: readonly number[] | undefined,
  rank = rankOf(node.inputs[0]),
): readonly (number | undefined)[] | string {
  if (!axes || rank < 0 || axes.some((axis) => (axis < 0 ? axis + rank : axis) === 0))
    return 'works on the batch axis, or on an axis that is not constant';
  return along(node, context);
}

/** Elements of a small constant; undefined for anything else. */
const ints = (value: Value | undefined): number[] | undefined =>
  value?.constant && value.constant.size <= 64 ? Array.from(toNumbers(value.constant)) : undefined;

/** Every input broadcasts; one without samples must be the same for all of them. */
function elementwise(node: Node<OpType>, context: BatchContext): readonly (number | undefined)[] | string {
  const rank = rankOf(node.outputs[0]);
  let rows: number | undefined;
  for (const value of node.inputs) {
    const own = context.rows(value);
    if (own === undefined) continue;
    if (rankOf(value) !== rank || (rows !== undefined && own !== rows)) return 'joins samples that are laid out in different ways';
    rows = own;
  }
  for (const port of node.inputs.keys()) {
    const problem = context.rows(node.inputs[port]) === undefined ? sameForAll(node, port, rank, context) : undefined;
    if (problem) return problem;
  }
  return node.outputs.map(() => rows);
}

/** Input `port` must not differ along the first of `rank` axes; a constant that repeats itself there is cut down to one row. */
function sameForAll(node: Node<OpType>, port: number, rank: number, context: BatchContext): string | undefined {
  const value = node.inputs[port];
  if (!value || (value.shape && (value.shape.length < rank || value.shape[0] === 1))) return undefined;
  const row = repeatedRow(value);
  if (!row) return `has an input "${value.name}" made for a batch of ${context.batch}`;
  context.edit(() => node.setInput(port, context.constant(value.name, row)));
  return undefined;
}

/** One row of a constant whose rows are all equal. */
function repeatedRow(value: Value): Tensor | undefined {
  const tensor = value.constant;
  const count = tensor?.shape[0];
  if (!tensor || !count) return undefined;
  const length = tensor.size / count;
  const { data } = tensor;
  for (let i = length; i < data.length; i++) if (data[i] !== data[i - length]) return undefined;
  return new Tensor(tensor.dtype, [1, ...tensor.shape.slice(1)], data.slice(0, length) as typeof data);
}

function matmul(node: Node<'MatMul' | 'FusedMatMul'>, context: BatchContext): readonly (number | undefined)[] | string {
  const [a, b] = [node.input(0), node.input(1)];
  const [rows, other] = [context.rows(a), context.rows(b)];
  if (node.is('FusedMatMul') && (node.attr('transBatchA') || node.attr('transBatchB') || (node.attr('transA') && rankOf(a) < 3)))
    return mixes;
  if (rows !== undefined && other !== undefined) return rows === other && rankOf(a) === rankOf(b) && rankOf(a) > 2 ? [rows] : mixes;
  if (rows !== undefined) {
    const rank = rankOf(node.output());
    if (rankOf(a) < 2 || rankOf(b) < 1) return mixes;
    if (rankOf(b) <= 2) return [rows];
    return sameForAll(node, 1, rank, context) ?? (rankOf(a) === rank ? [rows] : mixes);
  }
  return rankOf(b) > 2 && rankOf(a) <= 2 ? [other] : mixes;
}

function gemm(node: Node<'Gemm'>, context: BatchContext): readonly (number | undefined)[] | string {
  const rows = context.rows(node.inputs[0]);
  if (
    rows === undefined ||
    node.attr('transA') === 1 ||
    context.rows(node.inputs[1]) !== undefined ||
    context.rows(node.inputs[2]) !== undefined
  )
    return mixes;
  return sameForAll(node, 2, 2, context) ?? [rows];
}

/** Samples stay whole rows when the first dimension of the result divides by the batch: then it is 0 (as before) or -1. */
function reshape(node: Node<'Reshape'>, context: BatchContext): readonly (number | undefined)[] | string {
  const rows = context.rows(node.inputs[0]);
  const target = ints(node.inputs[1]);
  const first = node.output().shape?.[0];
  if (rows === undefined || !target || typeof first !== 'number' || first % context.batch !== 0 || node.attr('allowzero') === 1)
    return 'reshapes in a way that does not keep samples apart';
  const own = first / context.batch;
  if (target[0] === 0) return [own];
  const rest = node.output().shape?.slice(1) as readonly Dim[];
  const inner = target.slice(1).map((dim, i) => (typeof rest[i] === 'number' ? (rest[i] as number) : dim));
  if (own !== rows && inner.includes(-1)) return 'reshapes to more than one size that is not constant';
  const changed = [own === rows ? 0 : -1, ...inner];
  context.edit(() => node.setInput(1, context.constant(node.input(1).name, Tensor.ints(changed))));
  return [own];
}

function flatten(node: Node<'Flatten'>, context: BatchContext): readonly (number | undefined)[] | string {
  const axis = node.attr('axis') as number;
  return (axis < 0 ? axis + rankOf(node.input(0)) : axis) === 1 ? along(node, context) : 'flattens the batch axis into others';
}

function reduce(node: Node<Reduction>, context: BatchContext): readonly (number | undefined)[] | string {
  const axes = ints(node.inputs[1]);
  return awayFromFirst(node, context, axes?.length === 0 ? undefined : axes);
}

function concat(node: Node<'Concat'>, context: BatchContext): readonly (number | undefined)[] | string {
  const rank = rankOf(node.output());
  const axis = node.attr('axis') as number;
  if ((axis < 0 ? axis + rank : axis) === 0) return 'joins on the batch axis';
  const rows = node.inputs.map((value) => context.rows(value)).find((own) => own !== undefined);
  const samples = node.inputs.find((value) => context.rows(value) !== undefined) as Value;
  for (const [port, value] of node.inputs.entries()) {
    const own = context.rows(value);
    if (own === rows) continue;
    const row = own === undefined && value ? repeatedRow(value) : undefined;
    if (!row || rows !== 1) return `has an input "${value?.name}" made for a batch of ${context.batch}`;
    context.edit(() => node.setInput(port, context.repeat(context.constant(value?.name ?? '', row), samples, node as unknown as Node)));
  }
  return [rows];
}

function gather(node: Node<'Gather'>, context: BatchContext): readonly (number | undefined)[] | string {
  const axis = node.attr('axis') as number;
  const rank = rankOf(node.input(0));
  if (context.rows(node.inputs[1]) === undefined) return awayFromFirst(node, context, [axis]);
  return context.rows(node.inputs[0]) === undefined && (axis < 0 ? axis + rank : axis) === 0 ? [context.rows(node.inputs[1])] : mixes;
}

function slice(node: Node<'Slice'>, context: BatchContext): readonly (number | undefined)[] | string {
  return awayFromFirst(node, context, node.inputs[3] ? ints(node.inputs[3]) : node.input(1).shape?.[0] === 0 ? [] : undefined);
}

function pad(node: Node<'Pad'>, context: BatchContext): readonly (number | undefined)[] | string {
  const pads = ints(node.inputs[1]);
  const axes = node.inputs[3] ? ints(node.inputs[3]) : node.input(0).shape?.map((_, axis) => axis);
  return awayFromFirst(node, context, pads && axes?.filter((_, i) => pads[i] !== 0 || pads[i + axes.length] !== 0));
}

function expand(node: Node<'Expand'>, context: BatchContext): readonly (number | undefined)[] | string {
  const target = ints(node.inputs[1]);
  const rank = rankOf(node.input(0));
  if (!target || target.length > rank || rank !== rankOf(node.output())) return 'expands to a size that is not constant';
  if (target.length === rank && target[0] !== 1)
    context.edit(() => node.setInput(1, context.constant(node.input(1).name, Tensor.ints([1, ...target.slice(1)]))));
  return along(node, context);
}

/** Indices go with the data: both have samples, or the data alone and the indices are the same for all. */
function gatherElements(node: Node<'GatherElements'>, context: BatchContext): readonly (number | undefined)[] | string {
  const axis = node.attr('axis') as number;
  const [rows, other] = [context.rows(node.inputs[0]), context.rows(node.inputs[1])];
  return (axis < 0 ? axis + rankOf(node.input(0)) : axis) !== 0 && rows !== undefined && rows === other ? [rows] : mixes;
}

function gatherND(node: Node<'GatherND'>, context: BatchContext): readonly (number | undefined)[] | string {
  const [rows, other] = [context.rows(node.inputs[0]), context.rows(node.inputs[1])];
  return (node.attr('batch_dims') as number) > 0 && rows !== undefined && rows === other ? [rows] : mixes;
}

function tile(node: Node<'Tile'>, context: BatchContext): readonly (number | undefined)[] | string {
  const repeats = ints(node.inputs[1]);
  return repeats?.[0] === 1 ? along(node, context) : 'repeats samples, or as often as is not constant';
}

/**
 * The first axis keeps its size. Sizes, which would name it, are written as the scales that give them (and not as sizes of named axes: ONNX
 * Runtime's optimizer loses the names when it moves a transpose across).
 */
function resize(node: Node<'Resize'>, context: BatchContext): readonly (number | undefined)[] | string {
  const [input, output] = [node.input(0).shape, node.output().shape];
  if (node.attr('axes')) return awayFromFirst(node, context, node.attr('axes'));
  if (!input || !output || input[0] !== output[0] || node.attr('keep_aspect_ratio_policy') !== 'stretch') return mixes;
  if (node.inputs[3]) {
    const scales = scalesBetween(input, ints(node.inputs[3]));
    if (!scales) return 'resizes to a size that is not constant';
    context.edit(() =>
      node.setInputs([node.input(0), node.inputs[1], context.constant(`${node.name}_scales`, Tensor.float32([scales.length], scales))]),
    );
  }
  return along(node, context);
}

/** Scales that give exactly the sizes `to`, in the arithmetic of the runtime. */
function scalesBetween(from: readonly Dim[], to: readonly number[] | undefined): number[] | undefined {
  const scales = to?.map((size, axis) => Math.fround(size / (from[axis] as number)));
  const exact = scales?.every((scale, axis) => Math.floor(Math.fround((from[axis] as number) * scale)) === to?.[axis]);
  return exact ? scales : undefined;
}

/** The samples stand on the first axis of every operand that has any, under a letter that the output begins with. */
function einsum(node: Node<'Einsum'>, context: BatchContext): readonly (number | undefined)[] | string {
  const subscripts = subscriptsOf(node.attr('equation') ?? '', node.inputs.map(rankOf));
  const batch = subscripts?.output[0];
  if (!subscripts || batch === undefined) return mixes;
  let rows: number | undefined;
  for (const [port, letters] of subscripts.inputs.entries()) {
    const own = context.rows(node.inputs[port]);
    const apart = own === undefined ? !letters.includes(batch) : letters.indexOf(batch) === 0 && letters.lastIndexOf(batch) === 0;
    if (!apart || (own !== undefined && rows !== undefined && own !== rows)) return mixes;
    rows ??= own;
  }
  return [rows];
}

/** Query, key and value of a sample stand in its row; a mask is the same for all. */
function attention(node: Node<'Attention'>, context: BatchContext): readonly (number | undefined)[] | string {
  const mask = node.inputs[3];
  const own = [0, 1, 2].every((port) => context.rows(node.inputs[port]) === 1) && !node.inputs.slice(4).some(Boolean);
  if (!own || (mask && (context.rows(mask) !== undefined || (rankOf(mask) === 4 && mask.shape?.[0] !== 1)))) return mixes;
  return node.outputs.map(() => 1);
}

/** Time first is the usual layout: samples then stand on the second axis. */
function recurrent(node: Node<'RNN' | 'GRU' | 'LSTM'>, context: BatchContext): readonly (number | undefined)[] | string {
  const states = node.inputs.slice(1).some((value) => context.rows(value) !== undefined);
  return node.attr('layout') === 1 && !states ? along(node, context) : 'has the samples on its second axis';
}

/** Ops outside the op list that treat samples apart, when only their first input has any. */
const opaqueAlong: ReadonlySet<string> = new Set('Acos Acosh Asin Asinh Atan Atanh Cosh Shrink Sinh Tan GlobalLpPool LpPool'.split(' '));

function opaque(node: Node<'Opaque'>, context: BatchContext): readonly (number | undefined)[] | string {
  const source = node.opaque;
  const known = source?.domain === '' && opaqueAlong.has(source.opType);
  return known ? along(node, context) : 'is an operator that is not known to treat samples apart';
}

const axisAway = (
  node: Node<
    'Softmax' | 'LogSoftmax' | 'ArgMax' | 'ArgMin' | 'Split' | 'TopK' | 'LayerNormalization' | 'RMSNormalization' | 'LpNormalization'
  >,
  context: BatchContext,
) => awayFromFirst(node, context, [node.attr('axis') as number]);
const refused = () => mixes;

export const batchRules: { [K in OpType]: BatchRule<K> } = {
  Conv: along,
  ConvTranspose: along,
  Gemm: gemm,
  MatMul: matmul,
  FusedMatMul: matmul,
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Mod: elementwise,
  Pow: elementwise,
  Min: elementwise,
  Max: elementwise,
  Relu: elementwise,
  LeakyRelu: elementwise,
  PRelu: elementwise,
  Elu: along,
  Selu: along,
  Celu: along,
  ThresholdedRelu: along,
  Clip: along,
  Sigmoid: elementwise,
  Tanh: elementwise,
  HardSigmoid: elementwise,
  HardSwish: elementwise,
  Softplus: along,
  Softsign: along,
  Gelu: along,
  Mish: along,
  Swish: along,
  Softmax: axisAway,
  LogSoftmax: axisAway,
  Abs: elementwise,
  Neg: elementwise,
  Exp: elementwise,
  Log: elementwise,
  Sqrt: elementwise,
  Reciprocal: elementwise,
  Floor: elementwise,
  Ceil: elementwise,
  Round: elementwise,
  Sign: elementwise,
  Erf: elementwise,
  Sin: along,
  Cos: along,
  MaxPool: (node, context) => (node.outputs.length > 1 ? 'gives indices that count through the whole batch' : along(node, context)),
  AveragePool: along,
  GlobalAveragePool: along,
  GlobalMaxPool: along,
  ReduceMean: reduce,
  ReduceSum: reduce,
  ReduceMax: reduce,
  ReduceMin: reduce,
  ReduceSumSquare: reduce,
  ReduceL1: reduce,
  ReduceL2: reduce,
  ReduceLogSum: reduce,
  ReduceLogSumExp: reduce,
  ReduceProd: reduce,
  ArgMax: axisAway,
  ArgMin: axisAway,
  TopK: axisAway,
  CumSum: (node, context) => awayFromFirst(node, context, ints(node.inputs[1])),
  BatchNormalization: (node, context) => (node.attr('training_mode') === 1 ? mixes : along(node, context)),
  InstanceNormalization: along,
  LayerNormalization: axisAway,
  GroupNormalization: along,
  RMSNormalization: axisAway,
  LRN: along,
  LpNormalization: axisAway,
  Dropout: along,
  Flatten: flatten,
  Reshape: reshape,
  Transpose: (node, context) => (node.attr('perm')?.[0] === 0 ? along(node, context) : 'moves the batch axis'),
  Squeeze: (node, context) => awayFromFirst(node, context, ints(node.inputs[1])),
  Unsqueeze: (node, context) => awayFromFirst(node, context, ints(node.inputs[1]), rankOf(node.output())),
  Concat: concat,
  Slice: slice,
  Pad: pad,
  Split: axisAway,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  Expand: expand,
  Tile: tile,
  DepthToSpace: along,
  SpaceToDepth: along,
  Resize: resize,
  Trilu: (node, context) => (rankOf(node.inputs[0]) > 2 ? along(node, context) : mixes),
  Einsum: einsum,
  Identity: along,
  Cast: along,
  Shape: () => 'reads the batch as a size',
  Size: () => 'reads the batch as a size',
  Range: refused,
  OneHot: (node, context) => awayFromFirst(node, context, [node.attr('axis') as number], rankOf(node.output())),
  Constant: refused,
  ConstantOfShape: refused,
  Equal: elementwise,
  Greater: elementwise,
  GreaterOrEqual: elementwise,
  Less: elementwise,
  LessOrEqual: elementwise,
  And: elementwise,
  Or: elementwise,
  Xor: elementwise,
  Not: elementwise,
  Where: elementwise,
  ScatterElements: refused,
  ScatterND: refused,
  Attention: attention,
  RotaryEmbedding: (node, context) => (context.rows(node.inputs[0]) === 1 && !node.inputs[3] ? [1] : mixes),
  RNN: recurrent,
  GRU: recurrent,
  LSTM: recurrent,
  QuantizeLinear: (node, context) =>
    rankOf(node.inputs[1]) > 0 ? awayFromFirst(node, context, [node.attr('axis') as number]) : along(node, context),
  DequantizeLinear: (node, context) =>
    rankOf(node.inputs[1]) > 0 ? awayFromFirst(node, context, [node.attr('axis') as number]) : along(node, context),
  Opaque: opaque,
};
