import { Tensor } from '../../tensor/tensor.js';
import { float, int, nameOf, type RewriteRule, type Rewriter, rewriteGraph, take } from './rewrite.js';
import { type AttributeProto, attributeTypes, type GraphProto, type NodeProto, standardDomain, toNumber } from './schema.js';

/**
 * Operators that ONNX Runtime's optimizer writes into the files it saves (domain com.microsoft), and sums of many, in standard operators, so
 * that they are trained through and quantized. Definitions: docs/ContribOperators.md of ONNX Runtime. A form that is not
 * covered stays as it is: the runtime executes it in float.
 */

const ints = (name: string, values: readonly number[]): AttributeProto => ({ name, type: attributeTypes.ints, ints: [...values] });

/** Make `node` the last operator of its expansion: its first output keeps its name. */
function become(node: NodeProto, opType: string, input: readonly string[], attribute: AttributeProto[] = []): void {
  node.opType = opType;
  node.domain = '';
  node.input = [...input];
  node.output = (node.output ?? []).slice(0, 1);
  node.attribute = attribute;
}

const inputs = (node: NodeProto): string[] => node.input ?? [];
const given = (name: string | undefined): name is string => name !== undefined && name !== '';
const number = (node: NodeProto, name: string, otherwise: number): number => take(node, name)?.f ?? otherwise;

/** x/2·(1 + erf(x/√2)), or with the tanh in place of the error function. */
function gelu(node: NodeProto, up: Rewriter, x: string, tanh: boolean, opset: number): void {
  if (opset >= 20) {
    const approximate = { name: 'approximate', type: attributeTypes.string, s: Buffer.from(tanh ? 'tanh' : 'none') };
    become(node, 'Gelu', [x], [approximate]);
    return;
  }
  const scalar = (name: string, value: number) => up.scalar(`${nameOf(node)}_${name}`, value, x);
  let inner: string;
  if (tanh) {
    // √(2/π)·(x + 0.044715·x³)
    const square = up.put(node, 'Mul', [x, x]);
    const bracket = up.put(node, 'Add', [up.put(node, 'Mul', [square, scalar('cubic', 0.044715)]), scalar('one', 1)]);
    inner = up.put(node, 'Tanh', [up.put(node, 'Mul', [up.put(node, 'Mul', [x, scalar('root', Math.sqrt(2 / Math.PI))]), bracket])]);
  } else inner = up.put(node, 'Erf', [up.put(node, 'Mul', [x, scalar('root', Math.SQRT1_2)])]);
  const gate = up.put(node, 'Mul', [up.put(node, 'Add', [inner, scalar('unit', 1)]), scalar('half', 0.5)]);
  become(node, 'Mul', [x, gate]);
}

/** After `value`, which is what `node` gives so far; false for an activation that is not known. */
const activations: Readonly<Record<string, (node: NodeProto, up: Rewriter, x: string, params: readonly number[]) => void>> = {
  Relu: (node, _up, x) => become(node, 'Relu', [x]),
  Sigmoid: (node, _up, x) => become(node, 'Sigmoid', [x]),
  Tanh: (node, _up, x) => become(node, 'Tanh', [x]),
  HardSwish: (node, _up, x) => become(node, 'HardSwish', [x]),
  LeakyRelu: (node, _up, x, [alpha = 0.01]) => become(node, 'LeakyRelu', [x], [float('alpha', alpha)]),
  HardSigmoid: (node, _up, x, [alpha = 0.2, beta = 0.5]) => become(node, 'HardSigmoid', [x], [float('alpha', alpha), float('beta', beta)]),
  Clip: (node, up, x, [low, high]) =>
    become(node, 'Clip', [
      x,
      low === undefined ? '' : up.scalar(`${nameOf(node)}_min`, low, x),
      high === undefined ? '' : up.scalar(`${nameOf(node)}_max`, high, x),
    ]),
};

/** A layer with an activation in it: the layer, what is added, the activation. */
const withActivation =
  (opType: 'Conv' | 'Gemm', added: number | undefined): RewriteRule =>
  (node, up) => {
    const text = node.attribute?.find(({ name }) => name === 'activation')?.s;
    const activation = text ? activations[Buffer.from(text).toString()] : undefined;
    if (text?.length && !activation) return;
    take(node, 'activation');
    const named = ['activation_alpha', 'activation_beta', 'activation_gamma'].map((name) => take(node, name)?.f);
    const params = take(node, 'activation_params')?.floats ?? named.filter((value) => value !== undefined);
    const other = added === undefined ? undefined : inputs(node)[added];
    let x = up.put(node, opType, inputs(node).slice(0, 3), node.attribute ?? []);
    if (given(other)) x = up.put(node, 'Add', [x, other]);
    if (activation) activation(node, up, x, params);
    else become(node, 'Identity', [x]);
  };

