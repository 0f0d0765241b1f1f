import { expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { planOf, recipeWith } from '../fakequant/testing/plans.js';
import type { Graph } from '../ir/graph.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { Tensor } from '../tensor/tensor.js';
import { checkFileSize } from './fileSize.js';

/** A network whose weight or table claims a size that nobody allocates. */
function net(large: 'w' | 'table', elements: number): Graph {
  const graph = graphOf(`graph g (x: int64[N, 6]) opset 18
    e = Gather(table=float32[10, 8]#, x) @embedding
    m = ReduceMean(e, axes=int64[1]{1}) {keepdims=0}
    y = Gemm(m, w=float32[8, 16]#, b=float32[16]#) @hidden
    return y`);
  const value = graph.constants().find(({ name }) => name === large);
  const claimed = Object.create(Tensor.zeros('float32', [1]), { size: { value: elements }, bytes: { value: 4 * elements } }) as Tensor;
  if (value) value.constant = claimed;
  return graph;
}
const plan = () => planOf(net('w', 1), recipeWith({}));

it('a model whose int8 form is too large for a file is refused with what stays float', async () => {
  const error = await failure('MODEL_TOO_LARGE', async () => checkFileSize(net('table', 600_000_000), plan()));
  expect(error.message).toContain('2400');
  expect(error.message).toContain('"table"');
  expect(error.place).toEqual({ tensor: 'table' });
});

it('quantized weights count a byte each', async () => {
  checkFileSize(net('w', 600_000_000), plan());
  await failure('MODEL_TOO_LARGE', async () => checkFileSize(net('w', 2_200_000_000), plan()));
});
