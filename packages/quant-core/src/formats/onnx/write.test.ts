import { describe, expect, it } from 'vitest';
import { Graph, type Node } from '../../ir/graph.js';
import { Tensor } from '../../tensor/tensor.js';
import { runModel } from '../../testing/onnx.js';
import { decode, encode } from './schema.js';
import { writeOnnx } from './write.js';

function dense(): Graph {
  const graph = new Graph('dense');
  const x = graph.input('x', { dtype: 'float32', shape: ['N', 2] });
  const w = graph.constant('w', Tensor.float32([3, 2], [1, 2, 3, 4, 5, 6]));
  const b = graph.constant('b', Tensor.float32([3], [0.5, -100, 0]));
  const gemm = graph.node('Gemm', [x, w, b], { transB: 1, alpha: 2 }, { name: 'fc', outputNames: ['h'] });
  const y = graph.node('Relu', [gemm.output()], {}, { name: 'act', outputNames: ['y'] }).output();
  y.type = { dtype: 'float32', shape: ['N', 3] };
  graph.outputs.push(y);
  return graph;
}

describe('writeOnnx', () => {
  it('writes a model that ONNX Runtime runs', async () => {
    const { y } = await runModel(writeOnnx(dense()), {
      x: [
        [1, 1, 2, 0],
        [2, 2],
      ],
    });
    expect(y?.data).toEqual([6.5, 0, 22, 4.5, 0, 20]);
  });

  it('gives the same bytes for the same graph', () => {
    expect(Buffer.compare(writeOnnx(dense()), writeOnnx(dense()))).toBe(0);
  });

  it('gives every node a name of its own', async () => {
    const graph = dense();
    const [, act] = graph.nodes;
    const twin = graph.node('Neg', [(act as Node).output()], {}, { name: 'act', outputNames: ['z'] });
    graph.node('Abs', [twin.output()], {}, { name: 'act_1', outputNames: ['z_abs'] });
    graph.outputs.push(twin.output());
    const bytes = writeOnnx(graph);
    expect(decode('Model', bytes).graph?.node?.map(({ name }) => name)).toEqual(['fc', 'act', 'act_2', 'act_1']);
    expect(
      (
        await runModel(bytes, {
          x: [
            [1, 1],
            [1, 2],
          ],
        })
      ).z?.data,
    ).toEqual([-6.5, -0, -22]);
  });

  it('writes constants, inputs and repeated values as graph outputs', async () => {
    const graph = new Graph('passing');
    const x = graph.input('x', { dtype: 'float32', shape: ['N'] });
    graph.outputs.push(x, graph.constant('c', Tensor.float32([2], [7, 8])));
    const node = graph.node('Constant', [], { value: Tensor.ints([5]) }, { outputNames: ['k'] });
    graph.outputs.push(node.output());
    const result = await runModel(writeOnnx(graph), { x: [[1, 2, 3], [3]] });
    expect(result.x?.data).toEqual([1, 2, 3]);
    expect(result.c?.data).toEqual([7, 8]);
    expect(result.k?.data).toEqual([5]);
  });

  it('imports com.microsoft where an op lives there', async () => {
    const graph = new Graph('fused');
    const a = graph.input('a', { dtype: 'float32', shape: [1, 2] });
    const y = graph.node('FusedMatMul', [a, a], { transB: 1 }, { outputNames: ['y'] }).output();
    graph.outputs.push(y);
    const result = await runModel(writeOnnx(graph), {
      a: [
        [3, 4],
        [1, 2],
      ],
    });
    expect(result.y?.data).toEqual([25]);
  });

  it('writes every kind of attribute and an optional input left out', async () => {
    const graph = new Graph('kinds');
    const x = graph.input('x', { dtype: 'float32', shape: [1, 1, 2, 2] });
    const pooled = graph.node('MaxPool', [x], { kernel_shape: [2, 2], auto_pad: 'SAME_UPPER', strides: [1, 1] }).output();
    const clipped = graph.node('Clip', [pooled, undefined, graph.constant('max', Tensor.scalar(3))]).output();
    const leaky = graph.node('LeakyRelu', [clipped], { alpha: 0.1 }).output();
    const cast = graph.node('Cast', [leaky], { to: 'int32' }, { outputNames: ['y'] }).output();
    const shape = graph.constant('shape', Tensor.ints([2]));
    const filled = graph.node('ConstantOfShape', [shape], { value: Tensor.float32([1], [9]) }, { outputNames: ['f'] }).output();
    graph.outputs.push(cast, filled);
    const result = await runModel(writeOnnx(graph), {
      x: [
        [1, 2, 3, 4],
        [1, 1, 2, 2],
      ],
    });
    expect(result.y?.data).toEqual([3, 3, 3, 3]);
    expect(result.f?.data).toEqual([9, 9]);
  });
});

describe('the wire format', () => {
  it('is that of proto2: zeros are written and told from absent fields, lists are not packed', () => {
    const zero = encode('Node', {
      attribute: [
        { name: 'a', type: 2, i: 0 },
        { name: 'b', type: 7, ints: [1, 2] },
      ],
    });
    expect(Buffer.from(zero).toString('hex')).toBe('2a080a01611800a001022a0a0a016240014002a00107');
    const [a, b] = decode('Node', zero).attribute ?? [];
    expect(a?.i === undefined ? undefined : Number(a.i)).toBe(0);
    expect(a?.f).toBeUndefined();
    expect(b?.ints?.map(Number)).toEqual([1, 2]);
  });
});
