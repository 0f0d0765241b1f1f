import { describe, expect, it } from 'vitest';
import { graphOf } from '../normalise/testing/oracle.js';
import { packParameters, parameterLayout, unpackParameters } from './parameters.js';

const graph = () =>
  graphOf(`graph block (x: float32[N, 3, 4]) opset 18
    n = LayerNormalization(x, g=float32[4]#, h=float32[4]#)
    m = MatMul(n, w=float32[4, 4]#)
    b = Add(m, bias=float32[4]#)
    masked = Add(b, mask=float32[3, 4]#)
    shifted = Add(masked, shift=float32[4]#)
    p = PRelu(shifted, slope=float32[4]#)
    f = Flatten(p)
    y = Gemm(f, v=float32[12, 2]#, c=float32[2]#)
    return y`);

const names = (of: ReturnType<typeof graph>) => parameterLayout(of).slots.map((slot) => slot.name);

describe('what is trained', () => {
  it('weights and biases of layers and norms, the bias after a MatMul and slopes, but nothing else that is added', () => {
    expect(names(graph())).toEqual(['g', 'h', 'w', 'bias', 'slope', 'v', 'c']);
  });

  it('no mask that is added to a product of two activations', () => {
    const attention = graphOf(`graph scores (x: float32[N, 3, 3]) opset 18
      m = MatMul(x, x)
      s = Add(m, mask=float32[3]#)
      f = Flatten(s)
      y = Gemm(f, v=float32[9, 2]#)
      return y`);
    expect(names(attention)).toEqual(['v']);
  });

  it('the table of an embedding', () => {
    const tokens = graphOf(`graph words (x: float32[N, 5]) opset 18
      i = Cast(x) {to=int64}
      e = Gather(table=float32[10, 4]#, i) {axis=0}
      f = Flatten(e)
      y = Gemm(f, v=float32[20, 2]#)
      return y`);
    expect(names(tokens)).toEqual(['table', 'v']);
  });

  it('lies in one vector, and comes back from it', () => {
    const of = graph();
    const layout = parameterLayout(of);
    const flat = packParameters(of, layout);
    expect(flat).toHaveLength(4 + 4 + 16 + 4 + 4 + 24 + 2);
    unpackParameters(
      of,
      layout,
      flat.map((value) => 2 * value),
    );
    expect(packParameters(of, layout)).toEqual(flat.map((value) => 2 * value));
  });
});
