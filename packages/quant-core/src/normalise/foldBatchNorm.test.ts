import { describe, expect, it } from 'vitest';
import { foldBatchNorm, foldBatchNormForward, spellOutBatchNorm } from './foldBatchNorm.js';
import { normalise } from './index.js';
import { expectSameAfter, expectUntouched, graphOf } from './testing/oracle.js';

const norm = (c: number, prefix = '') =>
  `${prefix}g=float32[${c}]{${Array.from({ length: c }, (_, i) => (i === 1 ? 0 : i - 1.5)).join(', ')}}, ${prefix}b=float32[${c}]#, ${prefix}m=float32[${c}]#, ${prefix}v=float32[${c}]{${Array.from({ length: c }, (_, i) => i / 2).join(', ')}}`;

describe('into the layer before', () => {
  it.each([
    ['Conv', 'x: float32[N, 4, 6, 6]', 'c = Conv(x, w=float32[6, 2, 3, 3]#) {group=2, pads=[1, 1, 1, 1]}', 6],
    ['Conv with a bias', 'x: float32[N, 4, 6]', 'c = Conv(x, w=float32[6, 4, 3]#, bias=float32[6]#)', 6],
    ['depthwise Conv', 'x: float32[N, 4, 6, 6]', 'c = Conv(x, w=float32[4, 1, 3, 3]#) {group=4, strides=[2, 2]}', 4],
    [
      'ConvTranspose',
      'x: float32[N, 4, 5, 5]',
      'c = ConvTranspose(x, w=float32[4, 3, 2, 2]#, bias=float32[6]#) {group=2, strides=[2, 2]}',
      6,
    ],
    ['Gemm', 'x: float32[N, 5]', 'c = Gemm(x, w=float32[5, 4]#, bias=float32[1, 4]#) {alpha=0.5, beta=2}', 4],
    ['Gemm with transB', 'x: float32[N, 5]', 'c = Gemm(x, w=float32[4, 5]#, bias=float32[]{3}) {transB=1}', 4],
    ['Gemm with neither bias nor transB', 'x: float32[N, 5]', 'c = Gemm(x, w=float32[5, 4]#)', 4],
  ])('%s', async (_, input, layer, channels) => {
    const lines = await expectSameAfter(
      `graph g (${input}) opset 18\n${layer} @layer1\nn = BatchNormalization(c, ${norm(channels)})\ny = Relu(n)\nreturn y`,
      [foldBatchNorm],
    );
    expect(lines.length).toBe(3);
    expect(lines[0]).toContain('@layer1');
    expect(lines[1]).toContain('Relu(c)');
  });

  it('MatMul becomes a Gemm of the same name', async () => {
    const lines = await expectSameAfter(
      `graph g (x: float32[N, 5]) opset 18\nc = MatMul(x, w=float32[5, 4]#) @fc\ny = BatchNormalization(c, ${norm(4)})\nreturn y`,
      [foldBatchNorm],
    );
    expect(lines).toEqual(['y: float32[N, 4] = Gemm(x, w=float32[5, 4], fc.bias=float32[4]) @fc', 'return y']);
  });

  it('leaves the weights alone that another layer shares', async () => {
    const lines = await expectSameAfter(
      `graph g (x: float32[N, 3, 4]) opset 18
      a = Conv(x, w=float32[3, 3, 1]#, b0=float32[3]#)
      n = BatchNormalization(a, ${norm(3)})
      y = Conv(n, w, b0)
      return y`,
      [foldBatchNorm],
    );
    expect(lines[0]).toContain('Conv(x, w_1=');
    expect(lines[1]).toContain('Conv(a, w=');
  });

  it.each([
    ['the result is read by others', `c = Conv(x, w=float32[4, 4, 1]#)\nn = BatchNormalization(c, ${norm(4)})\ny = Add(n, c)\nreturn y`],
    ['the result is an output', `c = Conv(x, w=float32[4, 4, 1]#)\ny = BatchNormalization(c, ${norm(4)})\nreturn y, c`],
    ['the weights are no constant', `k = Relu(w=float32[4, 4, 1]#)\nc = Conv(x, k)\ny = BatchNormalization(c, ${norm(4)})\nreturn y`],
    [
      'the parameters are not constants',
      `k = Relu(g=float32[4]#)\nc = Conv(x, w=float32[4, 4, 1]#)\ny = BatchNormalization(c, k, b=float32[4]#, b, g)\nreturn y`,
    ],
    ['the channels are not those of a MatMul', `c = MatMul(x, w=float32[4, 4]#)\ny = BatchNormalization(c, ${norm(4)})\nreturn y`],
    [
      'the variance is not a number',
      'c = Conv(x, w=float32[4, 4, 1]#)\ny = BatchNormalization(c, g=float32[4]#, g, g, v=float32[4]{-1})\nreturn y',
    ],
    [
      'it is in training mode',
      `c = Conv(x, w=float32[4, 4, 1]#)\ny, m2, v2 = BatchNormalization(c, ${norm(4)}) {training_mode=1}\nreturn y`,
    ],
  ])('not when %s', (_, body) => expectUntouched(`graph g (x: float32[N, 4, 4]) opset 18\n${body}`, foldBatchNorm));
});

