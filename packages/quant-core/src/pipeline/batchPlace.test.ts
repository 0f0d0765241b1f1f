import { expect, it } from 'vitest';
import { inferShapes } from '../ir/infer.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { checkBatchPlace } from './batchPlace.js';

const check = (text: string) => () => {
  const graph = graphOf(text);
  inferShapes(graph);
  checkBatchPlace(graph);
};
const refused = (detail: RegExp) =>
  expect.objectContaining({ code: 'MODEL_INPUTS_UNSUPPORTED', place: { tensor: 'x' }, message: expect.stringMatching(detail) });
const lstm = 'w=float32[1, 8, 4]#, r=float32[1, 8, 2]#';

it('refuses a batch that is the second axis, as the name of the rows of the output shows', () => {
  const text = (t: string) => `graph g (x: float32[${t}, N, 4]) opset 18
    s, h = LSTM(x, ${lstm}) {hidden_size=2}
    y = Squeeze(h, axes=int64[1]{0})
    return y`;
  expect(check(text('10'))).toThrow(refused(/Input x has the batch "N" as axis 1 of \[10, N, 4\].*output y has one row for each "N"/));
  expect(check(text('T'))).toThrow(refused(/axis 1 of \[T, N, 4\]/));
});

it('refuses it where only a recurrent layer shows it', () => {
  const text = `graph g (x: float32[T, N, 4]) opset 18
    s = LSTM(x, ${lstm}) {hidden_size=2}
    y = Relu(s)
    return y`;
  expect(check(text)).toThrow(refused(/LSTM .* has "N" as batch/));
});

it('shows input and output where the output alone is turned, and does not call its first axis the batch', () => {
  const text = `graph g (x: float32[batch, 6, time]) opset 18
    y = Transpose(x) {perm=[2, 0, 1]}
    return y`;
  const shown = /Input x is \[batch, 6, time\] and output y is \[time, batch, 6\]: the batch must be the first dimension of both/;
  expect(check(text)).toThrow(expect.objectContaining({ code: 'MODEL_INPUTS_UNSUPPORTED', message: expect.stringMatching(shown) }));
});

it.each([
  [
    'turned inside the model',
    't = Transpose(x) {perm=[1, 0, 2]}\ns, h = LSTM(t, w=float32[1, 8, 4]#, r=float32[1, 8, 2]#) {hidden_size=2}\ny = Squeeze(h, axes=int64[1]{0})\nreturn y',
    'N, T, 4',
  ],
  ['in front', 'y = Relu(x)\nreturn y', 'N, T, 4'],
  ['in front of one output, with a list of steps beside', 'y = Relu(x)\nz = Transpose(x) {perm=[1, 0, 2]}\nreturn y, z', 'N, T, 4'],
  ['without a name', 'y = Relu(x)\nreturn y', '1, 10, 4'],
])('lets the batch be %s', (_, text, shape) => {
  expect(check(`graph g (x: float32[${shape}]) opset 18\n${text}`)).not.toThrow();
});
