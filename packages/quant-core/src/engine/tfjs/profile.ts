import { writeFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import type * as Tf from '@tensorflow/tfjs-core';
import type { Node } from '../../ir/graph.js';
import { heldAs, type Operand } from './operand.js';

/** TF.js types as ONNX Runtime names them in a profile. */
const names: Record<string, string> = { float32: 'float', int32: 'int64', bool: 'bool' };

const typeOf = ({ dtype, shape }: Pick<Tf.Tensor, 'dtype' | 'shape'>) => ({ [names[dtype] ?? dtype]: shape });

/**
 * Times of nodes as Chrome trace events, in the form of ONNX Runtime's own profiles. Types are those that the kernels
 * computed in: quantized tensors are float here, and a profile says so.
 */
export class Profile {
  private readonly events: object[] = [];
  private started = 0;

  constructor(private readonly prefix: string) {}

  /** Microseconds. */
  now(): number {
    return performance.now() * 1000;
  }

  begin(): void {
    this.started = this.now();
  }

  end(): void {
    this.events.push({ cat: 'Session', name: 'model_run', ts: this.started, dur: this.now() - this.started });
  }

  node(node: Node, started: number, inputs: readonly (Operand | undefined)[], outputs: readonly Tf.Tensor[]): void {
    this.events.push({
      cat: 'Node',
      name: `${node.name}_kernel_time`,
      ts: started,
      dur: this.now() - started,
      args: {
        op_name: node.opName,
        node_index: node.name,
        input_type_shape: inputs.flatMap((operand) => (operand ? [typeOf({ dtype: heldAs(operand.dtype), shape: operand.shape })] : [])),
        output_type_shape: outputs.map(typeOf),
      },
    });
  }

  /** Writes `<prefix>_tfjs.json`. */
  async write(): Promise<void> {
    await writeFile(`${this.prefix}_tfjs.json`, JSON.stringify(this.events));
  }
}