describe('into the layer after it', () => {
  it.each([
    ['Conv', 'x: float32[N, 4, 6, 6]', 'Conv(n, w=float32[6, 2, 3, 3]#) {group=2}', 4],
    ['Conv with a bias', 'x: float32[N, 4, 6]', 'Conv(n, w=float32[6, 4, 3]#, bias=float32[6]#)', 4],
    ['Gemm', 'x: float32[N, 5]', 'Gemm(n, w=float32[5, 4]#, bias=float32[4]#) {alpha=0.5, beta=2}', 5],
    ['Gemm with transB', 'x: float32[N, 5]', 'Gemm(n, w=float32[4, 5]#) {transB=1}', 5],
    ['MatMul', 'x: float32[N, 5]', 'MatMul(n, w=float32[5, 4]#)', 5],
  ])('%s', async (_, input, layer, channels) => {
    const lines = await expectSameAfter(
      `graph g (${input}) opset 18\na = Relu(x)\nn = BatchNormalization(a, ${norm(channels)})\ny = ${layer} @layer1\nreturn y`,
      [foldBatchNormForward],
    );
    expect(lines.length).toBe(3);
    expect(lines[1]).toMatch(/^y: .*@layer1$/);
  });

  it('with padding only where nothing is added', async () => {
    const body = (b: string, m: string) =>
      `graph g (x: float32[N, 4, 6]) opset 18\na = Relu(x)\nn = BatchNormalization(a, g=float32[4]#, b=float32[4]{${b}}, m=float32[4]{${m}}, v=float32[4]{1, 2, 3, 4})\ny = Conv(n, w=float32[6, 4, 3]#) {pads=[1, 1]}\nreturn y`;
    await expectSameAfter(body('0', '0'), [foldBatchNormForward]);
    expectUntouched(body('0, 1, 0, 0', '0'), foldBatchNormForward);
  });

  it('not when others read it', () => {
    expectUntouched(
      `graph g (x: float32[N, 4, 6]) opset 18\nn = BatchNormalization(x, ${norm(4)})\ny = Conv(n, w=float32[6, 4, 3]#)\nreturn y, n`,
      foldBatchNormForward,
    );
  });
});

describe('spelt out', () => {
  it.each(['x: float32[N, 4]', 'x: float32[N, 4, 3, 2]'])('%s', async (input) => {
    const lines = await expectSameAfter(`graph g (${input}) opset 18\na = Relu(x)\ny = BatchNormalization(a, ${norm(4)}) @bn1\nreturn y`, [
      spellOutBatchNorm,
    ]);
    expect(lines[1]).toContain('Mul(a, bn1.scale=');
    expect(lines[2]).toMatch(/^y: .*Add\(bn1, bn1.shift=/);
  });
  it('not when the parameters are not constants', () => {
    expectUntouched(
      'graph g (x: float32[N, 4], g: float32[4]) opset 18\ny = BatchNormalization(x, g, b=float32[4]#, b, b)\nreturn y',
      spellOutBatchNorm,
    );
  });
});

describe('what training can take out again', () => {
  const kept = async (body: string) => {
    const graph = graphOf(`graph g (x: float32[N, 4, 6]) opset 18\n${body}`);
    return { graph, norms: await normalise(graph) };
  };

  it('is what the layer and the batch norm were', async () => {
    const { graph, norms } = await kept(
      `c = Conv(x, w=float32[4, 4, 1]#, bias=float32[4]#) @conv\ny = BatchNormalization(c, ${norm(4)}) {epsilon=0.01}\nreturn y`,
    );
    const [one] = norms;
    expect(norms.map(({ node, epsilon }) => [node, epsilon])).toEqual([['conv', Math.fround(0.01)]]);
    const conv = graph.nodes[0];
    const [weight, bias] = [1, 2].map((port) => conv?.input(port).constant?.data as Float32Array);
    for (let c = 0; c < 4; c++) {
      const factor = (one?.gamma[c] as number) / Math.sqrt((one?.variance[c] as number) + 0.01);
      expect(weight?.[4 * c]).toBeCloseTo(factor * (one?.weight.data[4 * c] as number), 5);
      expect(bias?.[c]).toBeCloseTo((one?.beta[c] as number) - factor * (one?.mean[c] as number), 5);
    }
  });

  it.each([
    [
      'of two in a row the second',
      `c = Conv(x, w=float32[4, 4, 1]#) @conv\nn = BatchNormalization(c, ${norm(4)})\ny = BatchNormalization(n, ${norm(4, 'q')})\nreturn y`,
      1,
    ],
    [
      'none that a factor was folded after',
      `c = Conv(x, w=float32[4, 4, 1]#)\nn = BatchNormalization(c, ${norm(4)})\ny = Mul(n, k=float32[4, 1]#)\nreturn y`,
      0,
    ],
    [
      'none of a ConvTranspose in groups',
      `c = ConvTranspose(x, w=float32[4, 2, 1]#) {group=2}\ny = BatchNormalization(c, ${norm(4)})\nreturn y`,
      0,
    ],
    ['none that stands alone', `n = BatchNormalization(x, ${norm(4)})\ny = Relu(n)\nreturn y`, 0],
  ])('%s', async (_what, body, count) => {
    expect((await kept(body)).norms).toHaveLength(count);
  });
});