/** α·op(A)·op(B): a matrix that is turned is transposed first, where its rank is known. */
const matMul: RewriteRule = (node, up) => {
  const attribute = (name: string) => toNumber(node.attribute?.find((entry) => entry.name === name)?.i);
  if (attribute('transBatchA') || attribute('transBatchB')) return;
  const [a = '', b = ''] = inputs(node);
  const ranks = [up.trace.rank(a), up.trace.rank(b)];
  if ((attribute('transA') && !((ranks[0] ?? 0) >= 2)) || (attribute('transB') && !((ranks[1] ?? 0) >= 2))) return;
  const turned = (name: string, rank: number) => {
    const perm = Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : rank - 1 - (axis - (rank - 2))));
    return up.put(node, 'Transpose', [name], [ints('perm', perm)]);
  };
  const operands = [attribute('transA') ? turned(a, ranks[0] as number) : a, attribute('transB') ? turned(b, ranks[1] as number) : b];
  const alpha = number(node, 'alpha', 1);
  if (alpha === 1) become(node, 'MatMul', operands);
  else become(node, 'Mul', [up.put(node, 'MatMul', operands), up.scalar(`${nameOf(node)}_alpha`, alpha, a)]);
};

/** x / √(mean x² + ε) · scale, over the last axis. */
function rmsNorm(node: NodeProto, up: Rewriter, x: string, scale: string, epsilon: number, opset: number): void {
  if (opset >= 23) {
    become(node, 'RMSNormalization', [x, scale], [int('axis', -1), float('epsilon', epsilon)]);
    return;
  }
  const axes = up.constant(`${nameOf(node)}_axes`, Tensor.ints([-1]));
  const mean = up.put(node, 'ReduceMean', [up.put(node, 'Mul', [x, x]), axes]);
  const root = up.put(node, 'Sqrt', [up.put(node, 'Add', [mean, up.scalar(`${nameOf(node)}_epsilon`, epsilon, x)])]);
  become(node, 'Mul', [up.put(node, 'Div', [x, root]), scale]);
}

/** The sum of input, skip and bias, which is itself the fourth output. */
function skipSum(node: NodeProto, up: Rewriter, bias: string | undefined): string {
  const [x = '', skip = ''] = inputs(node);
  const sum = up.put(node, 'Add', [x, skip]);
  const all = given(bias) ? up.put(node, 'Add', [sum, bias]) : sum;
  const output = node.output?.[3];
  if (given(output)) up.after.push({ opType: 'Identity', name: up.name(`${nameOf(node)}_sum`), input: [all], output: [output] });
  return all;
}

const statisticsRead = (node: NodeProto, up: Rewriter): boolean => [1, 2].some((port) => up.isRead(node.output?.[port]));

const skipLayerNorm: RewriteRule = (node, up) => {
  if (statisticsRead(node, up)) return;
  const epsilon = number(node, 'epsilon', 1e-12);
  const [, , scale = '', shift, bias] = inputs(node);
  const x = skipSum(node, up, bias);
  become(node, 'LayerNormalization', given(shift) ? [x, scale, shift] : [x, scale], [int('axis', -1), float('epsilon', epsilon)]);
};

/** Self-attention with its projections, without mask and past: the weights hold query, key and value side by side. */
const attention: RewriteRule = (node, up) => {
  const [x = '', weights = '', bias = '', ...rest] = inputs(node);
  const width = up.trace.dims(weights)?.[1];
  const heads = toNumber(node.attribute?.find(({ name }) => name === 'num_heads')?.i);
  const plain =
    !rest.some(given) &&
    (node.attribute ?? []).every(({ name }) => name === 'num_heads' || name === 'scale') &&
    !up.isRead(node.output?.[1]);
  if (!plain || !width || width % (3 * heads) !== 0) return;
  const hidden = width / 3;
  const size = hidden / heads;
  const scale = number(node, 'scale', 0) || 1 / Math.sqrt(size);
  const product = up.put(node, 'MatMul', [x, weights]);
  const joined = given(bias) ? up.put(node, 'Add', [product, bias]) : product;
  const pieces = ['query', 'key', 'value'].map((name) => up.name(`${nameOf(node)}_${name}`));
  const split = up.constant(`${nameOf(node)}_split`, Tensor.ints([hidden, hidden, hidden]));
  up.before.push({
    opType: 'Split',
    name: up.name(`${nameOf(node)}_Split`),
    input: [joined, split],
    output: pieces,
    attribute: [int('axis', 2)],
  });
  const shape = up.constant(`${nameOf(node)}_heads`, Tensor.ints([0, 0, heads, size]));
  const byHead = (name: string, perm: number[]) =>
    up.put(node, 'Transpose', [up.put(node, 'Reshape', [name, shape])], [ints('perm', perm)]);
  const [query, key, value] = pieces as [string, string, string];
  const scores = up.put(node, 'MatMul', [byHead(query, [0, 2, 1, 3]), byHead(key, [0, 2, 3, 1])]);
  const scaled = up.put(node, 'Mul', [scores, up.scalar(`${nameOf(node)}_scale`, scale, x)]);
  const context = up.put(node, 'MatMul', [up.put(node, 'Softmax', [scaled], [int('axis', -1)]), byHead(value, [0, 2, 1, 3])]);
  const back = up.put(node, 'Transpose', [context], [ints('perm', [0, 2, 1, 3])]);
  become(node, 'Reshape', [back, up.constant(`${nameOf(node)}_width`, Tensor.ints([0, 0, hidden]))]);
};

