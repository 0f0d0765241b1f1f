import * as ort from 'onnxruntime-node';
import {
  type AttributeProto,
  attributeTypes,
  encode,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../formats/onnx/schema.js';
import { tensorProto } from '../formats/onnx/tensors.js';
import type { Tensor } from '../tensor/tensor.js';

/** Small ONNX files written field by field, so that tests can say what no graph of ours would. */

export const int = (name: string, i: number): AttributeProto => ({ name, type: attributeTypes.int, i });
export const ints = (name: string, values: number[]): AttributeProto => ({ name, type: attributeTypes.ints, ints: values });
export const float = (name: string, f: number): AttributeProto => ({ name, type: attributeTypes.float, f });
export const floats = (name: string, values: number[]): AttributeProto => ({ name, type: attributeTypes.floats, floats: values });
export const text = (name: string, s: string): AttributeProto => ({ name, type: attributeTypes.string, s: Buffer.from(s) });
export const graphAttribute = (name: string, g: GraphProto): AttributeProto => ({ name, type: attributeTypes.graph, g });

export function node(
  opType: string,
  input: string[],
  output: string[],
  attribute: AttributeProto[] = [],
  more: Partial<NodeProto> = {},
): NodeProto {
  return { opType, input, output, attribute, name: `${opType.toLowerCase()}_${output[0]}`, ...more };
}

/** A tensor-typed input or output; strings are symbolic dimensions. `undefined` leaves the shape open. */
export function info(name: string, shape: (number | string)[] | undefined, elemType = 1): ValueInfoProto {
  const dim = shape?.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType, ...(dim ? { shape: { dim } } : {}) } } };
}

interface Parts {
  nodes: NodeProto[];
  inputs?: ValueInfoProto[];
  outputs?: ValueInfoProto[];
  initializers?: Record<string, Tensor> | TensorProto[];
  opset?: number;
  model?: ModelProto;
  graph?: GraphProto;
}

/** The bytes of a model; by default with one input `x` [2, 3] and the output `y`. */
export function modelBytes({
  nodes,
  inputs = [info('x', [2, 3])],
  outputs = [info('y', undefined)],
  initializers = [],
  opset = 18,
  model = {},
  graph = {},
}: Parts): Uint8Array {
  const initializer = Array.isArray(initializers)
    ? initializers
    : Object.entries(initializers).map(([name, tensor]) => tensorProto(name, tensor));
  return encode('Model', {
    irVersion: 8,
    opsetImport: [{ domain: '', version: opset }],
    graph: { name: 'test', node: nodes, input: inputs, output: outputs, initializer, ...graph },
    ...model,
  });
}

/** Run a model in ONNX Runtime; a feed is a float32 array with its shape, or a finished tensor. */
export async function runModel(
  bytes: Uint8Array,
  feeds: Record<string, [number[], number[]] | ort.Tensor>,
): Promise<Record<string, { data: number[]; dims: number[]; type: string }>> {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 4 });
  const tensors = Object.entries(feeds).map(
    ([name, feed]) => [name, Array.isArray(feed) ? new ort.Tensor('float32', Float32Array.from(feed[0]), feed[1]) : feed] as const,
  );
  const results = await session.run(Object.fromEntries(tensors));
  await session.release();
  return Object.fromEntries(
    Object.entries(results).map(([name, tensor]) => [
      name,
      { data: Array.from(tensor.data as Float32Array, Number), dims: [...tensor.dims], type: tensor.type },
    ]),
  );
}

/** `count` numbers that are all different, around zero. */
export const ramp = (count: number): number[] => Array.from({ length: count }, (_, i) => Math.fround(((i * 7) % count) / 4 - count / 8));
