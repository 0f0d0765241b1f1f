import type { Dim, Node, Value } from '../graph.js';
import { divideDimsExactly, multiplyDims, neverEqual } from './dim.js';
import { commonDType, misfit, show, type Types, typed, wantFloat } from './rule.js';

/** [batch, heads, length, size] of query, key or value; those of rank 3 have heads and size in one axis. */
export function byHead(node: Node<'Attention'>, value: Value): readonly [Dim, Dim, Dim, Dim] | undefined {
  const { shape } = value;
  if (!shape) return undefined;
  if (shape.length === 4) return shape as [Dim, Dim, Dim, Dim];
  if (shape.length !== 3) throw misfit(node, `the input has shape ${show(shape)}, wanted rank 3 or 4`, value);
  const heads = node.attr(value === node.inputs[0] ? 'q_num_heads' : 'kv_num_heads');
  if (heads === undefined || heads < 1)
    throw misfit(node, 'q_num_heads and kv_num_heads are missing for inputs of rank 3', value, 'MODEL_INVALID');
  const [batch, length, width] = shape as [Dim, Dim, Dim];
  const size = divideDimsExactly(width, heads);
  if (size === undefined && typeof width === 'number') throw misfit(node, `a width of ${width} does not divide into ${heads} heads`, value);
  return size === undefined ? undefined : [batch, heads, length, size];
}

/** softmax(Q·Kᵀ·scale + mask)·V in the layout of Q. Key and value of earlier steps make the lengths of the other outputs unknown. */
export function attention(node: Node<'Attention'>): Types {
  wantFloat(node, [0, 1, 2]);
  const dtype = commonDType(node, [0, 1, 2]);
  const [query, key, value] = [0, 1, 2].map((port) => byHead(node, node.input(port)));
  if (!query || !key || !value) return node.outputs.map(() => typed(dtype, undefined));
  const [batch, heads, length, size] = query;
  if (neverEqual(size, key[3])) throw misfit(node, `query and key are of sizes ${size} and ${key[3]}`, node.input(1));
  const past = node.inputs[4] !== undefined || node.inputs[5] !== undefined;
  if (!past && neverEqual(key[2], value[2])) throw misfit(node, `key and value are of lengths ${key[2]} and ${value[2]}`, node.input(2));
  const out = node.input(0).shape?.length === 4 ? [batch, heads, length, value[3]] : [batch, length, multiplyDims(heads, value[3])];
  const kept = (shape: readonly Dim[]) => typed(dtype, past ? undefined : shape);
  return [typed(dtype, out), kept(key), kept(value), kept([batch, heads, length, key[2]])];
}
