import type { DType } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';

/**
 * The closed op list. One row an op, in the form of opset 18; older forms are upgraded when the model is read (`formats/onnx`).
 * An op declares its own facts here, and every other room has one table typed over this list.
 */

type Kinds = {
  int: number;
  float: number;
  string: string;
  ints: readonly number[];
  floats: readonly number[];
  strings: readonly string[];
  dtype: DType;
  tensor: Tensor;
};

export type AttributeKind = keyof Kinds;
export type AttributeValue = Kinds[AttributeKind] | undefined;

/** An attribute of a kind: with a default `d`, `required` in every node, or absent until set. */
interface AttrSpec<T extends AttributeKind = AttributeKind> {
  kind: T;
  d?: Kinds[T];
  required?: true;
}

/** Writes rows of one kind. */
function attribute<T extends AttributeKind>(kind: T) {
  function row(): { kind: T };
  function row(d: Kinds[T]): { kind: T; d: Kinds[T] };
  function row(d?: Kinds[T]) {
    return d === undefined ? { kind } : { kind, d };
  }
  return row;
}

const int = attribute('int');
const float = attribute('float');
const string = attribute('string');
const ints = attribute('ints');
const floats = attribute('floats');
const strings = attribute('strings');
const required = <T extends AttributeKind>(kind: T) => ({ kind, required: true }) as const;

interface OpSpec {
  /** Least and most inputs; `Infinity` for variadic. */
  inputs: readonly [number, number];
  /** Number of outputs, least and most. */
  outputs?: readonly [number, number];
  attrs?: Record<string, AttrSpec>;
  /** `''` is ai.onnx. */
  domain?: string;
  /** Input port that holds the weights when they are constant. */
  weight?: number;
  /** Input port that holds the bias. */
  bias?: number;
  /** Which axis of the weight is the output channel. `-1` counts from the end; Gemm depends on transB. */
  channelAxis?: number | 'gemm';
  /** Only moves or selects elements of its first input, or of all: the output has their scale. */
  sharesInputScale?: 'first' | 'all';
  /** Keeps every element of its first input: in the same order under another shape (or the same), in another order, or as another type. */
  keepsElements?: 'reshaped' | 'moved' | 'converted';
  /** Output range known beforehand, so that no observer is needed. */
  outputRange?: readonly [number, number];
  /** Monotone activation that an int8 runtime absorbs into the requantization of the op before it. */
  absorbedByRequantization?: true;
  /** Element-wise op of two tensors that int8 runtimes execute on quantized inputs. */
  quantizedBinary?: true;
  /** Other ops an int8 runtime executes on quantized inputs and outputs. */
  quantizedUnary?: true;
  /** Int8 runtimes have a kernel for it only where its result is quantized too. */
  quantizedResult?: true;
  /** Outputs after the first are by-products that may be left out. */
  byProducts?: true;
  /** `f(s·x) = s·f(x)` for s > 0: of every element on its own, or of every channel (axis 1) on its own. */
  homogeneous?: 'elements' | 'channels';
  /** Why a layer that could be expected to become int8 does not. */
  floatReason?: string;
}

const convAttrs = { auto_pad: string('NOTSET'), dilations: ints(), group: int(1), kernel_shape: ints(), pads: ints(), strides: ints() } as const;
const reduce = { inputs: [1, 2], attrs: { keepdims: int(1), noop_with_empty_axes: int(0) } } as const;
const unary = { inputs: [1, 1] } as const;
const binary = { inputs: [2, 2] } as const;
const variadic = { inputs: [1, Number.POSITIVE_INFINITY] } as const;
const recurrentAttrs = { activation_alpha: floats(), activation_beta: floats(), activations: strings(), clip: float(), direction: string('forward'), hidden_size: int(), layout: int(0) } as const;
const recurrent = { outputs: [0, 3], floatReason: 'it carries a state from step to step; its weights are frozen, layers before it are trained' } as const;

