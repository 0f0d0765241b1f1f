import { describe, expect, it } from 'vitest';
import type { Node } from '../ir/graph.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { matrixForm } from './matrix.js';
import { RowStore } from './rows.js';

const random = new Random(4);
const normal = (shape: readonly number[]) =>
  Tensor.float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );

/** Rows of a layer times its weights in matrix form, and what the layer itself gives at those places. */
async function product(input: string, shape: readonly number[], layer: string) {
  const graph = graphOf(`graph layer (x: float32[${input}]) opset 18\n${layer} @layer\nreturn y`);
  const node = graph.nodes[0] as Node;
  const weight = node.input(1).constant as Tensor<'float32'>;
  const x = normal(shape);
  const y = (await runGraph(graph, { x })).y as Tensor<'float32'>;
  const form = matrixForm(node, weight.shape);
  const positions = form.positions(x.shape, y.shape);
  const store = new RowStore(form, shape[0] as number, positions, new Random(1));
  store.add(x, y);
  const matrix = new Float32Array(weight.size);
  weight.data.forEach((w, i) => {
    matrix[form.place(i)] = w;
  });
  const { group, inputs, outputs } = form;
  const pairs: [number, number][] = [];
  for (const part of store.finished()) {
    const rows = part.x.shape[1] as number;
    for (let g = 0; g < group; g++) {
      for (let row = 0; row < rows; row++) {
        for (let o = 0; o < outputs; o++) {
          let sum = 0;
          for (let k = 0; k < inputs; k++)
            sum += (part.x.data[(g * rows + row) * inputs + k] as number) * (matrix[(g * inputs + k) * outputs + o] as number);
          pairs.push([sum, part.y.data[(g * rows + row) * outputs + o] as number]);
        }
      }
    }
  }
  return { pairs, elements: y.size };
}

describe('a layer as a product of matrices', () => {
  it.each([
    ['Conv with padding on one side', 'N, 3, 7, 6', [2, 3, 7, 6], 'y = Conv(x, w=float32[4, 3, 3, 2]#) {pads=[1, 0, 2, 1]}'],
    [
      'Conv with stride and dilation',
      'N, 2, 9, 9',
      [2, 2, 9, 9],
      'y = Conv(x, w=float32[3, 2, 3, 3]#) {strides=[2, 3], dilations=[2, 1], pads=[1, 1, 1, 1]}',
    ],
    ['Conv with SAME padding', 'N, 2, 8, 8', [1, 2, 8, 8], 'y = Conv(x, w=float32[3, 2, 3, 3]#) {auto_pad="SAME_UPPER", strides=[2, 2]}'],
    ['groups', 'N, 4, 5, 5', [2, 4, 5, 5], 'y = Conv(x, w=float32[6, 2, 3, 3]#) {group=2}'],
    ['depthwise', 'N, 4, 5, 5', [2, 4, 5, 5], 'y = Conv(x, w=float32[8, 1, 3, 3]#) {group=4, pads=[1, 1, 1, 1]}'],
    ['one dimension', 'N, 3, 9', [3, 3, 9], 'y = Conv(x, w=float32[4, 3, 3]#) {pads=[1, 1]}'],
    ['Gemm', 'N, 6', [9, 6], 'y = Gemm(x, w=float32[6, 5]#)'],
    ['Gemm with transposed weights', 'N, 6', [9, 6], 'y = Gemm(x, w=float32[5, 6]#) {transB=1}'],
    ['MatMul of rank 3', 'N, 4, 6', [3, 4, 6], 'y = MatMul(x, w=float32[6, 5]#)'],
  ] as const)('%s', async (_, input, shape, layer) => {
    const { pairs, elements } = await product(input, shape, layer);
    // Every position is there, as there are few.
    expect(pairs.length).toBe(elements);
    for (const [found, wanted] of pairs) expect(found).toBeCloseTo(wanted, 4);
  });

  it('of a large layer it keeps a sample, in full parts of 256 rows', () => {
    const graph = graphOf(
      'graph layer (x: float32[N, 2, 64, 64]) opset 18\ny = Conv(x, w=float32[3, 2, 3, 3]#) {pads=[1, 1, 1, 1]}\nreturn y',
    );
    const form = matrixForm(graph.nodes[0] as Node, [3, 2, 3, 3]);
    const store = new RowStore(form, 16, 4096, new Random(1));
    for (let batch = 0; batch < 4; batch++) store.add(normal([4, 2, 64, 64]), normal([4, 3, 64, 64]));
    const parts = store.finished();
    expect(parts).toHaveLength(32);
    for (const part of parts) expect(part.x.shape).toEqual([1, 256, 18]);
  });

  it('fewer samples than were announced: parts that are not full are left out', () => {
    const graph = graphOf('graph layer (x: float32[N, 6]) opset 18\ny = Gemm(x, w=float32[6, 5]#)\nreturn y');
    const form = matrixForm(graph.nodes[0] as Node, [6, 5]);
    const store = new RowStore(form, 1024, 1, new Random(1));
    store.add(normal([1023, 6]), normal([1023, 5]));
    expect(store.finished()).toHaveLength(3);
    store.add(normal([1, 6]), normal([1, 5]));
    expect(store.finished()).toHaveLength(4);
  });
});
