import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';

/** Integer kernels take input channels four at a time. */
const stride = 4;
/** From so many channels on, copying rows costs as much as it saves (bench/widen, docs/decisions/0007). */
const mostChannels = 3;

/**
 * Write a two-dimensional int8 Conv on one to three channels as one whose kernel is one row high: the rows of the kernel become
 * channels, gathered from the padded input, with as many rows of zero weights as make the channels a multiple of four. Every sum
 * stays what it is. ONNX Runtime's symmetric kernel then takes all rows at a point of the image from one place.
 * Returns false, and changes nothing, where the layer is not of that form or the height of its input is not known.
 */
export function unfoldRows(graph: Graph, node: Node<'Conv'>): boolean {
  const input = node.input(0).producer;
  const weight = node.input(1).producer;
  if (node.attr('group') !== 1 || !input?.is('DequantizeLinear') || !weight?.is('DequantizeLinear')) return false;
  const [integers, zero] = [weight.input(0).constant, weight.inputs[2]?.constant];
  const fill = input.inputs[2];
  const height = node.input(0).shape?.[2];
  const width = node.input(0).shape?.[3];
  const padding = node.attr('auto_pad');
  if (integers?.shape.length !== 4 || !fill?.constant || typeof height !== 'number' || width === undefined) return false;
  if (zero && (zero.data as Int8Array).some((z) => z !== 0)) return false;
  const [outputs, channels, rows, columns] = integers.shape as [number, number, number, number];
  if (channels > mostChannels || rows === 1 || (padding !== 'NOTSET' && padding !== 'VALID')) return false;
  const [top = 0, left = 0, bottom = 0, right = 0] = (padding === 'NOTSET' && node.attr('pads')) || [];
  const [down = 1, across = 1] = node.attr('strides') ?? [];
  const [apart = 1, spread = 1] = node.attr('dilations') ?? [];
  const high = Math.floor((height + top + bottom - (rows - 1) * apart - 1) / down) + 1;
  let taken = rows;
  while ((channels * taken) % stride !== 0) taken++;

  let padded = input.input(0);
  if (top || bottom) {
    const ends = graph.constant(`${node.name}_pads`, Tensor.ints([0, 0, top, 0, 0, 0, bottom, 0]));
    padded = graph.node('Pad', [padded, ends, fill], {}, { name: `${node.name}_pad` }).output();
  }
  // Row r of the kernel over line y of the result; rows of zero weights may read any line.
  const from = new BigInt64Array(taken * high);
  for (let r = 0; r < rows; r++) for (let y = 0; y < high; y++) from[r * high + y] = BigInt(y * down + r * apart);
  const lines = graph.constant(`${node.name}_lines`, new Tensor('int64', [taken, high], from));
  const gathered = graph.node('Gather', [padded, lines], { axis: 2 }, { name: `${node.name}_rows` });
  const shape = graph.constant(`${node.name}_shape`, Tensor.ints([0, channels * taken, high, typeof width === 'number' ? width : -1]));
  const unfolded = graph.node('Reshape', [gathered.output(), shape], {}, { name: `${node.name}_unfold` });
  const dequantized = graph.node(
    'DequantizeLinear',
    [unfolded.output(), input.input(1), fill],
    {},
    { name: `${node.name}_unfold_dequantize` },
  );
  node.setInput(0, dequantized.output());

  const source = integers.data as Int8Array;
  const wide = new Int8Array(outputs * channels * taken * columns);
  for (let plane = 0; plane < outputs * channels; plane++) {
    wide.set(source.subarray(plane * rows * columns, (plane + 1) * rows * columns), plane * taken * columns);
  }
  const stored = weight.input(0);
  stored.constant = new Tensor('int8', [outputs, channels * taken, 1, columns], wide);
  stored.type = { dtype: 'int8', shape: stored.constant.shape };
  node.attrs = {
    ...node.attrs,
    auto_pad: 'NOTSET',
    kernel_shape: [1, columns],
    pads: [0, left, 0, right],
    strides: [1, across],
    dilations: [1, spread],
  };
  if (input.output().readers.length === 0) graph.remove(input);
  return true;
}
