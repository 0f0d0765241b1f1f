import type { Dim, Node } from '../graph.js';
import { addDims, divideDims, multiplyDims, neverEqual, subtractDims } from './dim.js';
import { commonDType, misfit, show, showDim, type Types, typed, wantFloat, wantRank, wantVector } from './rule.js';

interface Window {
  kernel: readonly Dim[];
  strides: readonly number[];
  dilations: readonly number[];
  /** Begin of each axis, then end of each axis. */
  pads: readonly number[];
}

type WindowNode = Node<'Conv' | 'ConvTranspose' | 'MaxPool' | 'AveragePool'>;

function windowOf(node: WindowNode, kernel: readonly Dim[]): Window {
  const axes = kernel.length;
  const list = (name: 'strides' | 'dilations' | 'pads', length: number, fill: number, least: number): readonly number[] => {
    const given = node.attr(name);
    if (given === undefined || given.length === 0) return new Array<number>(length).fill(fill);
    if (given.length !== length) throw misfit(node, `${name} has ${given.length} entries, wanted ${length}`);
    const bad = given.find((entry) => !Number.isSafeInteger(entry) || entry < least);
    if (bad !== undefined) throw misfit(node, `${name} holds ${bad}`);
    return given;
  };
  const window = {
    kernel,
    strides: list('strides', axes, 1, 1),
    dilations: list('dilations', axes, 1, 1),
    pads: list('pads', 2 * axes, 0, Number.MIN_SAFE_INTEGER),
  };
  const autoPad = node.attr('auto_pad');
  if (autoPad !== 'NOTSET' && window.pads.some((pad) => pad !== 0)) throw misfit(node, `auto_pad ${autoPad} and pads are both given`);
  if (!['NOTSET', 'VALID', 'SAME_UPPER', 'SAME_LOWER'].includes(autoPad))
    throw misfit(node, `auto_pad "${autoPad}" is unknown`, undefined, 'MODEL_INVALID');
  return window;
}

/** Size of a dilated kernel: `(k - 1) · dilation + 1`. */
const reach = (kernel: Dim, dilation: number): Dim => addDims(multiplyDims(addDims(kernel, -1), dilation), 1);

/**
 * Output sizes of a sliding window: `floor((in + pads - reach) / stride) + 1`; with `ceil_mode` rounded up, less
 * windows that would start in the padding at the end; SAME: `ceil(in / stride)`.
 */
function slide(node: WindowNode, spatial: readonly Dim[], window: Window, ceil: boolean): Dim[] {
  const autoPad = node.attr('auto_pad');
  return spatial.map((size, i) => {
    const stride = window.strides[i] as number;
    if (autoPad.startsWith('SAME')) return divideDims(addDims(size, stride - 1), stride);
    const begin = window.pads[i] as number;
    const end = window.pads[i + spatial.length] as number;
    const room = subtractDims(addDims(size, begin + end), reach(window.kernel[i] as Dim, window.dilations[i] as number));
    if (typeof room === 'number' && room < 0 && !ceil) {
      throw misfit(
        node,
        `the window of ${reach(window.kernel[i] as Dim, window.dilations[i] as number)} is larger than the padded input of ${showDim(addDims(size, begin + end))} on spatial axis ${i}`,
        node.input(0),
      );
    }
    let count = addDims(divideDims(ceil ? addDims(room, stride - 1) : room, stride), 1);
    if (ceil && typeof count === 'number' && typeof size === 'number' && (count - 1) * stride >= size + begin) count -= 1;
    return count;
  });
}

function checkKernelShape(node: Node<'Conv' | 'ConvTranspose'>, kernel: readonly Dim[]): void {
  const stated = node.attr('kernel_shape');
  if (stated && (stated.length !== kernel.length || stated.some((k, i) => neverEqual(k, kernel[i] as Dim)))) {
    throw misfit(node, `kernel_shape ${show(stated)} does not fit the weights ${show(node.input(1).shape)}`, node.input(1));
  }
}

function groupOf(node: Node<'Conv' | 'ConvTranspose'>): number {
  const group = node.attr('group');
  if (!Number.isSafeInteger(group) || group < 1) throw misfit(node, `group is ${group}`);
  return group;
}

