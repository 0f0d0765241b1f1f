import { describe, expect, it } from 'vitest';
import { graphOf, linesOf, runGraph } from '../../normalise/testing/oracle.js';
import { Random } from '../../tensor/random.js';
import { Tensor } from '../../tensor/tensor.js';
import { quantizeBroadcast } from './channels.js';

const quantize = (shape: string, channels: number, axis: number, dtype = 'int8') =>
  graphOf(`graph q (x: float32[${shape}], s: float32[${channels}], z: ${dtype}[${channels}]) opset 18
    q = QuantizeLinear(x, s, z) {axis=${axis}} @q
    y = DequantizeLinear(q, s, z) {axis=${axis}} @y
    return q, y`);

/** Values on, beside and far off the steps of the grid, and halves between them, which round to even. */
function feeds(shape: number[], channels: number, dtype: 'int8' | 'uint8') {
  const random = new Random(7);
  const size = shape.reduce((a, b) => a * b, 1);
  const pick = () => [random.normal() * 0.05, Math.round(random.normal() * 60) / 2 / 64, random.normal() * 1e3][random.below(3)] as number;
  const zero = Array.from({ length: channels }, () => random.below(5) - (dtype === 'int8' ? 2 : 0));
  return {
    x: Tensor.float32(shape, Float32Array.from({ length: size }, pick)),
    s: Tensor.float32(
      [channels],
      Float32Array.from({ length: channels }, (_, i) => (i % 2 ? 1 / 64 : 0.01 + random.uniform())),
    ),
    z: new Tensor(dtype, [channels], dtype === 'int8' ? Int8Array.from(zero) : Uint8Array.from(zero)),
  };
}

describe('weights whose channels lie side by side', () => {
  it.each([
    [[50, 70], 1, 'int8'],
    [[50, 70], -1, 'uint8'],
    [[4, 6, 3, 3], 1, 'int8'],
    [[2, 3, 4], 2, 'int8'],
  ] as const)('%j by axis %s as %s give the same integers and values', async (shape, axis, dtype) => {
    const channels = shape.at(axis) as number;
    const [plain, broadcast] = [0, 1].map(() => quantize(shape.join(', '), channels, axis, dtype)) as [never, never];
    quantizeBroadcast(broadcast);
    expect(linesOf(broadcast).join()).not.toMatch(/(Quantize|Dequantize)Linear/);
    const given = feeds([...shape], channels, dtype);
    const [wanted, got] = [await runGraph(plain, given), await runGraph(broadcast, given)];
    expect(got).toEqual(wanted);
    expect(new Set(wanted.q?.data as Int8Array).size).toBeGreaterThan(5);
  });

  it.each([
    ['5, 7', 5, 0],
    ['8, 1, 3, 3', 8, 0],
    ['2, 3, 40', 3, 1],
    ['5, 7', 1, 1],
  ])('[%s] with %s channels on axis %s stay as they are', (shape, channels, axis) => {
    const graph = quantize(shape, channels, axis);
    const before = linesOf(graph);
    quantizeBroadcast(graph);
    expect(linesOf(graph)).toEqual(before);
  });
});