export const ops = {
  // Layers with weights.
  Conv: { inputs: [2, 3], attrs: convAttrs, weight: 1, bias: 2, channelAxis: 0, quantizedResult: true },
  ConvTranspose: { inputs: [2, 3], attrs: { ...convAttrs, output_padding: ints(), output_shape: ints() }, weight: 1, bias: 2, channelAxis: 1, floatReason: 'ONNX Runtime has no integer kernel for it' },
  Gemm: { inputs: [2, 3], attrs: { alpha: float(1), beta: float(1), transA: int(0), transB: int(0) }, weight: 1, bias: 2, channelAxis: 'gemm' },
  MatMul: { inputs: [2, 2], weight: 1, channelAxis: -1 },
  // Arithmetic with broadcasting.
  Add: { ...binary, quantizedBinary: true },
  Sub: binary,
  Mul: { ...binary, quantizedBinary: true },
  Div: binary,
  Pow: binary,
  Mod: { ...binary, attrs: { fmod: int(0) } },
  Min: variadic,
  Max: variadic,
  // Element by element.
  Relu: { ...unary, absorbedByRequantization: true, homogeneous: 'elements' },
  LeakyRelu: { inputs: [1, 1], attrs: { alpha: float(0.01) }, quantizedUnary: true, homogeneous: 'elements' },
  PRelu: { inputs: [2, 2], homogeneous: 'elements' },
  Elu: { inputs: [1, 1], attrs: { alpha: float(1) } },
  Selu: { inputs: [1, 1], attrs: { alpha: float(1.6732632), gamma: float(1.050701) } },
  Celu: { inputs: [1, 1], attrs: { alpha: float(1) } },
  ThresholdedRelu: { inputs: [1, 1], attrs: { alpha: float(1) } },
  Clip: { inputs: [1, 3], absorbedByRequantization: true },
  Sigmoid: { ...unary, outputRange: [0, 1], quantizedUnary: true },
  Tanh: { ...unary, outputRange: [-1, 1] },
  HardSigmoid: { inputs: [1, 1], attrs: { alpha: float(0.2), beta: float(0.5) }, outputRange: [0, 1] },
  HardSwish: unary,
  Softplus: unary,
  Softsign: { ...unary, outputRange: [-1, 1] },
  // Of opset 20, 18 and 24; spelt out in older files.
  Gelu: { inputs: [1, 1], attrs: { approximate: string('none') } },
  Mish: unary,
  Swish: { inputs: [1, 1], attrs: { alpha: float(1) } },
  Softmax: { inputs: [1, 1], attrs: { axis: int(-1) }, outputRange: [0, 1] },
  LogSoftmax: { inputs: [1, 1], attrs: { axis: int(-1) } },
  Abs: unary,
  Neg: unary,
  Exp: unary,
  Log: unary,
  Sqrt: unary,
  Reciprocal: unary,
  Floor: unary,
  Ceil: unary,
  Round: unary,
  Sign: unary,
  Erf: unary,
  Sin: unary,
  Cos: unary,
  // Pooling and reductions.
  MaxPool: {
    inputs: [1, 1],
    outputs: [1, 2],
    attrs: { auto_pad: string('NOTSET'), ceil_mode: int(0), dilations: ints(), kernel_shape: required('ints'), pads: ints(), storage_order: int(0), strides: ints() },
    sharesInputScale: 'first',
    homogeneous: 'channels',
    byProducts: true,
  },
  AveragePool: {
    inputs: [1, 1],
    attrs: { auto_pad: string('NOTSET'), ceil_mode: int(0), count_include_pad: int(0), dilations: ints(), kernel_shape: required('ints'), pads: ints(), strides: ints() },
    quantizedUnary: true,
    homogeneous: 'channels',
  },
  GlobalAveragePool: { ...unary, quantizedUnary: true, homogeneous: 'channels' },
  GlobalMaxPool: { ...unary, sharesInputScale: 'first', homogeneous: 'channels' },
  ReduceMean: reduce,
  ReduceSum: reduce,
  ReduceMax: { ...reduce, sharesInputScale: 'first' },
  ReduceMin: { ...reduce, sharesInputScale: 'first' },
  ReduceSumSquare: reduce,
  ReduceL1: reduce,
  ReduceL2: reduce,
  ReduceLogSum: reduce,
  ReduceLogSumExp: reduce,
  ReduceProd: reduce,
  ArgMax: { inputs: [1, 1], attrs: { axis: int(0), keepdims: int(1), select_last_index: int(0) } },
  ArgMin: { inputs: [1, 1], attrs: { axis: int(0), keepdims: int(1), select_last_index: int(0) } },
  TopK: { inputs: [2, 2], outputs: [2, 2], attrs: { axis: int(-1), largest: int(1), sorted: int(1) } },
  CumSum: { inputs: [2, 2], attrs: { exclusive: int(0), reverse: int(0) } },
  // Normalisation.
  BatchNormalization: { inputs: [5, 5], outputs: [1, 3], attrs: { epsilon: float(1e-5), momentum: float(0.9), training_mode: int(0) }, byProducts: true },
  InstanceNormalization: { inputs: [3, 3], attrs: { epsilon: float(1e-5) } },
  LayerNormalization: { inputs: [2, 3], outputs: [1, 3], attrs: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) } },
  GroupNormalization: { inputs: [3, 3], attrs: { epsilon: float(1e-5), num_groups: required('int'), stash_type: int(1) } },
  RMSNormalization: { inputs: [2, 2], attrs: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) } },
  LRN: { inputs: [1, 1], attrs: { alpha: float(1e-4), beta: float(0.75), bias: float(1), size: required('int') } },
  LpNormalization: { inputs: [1, 1], attrs: { axis: int(-1), p: int(2) } },
  // As at inference: training is taken out when a model is brought to normal form.
  Dropout: { inputs: [1, 3], outputs: [1, 2], attrs: { seed: int() }, keepsElements: 'reshaped', byProducts: true },
  // Moving data.
  Flatten: { inputs: [1, 1], attrs: { axis: int(1) }, sharesInputScale: 'first', keepsElements: 'reshaped' },
  Reshape: { inputs: [2, 2], attrs: { allowzero: int(0) }, sharesInputScale: 'first', keepsElements: 'reshaped' },
  Transpose: { inputs: [1, 1], attrs: { perm: ints() }, sharesInputScale: 'first', keepsElements: 'moved' },
  Squeeze: { inputs: [1, 2], sharesInputScale: 'first', keepsElements: 'reshaped' },
  Unsqueeze: { inputs: [2, 2], sharesInputScale: 'first', keepsElements: 'reshaped' },
  Concat: { inputs: [1, Number.POSITIVE_INFINITY], attrs: { axis: required('int') }, sharesInputScale: 'all' },
  Slice: { inputs: [3, 5], sharesInputScale: 'first' },
  Pad: { inputs: [2, 4], attrs: { mode: string('constant') }, sharesInputScale: 'first' },
  Split: { inputs: [1, 2], outputs: [1, Number.POSITIVE_INFINITY], attrs: { axis: int(0), num_outputs: int() }, sharesInputScale: 'first' },
  Gather: { inputs: [2, 2], attrs: { axis: int(0) }, sharesInputScale: 'first' },
  GatherElements: { inputs: [2, 2], attrs: { axis: int(0) }, sharesInputScale: 'first' },
  GatherND: { inputs: [2, 2], attrs: { batch_dims: int(0) } },
  Expand: { inputs: [2, 2], sharesInputScale: 'first' },
  Tile: { inputs: [2, 2], sharesInputScale: 'first' },
  DepthToSpace: { inputs: [1, 1], attrs: { blocksize: required('int'), mode: string('DCR') }, sharesInputScale: 'first', keepsElements: 'moved' },
  SpaceToDepth: { inputs: [1, 1], attrs: { blocksize: required('int') }, keepsElements: 'moved' },
  Resize: {
    inputs: [1, 4],
    attrs: {
      antialias: int(0),
      axes: ints(),
      coordinate_transformation_mode: string('half_pixel'),
      cubic_coeff_a: float(-0.75),
      exclude_outside: int(0),
      extrapolation_value: float(0),
      keep_aspect_ratio_policy: string('stretch'),
      mode: string('nearest'),
      nearest_mode: string('round_prefer_floor'),
    },
    // Nearest only moves elements; means of neighbours, which stay inside their range, are computed in float and keep the scale as TFLite wants it.
    sharesInputScale: 'first',
  },
  Trilu: { inputs: [1, 2], attrs: { upper: int(1) } },
  Einsum: { ...variadic, attrs: { equation: required('string') } },
  Identity: { ...unary, sharesInputScale: 'first', keepsElements: 'reshaped' },
  Cast: { inputs: [1, 1], attrs: { to: required('dtype'), saturate: int(1) }, keepsElements: 'converted' },
  Shape: { inputs: [1, 1], attrs: { start: int(0), end: int() } },
  Size: unary,
  Range: { inputs: [3, 3] },
  OneHot: { inputs: [3, 3], attrs: { axis: int(-1) } },
  Constant: { inputs: [0, 0], attrs: { value: required('tensor') } },
  ConstantOfShape: { inputs: [1, 1], attrs: { value: attribute('tensor')() } },
  // Logic.
  Equal: binary,
  Greater: binary,
  GreaterOrEqual: binary,
  Less: binary,
  LessOrEqual: binary,
  And: binary,
  Or: binary,
  Xor: binary,
  Not: unary,
  Where: { inputs: [3, 3] },
  ScatterElements: { inputs: [3, 3], attrs: { axis: int(0), reduction: string('none') } },
  ScatterND: { inputs: [3, 3], attrs: { reduction: string('none') } },
  // Attention as one operator, of opset 23.
  Attention: {
    inputs: [3, 7],
    outputs: [1, 4],
    attrs: { is_causal: int(0), kv_num_heads: int(), q_num_heads: int(), qk_matmul_output_mode: int(0), scale: float(), softcap: float(0), softmax_precision: int() },
  },
  RotaryEmbedding: { inputs: [3, 4], attrs: { interleaved: int(0), num_heads: int(0), rotary_embedding_dim: int(0) } },
  // Recurrent layers.
  RNN: { ...recurrent, inputs: [3, 6], outputs: [0, 2], attrs: recurrentAttrs },
  GRU: { ...recurrent, inputs: [3, 6], outputs: [0, 2], attrs: { ...recurrentAttrs, linear_before_reset: int(0) } },
  LSTM: { ...recurrent, inputs: [3, 8], attrs: { ...recurrentAttrs, input_forget: int(0) } },
  // Quantization.
  QuantizeLinear: { inputs: [2, 3], attrs: { axis: int(1), saturate: int(1) } },
  DequantizeLinear: { inputs: [2, 3], attrs: { axis: int(1) } },
  // What compiled training steps use besides.
  FusedMatMul: { inputs: [2, 2], domain: 'com.microsoft', attrs: { alpha: float(1), transA: int(0), transB: int(0), transBatchA: int(0), transBatchB: int(0) } },
  // Anything else: kept as it was read, executed by the runtime, never trained through, always float.
  Opaque: { inputs: [0, Number.POSITIVE_INFINITY], outputs: [0, Number.POSITIVE_INFINITY] },
} as const satisfies Record<string, OpSpec>;

export type OpType = keyof typeof ops;

type SpecOf = { [K in OpType]: (typeof ops)[K] extends { attrs: infer A } ? A : Record<never, never> };
type Held<S> = S extends { kind: infer T extends AttributeKind } ? Kinds[T] : never;
type Missing<S> = S extends { d: unknown } | { required: true } ? never : undefined;
type AttrsTable = { [K in OpType]: { -readonly [A in keyof SpecOf[K]]?: Held<SpecOf[K][A]> | undefined } };
type ReadTable = { [K in OpType]: { [A in keyof SpecOf[K]]: Held<SpecOf[K][A]> | Missing<SpecOf[K][A]> } };

/** The attributes a node is made with, as typed values; one that is left out has its default. */
export type Attrs<K extends OpType> = AttrsTable[K];

/** The attributes of a node as they are read: undefined only where there is no default and the attribute may be left out. */
export type ReadAttrs<K extends OpType> = ReadTable[K];

/** The facts of an op, seen through one shape. */
export function spec(op: OpType): OpSpec {
  return ops[op];
}

export const isOpType = (name: string): name is OpType => Object.hasOwn(ops, name) && name !== 'Opaque';
