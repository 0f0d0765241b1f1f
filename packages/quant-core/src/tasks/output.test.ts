import { describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { inferShapes } from '../ir/infer.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { describeOutputs, type ModelOutput } from './output.js';

function outputsOf(text: string, input = 'float32[N, 3, 8, 8]', wishes: Parameters<typeof describeOutputs>[1] = []): ModelOutput[] {
  const graph = graphOf(`graph g (x: ${input}) opset 18\n${text}`);
  inferShapes(graph);
  return describeOutputs(graph, wishes);
}
const kinds = (outputs: readonly ModelOutput[]) => outputs.map(({ kind, axis, certain }) => [kind, axis, certain]);

const map = 'h = Conv(x, w=float32[5, 3, 1, 1]#) {kernel_shape=[1, 1]}';
const row = 'f = Flatten(x)\nh = Gemm(f, w=float32[192, 4]#)';

describe('what an output is', () => {
  it.each([
    ['scores by a softmax', `${row}\ny = Softmax(h)\nreturn y`, [['classes', 1, true]]],
    ['independent answers by a sigmoid', `${row}\ny = Sigmoid(h)\nreturn y`, [['binary', null, true]]],
    ['a map by a softmax', `${map}\ny = Softmax(h) {axis=1}\nreturn y`, [['classes', 1, true]]],
    [
      'a map with its classes moved to the end',
      `${map}\ns = Softmax(h) {axis=1}\ny = Transpose(s) {perm=[0, 2, 3, 1]}\nreturn y`,
      [['classes', 3, true]],
    ],
    [
      'logits that an ArgMax is taken of, and the ArgMax',
      `${map}\ny = ArgMax(h) {axis=1}\nreturn h, y`,
      [
        ['classes', 1, true],
        ['other', null, true],
      ],
    ],
    ['an embedding of length 1', `${row}\ny = LpNormalization(h) {axis=1, p=2}\nreturn y`, [['embedding', null, true]]],
    [
      'an embedding, spelt out',
      `${row}\nq = Mul(h, h)\ns = ReduceSum(q, axes=int64[1]{1})\nr = Sqrt(s)\ny = Div(h, r)\nreturn y`,
      [['embedding', null, true]],
    ],
    ['the largest values, which are no scores', `${row}\ny, i = TopK(h, k=int64[1]{2})\nreturn y`, [['values', null, true]]],
    ['nothing that can be told', `${row}\nreturn h`, [['values', null, false]]],
    ['logits by their name', `f = Flatten(x)\nlogits = Gemm(f, w=float32[192, 4]#)\nreturn logits`, [['classes', 1, false]]],
  ])('%s', (_what, text, wanted) => {
    expect(kinds(outputsOf(text))).toEqual(wanted);
  });

  it('outputs of one tensor say the same', () => {
    const [logits, shares] = outputsOf(`${row}\ny = Softmax(h)\nreturn h, y`);
    expect(logits).toMatchObject({ of: 'h', form: 'logits', kind: 'classes' });
    expect(shares).toMatchObject({ of: 'h', form: 'probabilities', width: 4 });
  });

  it('integers, and what has no batch in front, are kept and not judged', () => {
    const [ids, whole] = outputsOf(`${row}\ny = Cast(h) {to=int64}\nz = ReduceSum(h, axes=int64[1]{0}) {keepdims=0}\nreturn y, z`);
    expect(ids).toMatchObject({ judged: false, why: expect.stringContaining('int64') });
    expect(whole).toMatchObject({ judged: false, why: expect.stringContaining('batch') });
  });

  it('the job can say it', async () => {
    const [said] = outputsOf(`${map}\nreturn h`, 'float32[N, 3, 8, 8]', [{ name: 'h', kind: 'classes', axis: -3 }]);
    expect(said).toMatchObject({ kind: 'classes', axis: 1, certain: true, why: 'The job says so.' });
    const wrong = await failure('CONFIG_IMPOSSIBLE', () => outputsOf(`${map}\nreturn h`, undefined, [{ name: 'y', kind: 'values' }]));
    expect(wrong).toMatchObject({ place: { pointer: '/outputs/0/name' }, message: expect.stringContaining('"h"') });
    const axis = await failure('CONFIG_IMPOSSIBLE', () =>
      outputsOf(`${map}\nreturn h`, undefined, [{ name: 'h', kind: 'classes', axis: 4 }]),
    );
    expect(axis.place.pointer).toBe('/outputs/0/axis');
  });
});
