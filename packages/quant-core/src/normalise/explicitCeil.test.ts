import { expect, it } from 'vitest';
import { explicitCeil } from './explicitCeil.js';
import { expectSameAfter, expectUntouched } from './testing/oracle.js';

const pool = (op: string, shape: string, attributes: string) =>
  `graph g (x: float32[${shape}]) opset 18\n  y = ${op}(x) {${attributes}, ceil_mode=1}\n  return y`;

it.each([
  ['MaxPool', 'N, 2, 6, 7', 'kernel_shape=[3, 3], strides=[2, 2]', '[0, 0, 1, 0]'],
  ['MaxPool', '1, 2, 3', 'kernel_shape=[2], strides=[2], pads=[1, 1]', '[1, 0]'],
  ['AveragePool', 'N, 2, 6, 6', 'kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1]', '[1, 0, 2, 1]'],
])('%s of [%s] with %s', async (op, shape, attributes, pads) => {
  const [line] = await expectSameAfter(pool(op, shape, attributes), [explicitCeil]);
  expect(line).toContain(`pads=${pads}`);
  expect(line).not.toContain('ceil_mode');
});

it.each([
  ['the padding counts', pool('AveragePool', '1, 2, 6', 'kernel_shape=[3], strides=[2], count_include_pad=1')],
  ['the padding would be as large as the window', pool('MaxPool', '1, 2, 8', 'kernel_shape=[2], strides=[3], dilations=[3]')],
  ['the size is open', pool('MaxPool', '1, 2, W', 'kernel_shape=[3], strides=[2]')],
])('leaves a pool when %s', (_, text) => {
  expectUntouched(text, explicitCeil);
});
