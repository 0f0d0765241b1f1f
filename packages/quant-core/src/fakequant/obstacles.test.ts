import { describe, expect, it } from 'vitest';
import { graphOf } from '../normalise/testing/oracle.js';
import type { Recipe } from '../recipe.js';
import { planOf, recipeWith } from './testing/plans.js';

/** The reasons of the nodes that stay float, by name. */
function reasons(body: string, input: string, recipe?: Recipe): Record<string, string> {
  const plan = planOf(graphOf(`graph g (x: ${input}) opset 18\n${body}`), recipe);
  return Object.fromEntries(plan.float.map(({ node, reason }) => [node, reason]));
}

const image = 'float32[N, 4, 4, 4]';
const conv = (x: string, y: string, weight: string) => `${y} = Conv(${x}, ${weight}=float32[4, 4, 1, 1]#) @${y}`;

describe('why a layer stays float', () => {
  const row = 'float32[N, 4]';
  const withLast = (layer: string) => `${layer}\nz = Gemm(y, w9=float32[4, 2]#) @last\nreturn z`;
  it.each([
    ['y = MatMul(x, x) @at', 'float32[4, 4]', 'it multiplies two computed tensors, and only products with constant weights become int8'],
    [
      'y = MatMul(w=float32[4, 4]#, x) @at',
      'float32[4, 4]',
      'its first input is the constant one, and only a constant second input is taken as weights',
    ],
    ['y = Gemm(x, w=float32[4, 4]#) {alpha=0.5} @at', row, 'Octet has no integer form of a Gemm with alpha = 0.5'],
    ['y = Gemm(x, w=float32[4, 4]#) {transA=1} @at', 'float32[4, 4]', 'Octet has no integer form of a Gemm with transA = 1'],
    ['y = Gemm(x, w=float32[4, 4]#, b=float32[4]#) {beta=2} @at', row, 'Octet has no integer form of a Gemm with beta = 2'],
    ['b = Exp(x)\ny = Gemm(x, w=float32[4, 4]#, b) @at', 'float32[4, 4]', 'its bias b is computed, not constant'],
    [
      's = Opaque<my.domain, Act, 1>(x) @act\nt = Relu(s)\ny = Gemm(t, w=float32[4, 4]#) @at',
      row,
      'the type of its input t is not known: it comes from act (Act), which is not in the list of docs/ops.md',
    ],
  ])('%s', (layer, input, reason) => {
    expect(reasons(withLast(layer), input).at).toBe(reason);
  });

  it('a MatMul with a stack of matrices', () => {
    const body = 'a = MatMul(x, w=float32[2, 4, 4]#) @stack\ny = MatMul(a, w2=float32[4, 4]#) @last\nreturn y';
    expect(reasons(body, 'float32[2, 3, 4]').stack).toBe(
      'its weights have 3 dimensions, and only those of a MatMul by a matrix become int8',
    );
  });

  it('a ConvTranspose, by the fact of the op list', () => {
    const body = `y = ConvTranspose(x, w=float32[4, 4, 1, 1]#) @up\n${conv('y', 'z', 'w2')}\nreturn z`;
    expect(reasons(body, image).up).toBe('ONNX Runtime has no integer kernel for it');
  });
});

describe('why an op without weights stays float', () => {
  it('goes back to the node where float began, however far', () => {
    const body = `${conv('x', 'a', 'w1')}
      s = Softmax(a) @scores
      l = LeakyRelu(s) @leaky
      t = Transpose(l) {perm=[0, 1, 3, 2]} @turn
      u = Add(t, a) @sum
      ${conv('u', 'y', 'w2')}
      return y`;
    const root = 'its input comes from scores (Softmax), which stays float: Octet has no integer form of Softmax';
    expect(reasons(body, image)).toEqual({ scores: 'Octet has no integer form of Softmax', leaky: root, turn: root, sum: root });
  });

  it('says that nothing int8 reads its result', () => {
    const body = `${conv('x', 'a', 'w1')}\ns = Add(a, x) @sum\ny = Relu(s) @relu\nreturn y`;
    const reason = 'no int8 layer reads its result, which goes to relu (Relu)';
    expect(reasons(body, image)).toEqual({ sum: reason, relu: `its input comes from sum (Add), which stays float: ${reason}` });
    const last = `${conv('x', 'a', 'w1')}\ny = Add(a, x) @sum\nreturn y`;
    expect(reasons(last, image)).toEqual({ sum: 'no int8 layer reads its result, which is an output of the model' });
  });

  it('names the constant, the configuration, and a fill that is not 0', () => {
    const body = `${conv('x', 'a', 'w1')}
      m = Mul(a, c=float32[1]#) @scaled
      p = Pad(a, pads=int64[8]{0, 0, 1, 1, 0, 0, 1, 1}, fill=float32[]{7}) @pad
      g = GlobalAveragePool(a) @pool
      ${conv('m', 'b1', 'w2')}
      ${conv('p', 'b2', 'w3')}
      ${conv('g', 'b3', 'w4')}
      r = Add(b1, b3)
      q = GlobalAveragePool(b2)
      y = Add(r, q)
      ${conv('y', 'z', 'w5')}
      return z`;
    const found = reasons(body, image, recipeWith({ layers: [{ op: 'GlobalAveragePool', name: 'pool', skip: true }] }));
    expect(found).toEqual({
      scaled: 'its input c is a constant, which stays float',
      pad: 'it pads with something other than 0',
      pool: 'left in float by the configuration',
    });
  });

  it('an activation that no layer can take in', () => {
    const twice = `${conv('x', 'a', 'w1')}\nr = Relu(a) @relu\ns = Add(r, a)\n${conv('s', 'y', 'w2')}\nreturn y`;
    expect(reasons(twice, image).relu).toBe('other nodes read the result of a before it');
    const first = `r = Relu(x) @relu\ns = Add(r, x)\n${conv('x', 'a', 'w1')}\nt = Add(a, s)\n${conv('t', 'y', 'w2')}\nreturn y`;
    expect(reasons(first, image).relu).toBe('no int8 layer stands before it whose part it could be');
    const computed = `${conv('x', 'a', 'w1')}\nm = ReduceMax(x) {keepdims=0}\nr = Clip(a, _, m) @clip\n${conv('r', 'y', 'w2')}\nreturn y`;
    expect(reasons(computed, image).clip).toBe('its bounds are computed, not constant');
  });

  it('an input of the model that no layer reads', () => {
    const body = `s = Sigmoid(x) @gate\np = MaxPool(x) {kernel_shape=[1, 1]} @pool\nt = Mul(s, p) @mul\n${conv('t', 'y', 'w')}\nreturn y`;
    const reason = 'its input x is not quantized: no int8 layer reads it';
    expect(reasons(body, image)).toMatchObject({ gate: reason, pool: reason });
  });
});
