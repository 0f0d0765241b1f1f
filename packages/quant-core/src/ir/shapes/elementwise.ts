import type { Node } from '../graph.js';
import type { OpType } from '../ops.js';
import { axisOf, broadcast, commonDType, misfit, type Types, typed, wantBroadcastTo, wantDType, wantFloat, wantVector } from './rule.js';

/** Output like the first input. */
export const same = (node: Node<OpType>): Types => [node.input(0).type];

/** Output like the first input, which must be of a floating type. */
export function sameFloat(node: Node<OpType>): Types {
  wantFloat(node);
  return same(node);
}

/** As `sameFloat`, with an axis to check. */
export function alongAxis(node: Node<'Softmax' | 'LogSoftmax'>): Types {
  const { shape } = node.input(0);
  if (shape) axisOf(node, node.attr('axis'), shape.length);
  return sameFloat(node);
}

const shapes = (node: Node<OpType>) => node.inputs.map((value) => value?.shape);
const ports = (node: Node<OpType>) => node.inputs.map((_, port) => port);

/** All inputs of one type, broadcast. */
export const arithmetic = (node: Node<OpType>): Types => [typed(commonDType(node, ports(node)), broadcast(node, shapes(node)))];

/** The exponent may be of another type than the base. */
export const power = (node: Node<'Pow'>): Types => [typed(node.input(0).dtype, broadcast(node, shapes(node)))];

export function comparison(node: Node<OpType>): Types {
  commonDType(node, ports(node));
  return [typed('bool', broadcast(node, shapes(node)))];
}

export function logic(node: Node<OpType>): Types {
  for (const port of ports(node)) wantDType(node, port, ['bool']);
  return [typed('bool', broadcast(node, shapes(node)))];
}

export function where(node: Node<'Where'>): Types {
  wantDType(node, 0, ['bool']);
  return [typed(commonDType(node, [1, 2]), broadcast(node, shapes(node)))];
}

export function prelu(node: Node<'PRelu'>): Types {
  commonDType(node, [0, 1]);
  wantBroadcastTo(node, 1, node.input(0).shape);
  return same(node);
}

export function clip(node: Node<'Clip'>): Types {
  commonDType(node, ports(node));
  for (const port of [1, 2]) {
    const bound = node.inputs[port];
    if (bound?.shape?.some((dim) => dim !== 1)) throw misfit(node, `bound ${port} must be a scalar`, bound);
  }
  return same(node);
}

export const cast = (node: Node<'Cast'>): Types => [typed(node.attr('to'), node.input(0).shape)];

/** Scale and zero point: scalars, or one element for each index of `axis`. */
function checkQuantParams(node: Node<'QuantizeLinear' | 'DequantizeLinear'>): void {
  wantFloat(node, [1]);
  const { shape } = node.input(0);
  for (const port of [1, 2]) {
    const value = node.inputs[port];
    if (!value?.shape || value.shape.length === 0 || !shape) continue;
    if (value.shape.length > 1) throw misfit(node, `input ${port} must be a scalar or a vector`, value);
    const length = value.shape[0];
    if (length === 1 || typeof length !== 'number') continue;
    const channels = shape[axisOf(node, node.attr('axis'), shape.length)];
    if (typeof channels === 'number' && channels !== length)
      throw misfit(node, `input ${port} has ${length} elements for ${channels} channels`, value);
  }
}

export function quantize(node: Node<'QuantizeLinear'>): Types {
  checkQuantParams(node);
  const zeroPoint = node.inputs[2];
  return [typed(zeroPoint ? zeroPoint.dtype : 'uint8', node.input(0).shape)];
}

export function dequantize(node: Node<'DequantizeLinear'>): Types {
  checkQuantParams(node);
  commonDType(node, [0, 2]);
  return [typed(node.input(1).dtype, node.input(0).shape)];
}

export function batchNorm(node: Node<'BatchNormalization'>): Types {
  wantFloat(node, [0, 1, 2, 3, 4]);
  const { shape, dtype } = node.input(0);
  if (shape && shape.length < 2) throw misfit(node, 'the input must have at least two dimensions', node.input(0));
  const channels = shape?.[1];
  for (const port of [1, 2, 3, 4]) wantVector(node, port, channels);
  const statistics = typed(node.input(3).dtype ?? dtype, channels === undefined ? undefined : [channels]);
  return node.outputs.map((_, port) => (port === 0 ? node.input(0).type : statistics));
}

export function dropout(node: Node<'Dropout'>): Types {
  wantFloat(node);
  return [node.input(0).type, typed('bool', node.input(0).shape)];
}
