import { Graph, type Value } from '../../ir/graph.js';
import { Random } from '../../tensor/random.js';
import { Tensor } from '../../tensor/tensor.js';

/** A graph `x [N, width] → Gemm → y`, with weights [outputs, width] as given; `batch` fixes the batch size. */
export function linearGraph(weights: readonly (readonly number[])[], batch: string | number = 'N'): Graph {
  const graph = new Graph('linear');
  const width = weights[0]!.length;
  const x = graph.input('x', { dtype: 'float32', shape: [batch, width] });
  const w = graph.constant('w', Tensor.float32([weights.length, width], weights.flat()));
  const y = graph.node('Gemm', [x, w], { transB: 1 }, { name: 'fc', outputNames: ['y'] }).output();
  y.type = { dtype: 'float32', shape: [batch, weights.length] };
  graph.outputs.push(y);
  return graph;
}

/** Conv → Relu → MaxPool → Flatten → Gemm → Softmax on [N, 1, 4, 4], with Q/DQ on every edge but the last. */
export function qdqGraph(): Graph {
  const graph = new Graph('qdq');
  const random = new Random(1);
  const scale = (name: string, value: number) => graph.constant(`${name}_scale`, Tensor.scalar(value));
  const qdq = (value: Value, name: string, step: number, zero: number) => {
    const grid = [scale(name, step), graph.constant(`${name}_zero`, new Tensor('uint8', [], Uint8Array.of(zero)))];
    const q = graph.node('QuantizeLinear', [value, ...grid], {}, { name: `${name}_q` }).output();
    return graph.node('DequantizeLinear', [q, ...grid], {}, { name: `${name}_dq` }).output();
  };
  const weight = (name: string, shape: number[]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const q = graph.constant(
      name,
      new Tensor(
        'int8',
        shape,
        Int8Array.from({ length: size }, () => random.below(255) - 127),
      ),
    );
    const scales = graph.constant(`${name}_scale`, Tensor.float32([shape[0]!], new Array<number>(shape[0]!).fill(0.01)));
    const zeros = graph.constant(`${name}_zero`, new Tensor('int8', [shape[0]!], new Int8Array(shape[0]!)));
    return graph.node('DequantizeLinear', [q, scales, zeros], { axis: 0 }, { name: `${name}_dq` }).output();
  };
  const x = graph.input('x', { dtype: 'float32', shape: ['N', 1, 4, 4] });
  const conv = graph.node(
    'Conv',
    [qdq(x, 'in', 1 / 255, 0), weight('w1', [8, 1, 3, 3])],
    { pads: [1, 1, 1, 1], kernel_shape: [3, 3] },
    { name: 'conv' },
  );
  const relu = graph.node('Relu', [conv.output()], {}, { name: 'relu' });
  const pool = graph.node('MaxPool', [qdq(relu.output(), 'relu', 0.02, 0)], { kernel_shape: [2, 2], strides: [2, 2] }, { name: 'pool' });
  const flat = graph.node('Flatten', [qdq(pool.output(), 'pool', 0.02, 0)], {}, { name: 'flat' });
  const fc = graph.node('Gemm', [qdq(flat.output(), 'flat', 0.02, 0), weight('w2', [5, 32])], { transB: 1 }, { name: 'fc' });
  const soft = graph.node('Softmax', [qdq(fc.output(), 'fc', 0.1, 128)], {}, { name: 'soft', outputNames: ['y'] });
  soft.output().type = { dtype: 'float32', shape: ['N', 5] };
  graph.outputs.push(soft.output());
  return graph;
}
