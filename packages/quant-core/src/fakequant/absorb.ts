import type { Node, Value } from '../ir/graph.js';
import { type AffineParams, type QuantGrid, quantizeValue } from '../tensor/affine.js';

/** A constant bound of Clip, as a number. */
function bound(node: Node, port: number): number | undefined {
  const tensor = node.op === 'Clip' ? node.inputs[port]?.constant : undefined;
  return tensor ? Number(tensor.data[0]) : undefined;
}

/** Whether a Relu or Clip changes nothing before a quantizer, because the grid ends where the activation does. */
function repeats(node: Node, grid: QuantGrid, params: AffineParams): boolean {
  const reaches = (value: number, end: number) => quantizeValue(value, params, grid.qmin, grid.qmax) === end;
  const low = node.op === 'Relu' ? 0 : bound(node, 1);
  const high = node.op === 'Relu' ? undefined : bound(node, 2);
  return (
    (node.op === 'Relu' || node.op === 'Clip') &&
    (low === undefined || reaches(low, grid.qmin)) &&
    (high === undefined || reaches(high, grid.qmax))
  );
}

/**
 * The value that may be quantized in the place of `value`: what stands before Relu and Clip nodes that the quantizer's saturation
 * repeats exactly.
 */
export function beforeAbsorbed(value: Value, grid: QuantGrid, params: AffineParams): Value {
  const node = value.producer;
  if (!node || !repeats(node, grid, params)) return value;
  const before = node.input(0);
  return before.readers.length === 1 ? beforeAbsorbed(before, grid, params) : before;
}
