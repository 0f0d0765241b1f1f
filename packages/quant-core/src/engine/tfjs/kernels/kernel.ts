import type * as Tf from '@tensorflow/tfjs-core';
import { OctetError } from '../../../errors.js';
import type { Node } from '../../../ir/graph.js';
import type { OpType } from '../../../ir/ops.js';
import type { DType } from '../../../tensor/dtype.js';
import type { LoadedBackend, TfModule } from '../backend.js';
import type { Operand } from '../operand.js';

/** What a kernel is given: the operands of a node by port, its attributes, and TF.js. */
export interface Call<K extends OpType> {
  tf: TfModule;
  backend: LoadedBackend['name'];
  /** Half to even, as `roundHalfEven`. */
  round: LoadedBackend['round'];
  node: Node<K>;
  /** Operands by port; absent where an optional input is left out. */
  inputs: readonly (Operand | undefined)[];
}

/** One output: a tensor, and its ONNX type where that is not the type of the first input. */
export interface Result {
  tensor: Tf.Tensor;
  dtype?: DType;
}

/**
 * Executes one node. Runs inside `tf.tidy`: whatever it makes on the way is freed, what it returns is kept. It may return an
 * input as it is.
 */
export type Kernel<K extends OpType> = (call: Call<K>) => Tf.Tensor | readonly Result[];

/** What an error names of a node. */
type Named = Pick<Node, 'name' | 'opName'>;
/** Any call, whatever its operator. */
type AnyCall = { node: Named; inputs: Call<OpType>['inputs'] };

/** Input at `port`; the verifier has seen that required ones are there. */
export function operand(call: AnyCall, port: number): Operand {
  const value = call.inputs[port];
  if (!value) throw new OctetError('INTERNAL', `${call.node.opName} ${call.node.name} has no input ${port}`, { node: call.node.name });
  return value;
}

/** The tensor at `port`. */
export const tensorAt = (call: AnyCall, port: number): Tf.Tensor => operand(call, port).tensor;

/** An error for a form of an operator that no kernel here has. */
export function lacking(node: Named, what: string): OctetError {
  return new OctetError('ENGINE_UNSUPPORTED_OP', `The TF.js engine cannot run ${node.opName} ${node.name}: ${what}`, {
    node: node.name,
    op: node.opName,
  });
}

/** A negative axis counted from the end. */
export const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
