import type { Graph, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import { dtypes } from '../tensor/dtype.js';

/** Bytes of a value; 0 where an open dimension leaves that unknown. */
function bytesOf(value: Value): number {
  const dims = value.shape;
  if (!dims || !value.dtype || dims.some((dim) => typeof dim !== 'number')) return 0;
  return (dims as number[]).reduce((x, y) => x * y, 1) * dtypes[value.dtype].bytes;
}

/**
 * Bytes of values that are alive at once while the nodes of `graph` run in their order: inputs and constants all the time, a result from its
 * node to its last reader, outputs to the end. Every shape must be known; what a kernel takes inside itself is not counted.
 */
export function peakBytes(graph: Graph): number {
  const root = new Map<Value, Value>();
  const rootOf = (value: Value): Value => root.get(value) ?? value;
  const lastUse = new Map<Value, number>();
  graph.nodes.forEach((node, at) => {
    // Another shape of the same memory.
    const source = spec(node.op).keepsElements === 'reshaped' ? node.inputs[0] : undefined;
    if (source) for (const output of node.outputs) root.set(output, rootOf(source));
    for (const value of [...node.inputs, ...node.outputs]) if (value) lastUse.set(rootOf(value), at);
  });
  for (const output of graph.outputs) lastUse.set(rootOf(output), graph.nodes.length);
  const standing = [...graph.inputs, ...graph.constants()];
  let alive = standing.reduce((sum, value) => sum + bytesOf(value), 0);
  const permanent = new Set(standing);
  let peak = alive;
  const freed = new Map<number, Value[]>();
  for (const [value, at] of lastUse) if (!permanent.has(value)) freed.set(at, [...(freed.get(at) ?? []), value]);
  graph.nodes.forEach((node, at) => {
    for (const output of node.outputs) if (rootOf(output) === output) alive += bytesOf(output);
    peak = Math.max(peak, alive);
    for (const value of freed.get(at) ?? []) alive -= bytesOf(value);
  });
  return peak;
}
