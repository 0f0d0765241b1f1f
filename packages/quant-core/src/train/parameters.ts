import type { GraphBuilder } from '../ir/builder.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import { Tensor } from '../tensor/tensor.js';

/** One trained tensor inside the flat parameter vector. */
export interface ParameterSlot {
  /** Name of the constant in the normalised graph. */
  name: string;
  shape: readonly number[];
  offset: number;
  size: number;
}

/** Where every trained tensor lies in one flat float32 vector, in graph order. */
export interface ParameterLayout {
  slots: ParameterSlot[];
  size: number;
}

/** Ports whose constants are trained besides the weights and biases of layers. */
const trainedPorts: Readonly<Record<string, readonly number[]>> = {
  PRelu: [1],
  LayerNormalization: [1, 2],
  InstanceNormalization: [1, 2],
  GroupNormalization: [1, 2],
  RMSNormalization: [1],
  Gather: [0],
};

/** Ports of a node that may hold a trained constant. */
function portsOf(node: Node): readonly (number | undefined)[] {
  const facts = spec(node.op);
  if (facts.weight !== undefined) return [facts.weight, facts.bias];
  // The bias of a MatMul stands in an Add of its own. Other constants that are added are not trained: masks above all, which attention
  // adds to a product of two activations.
  if (node.op === 'Add') {
    const port = [0, 1].find((at) => node.inputs[at]?.constant?.shape.length === 1);
    const product = port === undefined ? undefined : node.inputs[1 - port]?.producer;
    return product?.op === 'MatMul' && product.inputs[1]?.constant ? [port] : [];
  }
  return trainedPorts[node.op] ?? [];
}

/** The constants that are trained: float32 weights and biases of layers and norms, slopes of PRelu, tables of embeddings. */
export function parameterLayout(graph: Graph): ParameterLayout {
  const slots: ParameterSlot[] = [];
  const seen = new Set<Value>();
  let offset = 0;
  for (const node of graph.nodes) {
    for (const port of portsOf(node)) {
      const value = port === undefined ? undefined : node.inputs[port];
      if (!value?.constant || value.dtype !== 'float32' || seen.has(value)) continue;
      seen.add(value);
      slots.push({ name: value.name, shape: value.constant.shape, offset, size: value.constant.size });
      offset += value.constant.size;
    }
  }
  return { slots, size: offset };
}

/** The parameters of `graph` as one vector. */
export function packParameters(graph: Graph, layout: ParameterLayout): Float32Array {
  const values = new Map(graph.constants().map((value) => [value.name, value]));
  const flat = new Float32Array(layout.size);
  for (const slot of layout.slots) flat.set(values.get(slot.name)?.constant?.as('float32').data as Float32Array, slot.offset);
  return flat;
}

/** Write a parameter vector back into the constants of `graph`, in place. */
export function unpackParameters(graph: Graph, layout: ParameterLayout, flat: Float32Array): void {
  const values = new Map(graph.constants().map((value) => [value.name, value]));
  for (const slot of layout.slots) {
    const value = values.get(slot.name) as Value;
    value.constant = Tensor.float32(slot.shape, flat.slice(slot.offset, slot.offset + slot.size));
  }
}

/** The part of `flat` that belongs to `slot` (a view). */
export const viewOf = (flat: Float32Array, slot: ParameterSlot): Float32Array => flat.subarray(slot.offset, slot.offset + slot.size);

/** `sizes` values each from a vector in the graph: a Split, or the vector itself where there is one part. */
export function vectorParts(b: GraphBuilder, vector: Value, sizes: readonly number[]): Value[] {
  if (sizes.length === 1) return [vector];
  const node = b.node('Split', [vector, b.ints(sizes)], { axis: 0 }, sizes.length, vector.name);
  return [...node.outputs];
}
