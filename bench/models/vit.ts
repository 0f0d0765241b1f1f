import type { Graph, Value } from '../../packages/quant-core/src/ir/graph.js';
import { Net } from './net.js';

interface Sizes {
  /** Side of the square images. */
  side: number;
  patch: number;
  dim: number;
  heads: number;
  depth: number;
}

/** A fully connected layer on tokens, as PyTorch exports it: MatMul and Add. */
function linear(net: Net, name: string, x: Value, inputs: number, outputs: number): Value {
  const product = net.op('MatMul', name, [x, net.weights(`${name}.weight`, [inputs, outputs], inputs)]);
  return net.op('Add', `${name}.add`, [product, net.filled(`${name}.bias`, [outputs], 0)]);
}

function layerNorm(net: Net, name: string, x: Value, dim: number): Value {
  const operands = [x, net.filled(`${name}.scale`, [dim], 1), net.filled(`${name}.bias`, [dim], 0)];
  return net.op('LayerNormalization', name, operands, { axis: -1, epsilon: 1e-5 });
}

/** Attention of all tokens to all tokens (Vaswani et al. 2017): [N, tokens, dim] → the same. */
function attention(net: Net, name: string, x: Value, { dim, heads }: Sizes, tokens: number): Value {
  const head = dim / heads;
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

/** A vision transformer (Dosovitskiy et al. 2021), mean over the tokens in the place of a class token: input `x` [N, 3, side, side], output `logits` [N, 10]. */
function transformer(name: string, seed: number, sizes: Sizes): Graph {
  const { side, patch, dim, depth } = sizes;
  const tokens = (side / patch) ** 2;
  const net = new Net(name, seed);
  // The first opset with Gelu.
  net.graph.opset = 20;
  const patches = net.conv('patches', net.input([3, side, side]), { inputs: 3, outputs: dim, kernel: patch, stride: patch, pad: 0 });
  const flat = net.op('Reshape', 'patches.flat', [patches, net.ints('patches.flat.shape', [0, dim, tokens])]);
  let x = net.op('Transpose', 'patches.tokens', [flat], { perm: [0, 2, 1] });
  x = net.op('Add', 'position', [x, net.weights('position.table', [1, tokens, dim], dim)]);
  for (let index = 0; index < depth; index++) {
    const block = `block${index}`;
    x = net.op('Add', `${block}.add1`, [x, attention(net, `${block}.attention`, layerNorm(net, `${block}.norm1`, x, dim), sizes, tokens)]);
    const wide = net.op('Gelu', `${block}.gelu`, [linear(net, `${block}.expand`, layerNorm(net, `${block}.norm2`, x, dim), dim, 4 * dim)]);
    x = net.op('Add', `${block}.add2`, [x, linear(net, `${block}.contract`, wide, 4 * dim, dim)]);
  }
  const mean = net.op('ReduceMean', 'mean', [layerNorm(net, 'norm', x, dim), net.ints('mean.axes', [1])], { keepdims: 0 });
  return net.finish(net.gemm('classify', mean, dim, 10));
}

/** A small one for 32×32 images: patches of 4×4, width 96, 3 heads, 4 blocks. The same network as in bench/peers/networks.py. */
export const vit = (seed = 0): Graph => transformer('vit', seed, { side: 32, patch: 4, dim: 96, heads: 3, depth: 4 });

/** ViT-tiny for 224×224 images: patches of 16×16, width 192, 3 heads, 12 blocks. */
export const vitTiny = (seed = 0): Graph => transformer('vit-tiny', seed, { side: 224, patch: 16, dim: 192, heads: 3, depth: 12 });
