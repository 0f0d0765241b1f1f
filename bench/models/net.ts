import { Graph, type Value } from '../../packages/quant-core/src/ir/graph.js';
import { inferShapes } from '../../packages/quant-core/src/ir/infer.js';
import type { Attrs, OpType } from '../../packages/quant-core/src/ir/ops.js';
import { Random } from '../../packages/quant-core/src/tensor/random.js';
import { sizeOf, Tensor } from '../../packages/quant-core/src/tensor/tensor.js';

/** Name of the batch dimension. */
export const batchSymbol = 'N';

export interface ConvShape {
  inputs: number;
  outputs: number;
  kernel: number;
  stride?: number;
  /** Zeros around the image; half the kernel when left out. */
  pad?: number;
  group?: number;
}

/** Writes a network with seeded weights, layer by layer: uniform in ±1/√fanIn, PyTorch's default. */
export class Net {
  readonly graph: Graph;
  private readonly random: Random;

  constructor(name: string, seed: number) {
    this.graph = new Graph(name);
    this.random = Random.for(seed, `${name} weights`);
  }

  /** The input `x` [N, ...sample]. */
  input(sample: readonly number[]): Value {
    return this.graph.input('x', { dtype: 'float32', shape: [batchSymbol, ...sample] });
  }

  op<K extends OpType>(op: K, name: string, inputs: readonly Value[], attrs: Attrs<K> = {} as Attrs<K>): Value {
    return this.graph.node(op, inputs, attrs, { name }).output();
  }

  weights(name: string, shape: readonly number[], fanIn: number): Value {
    const bound = 1 / Math.sqrt(fanIn);
    const data = Float32Array.from({ length: sizeOf(shape) }, () => (2 * this.random.uniform() - 1) * bound);
    return this.graph.constant(name, Tensor.float32(shape, data));
  }

  filled(name: string, shape: readonly number[], value: number): Value {
    return this.graph.constant(name, Tensor.float32(shape, new Float32Array(sizeOf(shape)).fill(value)));
  }

  ints(name: string, values: readonly number[]): Value {
    return this.graph.constant(name, Tensor.ints(values));
  }

  /** Convolution with bias, as after batch norm folding. */
  conv(name: string, x: Value, { inputs, outputs, kernel, stride = 1, pad = (kernel - 1) / 2, group = 1 }: ConvShape): Value {
    const each = inputs / group;
    const operands = [
      x,
      this.weights(`${name}.weight`, [outputs, each, kernel, kernel], each * kernel * kernel),
      this.filled(`${name}.bias`, [outputs], 0),
    ];
    const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad], dilations: [1, 1], group };
    return this.op('Conv', name, operands, attributes);
  }

  relu(name: string, x: Value): Value {
    return this.op('Relu', name, [x]);
  }

  /** Fully connected layer on a matrix [N, inputs]. */
  gemm(name: string, x: Value, inputs: number, outputs: number): Value {
    const operands = [x, this.weights(`${name}.weight`, [outputs, inputs], inputs), this.filled(`${name}.bias`, [outputs], 0)];
    return this.op('Gemm', name, operands, { transB: 1 });
  }

  /** Average over the image: [N, C, H, W] → [N, C]. */
  pooled(x: Value): Value {
    return this.op('Flatten', 'flatten', [this.op('GlobalAveragePool', 'pool', [x])], { axis: 1 });
  }

  /** The finished network; `x` becomes its output `logits`. */
  finish(x: Value): Graph {
    x.name = 'logits';
    this.graph.outputs.push(x);
    inferShapes(this.graph);
    return this.graph;
  }
}
