import type { Graph, Value } from '../../packages/quant-core/src/ir/graph.js';
import { Net } from './net.js';

const [dim, heads, depth, patch, tokens] = [96, 3, 4, 4, 64] as const;
const head = dim / heads;

/** A fully connected layer on tokens, as PyTorch exports it: MatMul and Add. */
function linear(net: Net, name: string, x: Value, inputs: number, outputs: number): Value {
  const product = net.op('MatMul', name, [x, net.weights(`${name}.weight`, [inputs, outputs], inputs)]);
  return net.op('Add', `${name}.add`, [product, net.filled(`${name}.bias`, [outputs], 0)]);
}

function layerNorm(net: Net, name: string, x: Value): Value {
  const operands = [x, net.filled(`${name}.scale`, [dim], 1), net.filled(`${name}.bias`, [dim], 0)];
  return net.op('LayerNormalization', name, operands, { axis: -1, epsilon: 1e-5 });
}

/** Attention of all tokens to all tokens (Vaswani et al. 2017): [N, tokens, dim] → the same. */
function attention(net: Net, name: string, x: Value): Value {
  const all = linear(net, `${name}.qkv`, x, dim, 3 * dim);
  const split = net.op('Reshape', `${name}.heads`, [all, net.ints(`${name}.heads.shape`, [0, tokens, 3, heads, head])]);
  const ordered = net.op('Transpose', `${name}.order`, [split], { perm: [2, 0, 3, 1, 4] });
  const parts = net.graph.node(
    'Split',
    [ordered, net.ints(`${name}.split.sizes`, [1, 1, 1])],
    { axis: 0 },
    { name: `${name}.split`, outputs: 3 },
  );
  const [q, k, v] = parts.outputs.map((part, index) =>
    net.op('Squeeze', `${name}.part${index}`, [part, net.ints(`${name}.part${index}.axes`, [0])]),
  ) as [Value, Value, Value];
  const scaled = net.op('Mul', `${name}.scale`, [q, net.filled(`${name}.scale.factor`, [], 1 / Math.sqrt(head))]);
  const keys = net.op('Transpose', `${name}.keys`, [k], { perm: [0, 1, 3, 2] });
  const weights = net.op('Softmax', `${name}.softmax`, [net.op('MatMul', `${name}.scores`, [scaled, keys])], { axis: -1 });
  const mixed = net.op('Transpose', `${name}.back`, [net.op('MatMul', `${name}.mix`, [weights, v])], { perm: [0, 2, 1, 3] });
  const joined = net.op('Reshape', `${name}.join`, [mixed, net.ints(`${name}.join.shape`, [0, tokens, dim])]);
  return linear(net, `${name}.project`, joined, dim, dim);
}

/**
 * A small vision transformer for 32×32 images (Dosovitskiy et al. 2021): patches of 4×4, width 96, 3 heads, 4 blocks, mean over the tokens
 * in the place of a class token. Input `x` [N, 3, 32, 32], output `logits` [N, 10]. The same network as in bench/peers/networks.py.
 */
export function vit(seed = 0): Graph {
  const net = new Net('vit', seed);
  // The first opset with Gelu.
  net.graph.opset = 20;
  const patches = net.conv('patches', net.input([3, 32, 32]), { inputs: 3, outputs: dim, kernel: patch, stride: patch, pad: 0 });
  const flat = net.op('Reshape', 'patches.flat', [patches, net.ints('patches.flat.shape', [0, dim, tokens])]);
  let x = net.op('Transpose', 'patches.tokens', [flat], { perm: [0, 2, 1] });
  x = net.op('Add', 'position', [x, net.weights('position.table', [1, tokens, dim], dim)]);
  for (let block = 0; block < depth; block++) {
    const name = `block${block}`;
    x = net.op('Add', `${name}.add1`, [x, attention(net, `${name}.attention`, layerNorm(net, `${name}.norm1`, x))]);
    const wide = net.op('Gelu', `${name}.gelu`, [linear(net, `${name}.expand`, layerNorm(net, `${name}.norm2`, x), dim, 4 * dim)]);
    x = net.op('Add', `${name}.add2`, [x, linear(net, `${name}.contract`, wide, 4 * dim, dim)]);
  }
  const mean = net.op('ReduceMean', 'mean', [layerNorm(net, 'norm', x), net.ints('mean.axes', [1])], { keepdims: 0 });
  return net.finish(net.gemm('classify', mean, dim, 10));
}