/** X [N, C, …], W [M, C/group, k…], B [M] → [N, M, …]. */
export function conv(node: Node<'Conv'>): Types {
  wantFloat(node);
  const dtype = commonDType(node, [0, 1, 2]);
  const x = node.input(0).shape;
  const w = node.input(1).shape;
  if (w && w.length < 3) throw misfit(node, `the weights have shape ${show(w)}, wanted at least rank 3`, node.input(1));
  if (!w) return [typed(dtype, undefined)];
  wantRank(node, 0, w.length);
  const [filters, perGroup, ...kernel] = w as [Dim, Dim, ...Dim[]];
  const group = groupOf(node);
  checkKernelShape(node, kernel);
  wantVector(node, 2, filters);
  if (typeof filters === 'number' && filters % group !== 0)
    throw misfit(node, `${filters} filters do not divide into ${group} groups`, node.input(1));
  const window = windowOf(node, kernel);
  if (!x) return [typed(dtype, undefined)];
  const [batch, channels, ...spatial] = x as [Dim, Dim, ...Dim[]];
  if (neverEqual(channels, multiplyDims(perGroup, group))) {
    throw misfit(
      node,
      `the input has ${channels} channels, the weights ${show(w)} with group ${group} want ${multiplyDims(perGroup, group)}`,
      node.input(0),
    );
  }
  return [typed(dtype, [batch, filters, ...slide(node, spatial, window, false)])];
}

/** X [N, C, …], W [C, M/group, k…], B [M] → [N, M, …]. */
export function convTranspose(node: Node<'ConvTranspose'>): Types {
  wantFloat(node);
  const dtype = commonDType(node, [0, 1, 2]);
  const x = node.input(0).shape;
  const w = node.input(1).shape;
  if (w && w.length < 3) throw misfit(node, `the weights have shape ${show(w)}, wanted at least rank 3`, node.input(1));
  if (!w || !x) return [typed(dtype, undefined)];
  wantRank(node, 0, w.length);
  const [batch, channels, ...spatial] = x as [Dim, Dim, ...Dim[]];
  const [inChannels, perGroup, ...kernel] = w as [Dim, Dim, ...Dim[]];
  if (neverEqual(channels, inChannels))
    throw misfit(node, `the input has ${channels} channels, the weights ${show(w)} want ${inChannels}`, node.input(0));
  const group = groupOf(node);
  if (typeof inChannels === 'number' && inChannels % group !== 0)
    throw misfit(node, `${inChannels} channels do not divide into ${group} groups`, node.input(1));
  checkKernelShape(node, kernel);
  const filters = multiplyDims(perGroup, group);
  wantVector(node, 2, filters);
  const window = windowOf(node, kernel);
  const extra = node.attr('output_padding') ?? [];
  const stated = node.attr('output_shape');
  if (extra.length > 0 && extra.length !== kernel.length)
    throw misfit(node, `output_padding has ${extra.length} entries, wanted ${kernel.length}`);
  if (stated && stated.length !== kernel.length) throw misfit(node, `output_shape has ${stated.length} entries, wanted ${kernel.length}`);
  const sizes = spatial.map((size, i) => {
    if (stated) return stated[i] as number;
    const stride = window.strides[i] as number;
    if (node.attr('auto_pad')?.startsWith('SAME')) return multiplyDims(size, stride);
    const pads = (window.pads[i] as number) + (window.pads[i + spatial.length] as number);
    const full = addDims(multiplyDims(addDims(size, -1), stride), reach(kernel[i] as Dim, window.dilations[i] as number));
    return addDims(full, (extra[i] ?? 0) - pads);
  });
  return [typed(dtype, [batch, filters, ...sizes])];
}

/** X [N, C, …] → [N, C, …], and for MaxPool the indices. */
export function pool(node: Node<'MaxPool' | 'AveragePool'>): Types {
  const { dtype, shape } = node.input(0);
  const kernel = node.attr('kernel_shape');
  if (kernel.length === 0) throw misfit(node, 'kernel_shape is missing', undefined, 'MODEL_INVALID');
  if (kernel.some((k) => !Number.isSafeInteger(k) || k < 1)) throw misfit(node, `kernel_shape is ${show(kernel)}`);
  wantRank(node, 0, kernel.length + 2);
  const window = windowOf(node, kernel);
  const out = shape && [...shape.slice(0, 2), ...slide(node, shape.slice(2), window, node.attr('ceil_mode') === 1)];
  return [typed(dtype, out), typed('int64', out)];
}

/** X [N, C, …] → [N, C, 1…]. */
export function globalPool(node: Node<'GlobalAveragePool' | 'GlobalMaxPool'>): Types {
  wantFloat(node);
  const { dtype, shape } = node.input(0);
  if (shape && shape.length < 2) throw misfit(node, `the input has shape ${show(shape)}, wanted at least rank 2`, node.input(0));
  return [
    typed(
      dtype,
      shape?.map((dim, axis) => (axis < 2 ? dim : 1)),
    ),
  ];
}
