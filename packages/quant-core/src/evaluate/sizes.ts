import type { Graph, Node, Value } from '../ir/graph.js';

/**
 * Bytes of constants that each node needs, by node name: its own constant inputs and those it reads through a DequantizeLinear
 * or QuantizeLinear that feeds it (int8 weights, scales, zero points). A constant that several nodes share is counted
 * for the first. Nodes without constants are left out.
 */
export function layerBytes(graph: Graph): Map<string, number> {
  const counted = new Set<Value>();
  const bytes = new Map<string, number>();
  const take = (value: Value | undefined): number => {
    if (!value || counted.has(value)) return 0;
    if (value.constant) {
      counted.add(value);
      return value.constant.bytes;
    }
    const { producer } = value;
    if (producer && isBoundary(producer) && isConstant(producer.inputs[0])) {
      counted.add(value);
      return producer.inputs.reduce((sum, input) => sum + take(input), 0);
    }
    return 0;
  };
  for (const node of graph.nodes) {
    if (isBoundary(node) && isConstant(node.inputs[0])) continue;
    const own = node.inputs.reduce((sum, value) => sum + take(value), 0);
    if (own > 0) bytes.set(node.name, own);
  }
  return bytes;
}

/** Q/DQ, and the Cast that takes int4 apart. */
const isBoundary = (node: Node) => node.op === 'DequantizeLinear' || node.op === 'QuantizeLinear' || node.op === 'Cast';

/** Whether a value is a constant, perhaps read through Q/DQ. */
function isConstant(value: Value | undefined): boolean {
  if (!value) return false;
  if (value.constant) return true;
  return value.producer !== undefined && isBoundary(value.producer) && isConstant(value.producer.inputs[0]);
}