/** Sum of any number of tensors as additions of two. */
function addUp(node: NodeProto, up: Rewriter, names: readonly string[]): string[] {
  const [first = '', ...rest] = names;
  const last = rest.pop();
  const left = rest.reduce((sum, name) => up.put(node, 'Add', [sum, name]), first);
  return last === undefined ? [left] : [left, last];
}

const sum: RewriteRule = (node, up) => {
  const operands = addUp(node, up, inputs(node));
  become(node, operands.length === 1 ? 'Identity' : 'Add', operands);
};

const mean: RewriteRule = (node, up) => {
  const names = inputs(node);
  const operands = addUp(node, up, names);
  const total = operands.length === 1 ? (operands[0] as string) : up.put(node, 'Add', operands);
  become(node, 'Mul', [total, up.scalar(`${nameOf(node)}_share`, 1 / names.length, names[0] ?? '')]);
};

/** Rules by domain and operator; `opset` is that of the graph, 18 or newer. */
const rules = (opset: number): Readonly<Record<string, RewriteRule>> => ({
  '.Sum': sum,
  '.Mean': mean,
  '.SimplifiedLayerNormalization': (node, up) => {
    const axis = toNumber(node.attribute?.find(({ name }) => name === 'axis')?.i ?? -1);
    const [x = '', scale = ''] = inputs(node);
    const rank = up.trace.rank(x);
    if (up.isRead(node.output?.[1]) || (axis !== -1 && axis + 1 !== rank)) return;
    rmsNorm(node, up, x, scale, number(node, 'epsilon', 1e-5), opset);
  },
  'com.microsoft.SkipSimplifiedLayerNormalization': (node, up) => {
    if (statisticsRead(node, up)) return;
    const epsilon = number(node, 'epsilon', 1e-12);
    const [, , scale = '', bias] = inputs(node);
    rmsNorm(node, up, skipSum(node, up, bias), scale, epsilon, opset);
  },
  'com.microsoft.SkipLayerNormalization': skipLayerNorm,
  'com.microsoft.Gelu': (node, up) => gelu(node, up, inputs(node)[0] ?? '', false, opset),
  'com.microsoft.BiasGelu': (node, up) => gelu(node, up, up.put(node, 'Add', inputs(node)), false, opset),
  'com.microsoft.FastGelu': (node, up) => {
    const [x = '', bias] = inputs(node);
    gelu(node, up, given(bias) ? up.put(node, 'Add', [x, bias]) : x, true, opset);
  },
  'com.microsoft.QuickGelu': (node, up) => {
    const [x = ''] = inputs(node);
    const scaled = up.put(node, 'Mul', [x, up.scalar(`${nameOf(node)}_alpha`, number(node, 'alpha', 1.702), x)]);
    become(node, 'Mul', [x, up.put(node, 'Sigmoid', [scaled])]);
  },
  'com.microsoft.FusedConv': withActivation('Conv', 3),
  'com.microsoft.FusedGemm': withActivation('Gemm', undefined),
  'com.microsoft.FusedMatMul': matMul,
  'com.microsoft.Attention': attention,
});

/** Expand the nodes of a graph in the forms of opset 18 or newer, in place and subgraphs included. */
export function expandGraph(graph: GraphProto, opset: number): void {
  const table = rules(opset);
  rewriteGraph(graph, (node) => {
    const rule = table[`${standardDomain(node.domain)}.${node.opType ?? ''}`];
    return rule ? [rule] : [];
  });
}
