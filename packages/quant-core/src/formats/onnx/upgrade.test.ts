import { describe, expect, it } from 'vitest';
import { Tensor } from '../../tensor/tensor.js';
import { float, floats, graphAttribute, info, int, ints, modelBytes, node, ramp, runModel, text } from '../../testing/onnx.js';
import { readOnnx } from './read.js';
import type { AttributeProto } from './schema.js';
import { writeOnnx } from './write.js';

interface Case {
  what: string;
  opset: number;
  shape: number[];
  nodes: ReturnType<typeof node>[];
  initializers?: Record<string, Tensor>;
  /** Operators of the upgraded graph, in order. */
  ops: string[];
  outputs?: string[];
  /** Leave rank and shape of the input out of the file. */
  hideShape?: boolean;
}

const one = (opset: number, op: string, attributes: AttributeProto[], shape: number[], ops = [op], more: Partial<Case> = {}): Case => ({
  what: `${op} of opset ${opset}${more.what ? `, ${more.what}` : ''}`,
  opset,
  shape,
  nodes: [node(op, ['x'], ['y'], attributes)],
  ops,
  ...(more.hideShape ? { hideShape: true } : {}),
});

const cases: Case[] = [
  one(7, 'Clip', [float('min', -0.5), float('max', 0.75)], [2, 3]),
  one(10, 'Clip', [float('max', 0.5)], [2, 3]),
  one(7, 'Dropout', [float('ratio', 0.3)], [2, 3]),
  one(10, 'Dropout', [float('ratio', 0.3)], [2, 3]),
  one(11, 'Squeeze', [ints('axes', [0])], [1, 3]),
  one(11, 'Squeeze', [], [1, 3], ['Squeeze'], { what: 'all axes' }),
  one(11, 'Unsqueeze', [ints('axes', [0, 3])], [2, 3]),
  one(11, 'ReduceSum', [ints('axes', [1]), int('keepdims', 0)], [2, 3]),
  ...['ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceSumSquare'].map((op) => one(13, op, [ints('axes', [-1])], [2, 3])),
  one(13, 'ReduceMean', [], [2, 3], ['ReduceMean'], { what: 'all axes' }),
  ...['ReduceL1', 'ReduceL2', 'ReduceLogSumExp', 'ReduceProd'].map((op) => one(11, op, [ints('axes', [1])], [2, 3])),
  one(9, 'Slice', [ints('starts', [1]), ints('ends', [2 ** 53]), ints('axes', [1])], [2, 3]),
  one(7, 'Slice', [ints('starts', [0, -2]), ints('ends', [1, 3])], [2, 3], ['Slice'], { what: 'no axes' }),
  one(10, 'Pad', [ints('pads', [0, 1, 0, 2]), float('value', 1.5)], [2, 3]),
  one(7, 'Pad', [ints('pads', [0, 1, 0, 1]), text('mode', 'reflect')], [2, 3], ['Pad'], { what: 'reflect' }),
  one(9, 'Softmax', [], [2, 3]),
  one(12, 'LogSoftmax', [int('axis', -1)], [2, 3, 4]),
  one(9, 'Softmax', [], [2, 3, 4], ['Shape', 'Flatten', 'Softmax', 'Reshape'], { what: 'not the last axis' }),
  one(12, 'Hardmax', [int('axis', 0)], [2, 3], ['Shape', 'Flatten', 'Opaque', 'Reshape']),
  one(9, 'Softmax', [int('axis', 2)], [2, 3, 4], ['Shape', 'Flatten', 'Softmax', 'Reshape'], { what: 'unknown rank', hideShape: true }),
  one(7, 'Upsample', [floats('scales', [1, 1, 2, 3]), text('mode', 'nearest')], [1, 1, 2, 2], ['Resize']),
  one(7, 'Upsample', [floats('scales', [1, 1, 2, 2]), text('mode', 'linear')], [1, 1, 3, 3], ['Resize'], { what: 'linear' }),
  {
    what: 'Upsample of opset 9',
    opset: 9,
    shape: [1, 1, 2, 2],
    nodes: [node('Upsample', ['x', 's'], ['y'])],
    initializers: { s: Tensor.float32([4], [1, 1, 2, 2]) },
    ops: ['Resize'],
  },
  {
    what: 'Resize of opset 10, growing',
    opset: 10,
    shape: [1, 1, 3, 3],
    nodes: [node('Resize', ['x', 's'], ['y'])],
    initializers: { s: Tensor.float32([4], [1, 1, 2.5, 1.4]) },
    ops: ['Resize'],
  },
  {
    what: 'Resize of opset 10, shrinking',
    opset: 10,
    shape: [1, 1, 8, 8],
    nodes: [node('Resize', ['x', 's'], ['y'])],
    initializers: { s: Tensor.float32([4], [1, 1, 0.5, 0.75]) },
    ops: ['Resize'],
  },
  {
    what: 'Resize of opset 11',
    opset: 11,
    shape: [1, 1, 3, 3],
    nodes: [node('Resize', ['x', 'r', 's'], ['y'], [text('mode', 'cubic')])],
    initializers: { r: Tensor.float32([0], []), s: Tensor.float32([4], [1, 1, 2, 2]) },
    ops: ['Resize'],
  },
  {
    what: 'Split of opset 11',
    opset: 11,
    shape: [2, 6],
    nodes: [node('Split', ['x'], ['y', 'z'], [int('axis', 1), ints('split', [2, 4])])],
    ops: ['Split'],
    outputs: ['y', 'z'],
  },
  {
    what: 'Split of opset 13 without sizes',
    opset: 13,
    shape: [2, 6],
    nodes: [node('Split', ['x'], ['y', 'z'], [int('axis', 1)])],
    ops: ['Split'],
    outputs: ['y', 'z'],
  },
  {
    what: 'TopK of opset 9',
    opset: 9,
    shape: [2, 6],
    nodes: [node('TopK', ['x'], ['y', 'z'], [int('k', 2)])],
    ops: ['TopK'],
    outputs: ['y', 'z'],
  },
  {
    what: 'BatchNormalization of opset 7',
    opset: 7,
    shape: [1, 2, 2],
    nodes: [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], ['y'], [float('epsilon', 0.01), int('spatial', 1)])],
    initializers: {
      s: Tensor.float32([2], [1, 2]),
      b: Tensor.float32([2], [0, 1]),
      m: Tensor.float32([2], [0.5, 0]),
      v: Tensor.float32([2], [1, 3]),
    },
    ops: ['BatchNormalization'],
  },
  {
    what: 'Softmax after layers that keep or set the rank',
    opset: 11,
    shape: [2, 6],
    nodes: [
      node('MatMul', ['x', 'w'], ['h']),
      node('Add', ['h', 'c'], ['a']),
      node('Clip', ['a', 'low'], ['k']),
      node('Unsqueeze', ['k'], ['u'], [ints('axes', [0])]),
      node('Squeeze', ['u'], ['q'], [ints('axes', [0])]),
      node('Softmax', ['q'], ['y']),
    ],
    initializers: { w: Tensor.float32([6, 2], ramp(12)), c: Tensor.float32([2], [1, -1]), low: Tensor.scalar(-9) },
    ops: ['MatMul', 'Add', 'Clip', 'Unsqueeze', 'Squeeze', 'Softmax'],
  },
];

describe('upgradeGraph', () => {
  it.each(cases)(
    '$what computes the same in the form of opset 18',
    async ({ opset, shape, nodes, initializers = {}, ops, outputs = ['y'], hideShape }) => {
      const inputs = [info('x', hideShape ? undefined : shape)];
      const before = modelBytes({
        opset,
        nodes,
        inputs,
        outputs: outputs.map((name) => info(name, undefined, name === 'z' && ops[0] === 'TopK' ? 7 : 1)),
        initializers,
      });
      const graph = readOnnx(before);
      expect(graph.nodes.map((made) => made.op)).toEqual(ops);
      expect(graph.opset).toBe(18);
      const feeds = { x: [ramp(shape.reduce((a, b) => a * b, 1)), shape] as [number[], number[]] };
      expect(await runModel(writeOnnx(graph), feeds)).toEqual(await runModel(before, feeds));
    },
  );

  it('makes constants of the element type of the data', () => {
    const graph = readOnnx(
      modelBytes({
        opset: 7,
        nodes: [node('Clip', ['x'], ['y'], [float('min', 0)])],
        inputs: [info('x', [2], 10)],
        outputs: [info('y', [2], 10)],
      }),
    );
    expect(graph.nodes.map((made) => made.op)).toEqual(['Cast', 'Clip']);
    expect(graph.nodes[0]?.attrs).toEqual({ to: 'float16' });
  });

  it('reads five outputs of batch norm as training', () => {
    const stats = {
      s: Tensor.float32([3], [1, 1, 1]),
      b: Tensor.float32([3], [0, 0, 0]),
      m: Tensor.float32([3], [0, 0, 0]),
      v: Tensor.float32([3], [1, 1, 1]),
    };
    const five = ['y', 'rm', 'rv', 'sm', 'sv'];
    const graph = readOnnx(
      modelBytes({ opset: 13, nodes: [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], five)], initializers: stats }),
    );
    expect(graph.nodes[0]?.attrs).toEqual({ training_mode: 1 });
    expect(graph.nodes[0]?.outputs.map((value) => value.name)).toEqual(['y', 'rm', 'rv']);
    const used = modelBytes({
      opset: 13,
      nodes: [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], five)],
      initializers: stats,
      outputs: [info('y', undefined), info('sm', undefined)],
    });
    expect(() => readOnnx(used)).toThrow(
      expect.objectContaining({ code: 'MODEL_UNSUPPORTED_OP', place: { node: 'batchnormalization_y', op: 'BatchNormalization' } }),
    );
  });

  it('upgrades inside subgraphs, with names that are new everywhere', async () => {
    const branch = (name: string, axes: number[]) =>
      graphAttribute(name, {
        name,
        node: [node('ReduceMean', ['x'], [`${name}_y`], [ints('axes', axes)], { name: 'mean' })],
        output: [info(`${name}_y`, undefined)],
      });
    const before = modelBytes({
      opset: 11,
      nodes: [node('Greater', ['t', 'zero'], ['c']), node('If', ['c'], ['y'], [branch('then_branch', [0]), branch('else_branch', [1])])],
      inputs: [info('x', [2, 3]), info('t', [])],
      initializers: { zero: Tensor.scalar(0) },
    });
    const after = writeOnnx(readOnnx(before));
    for (const t of [1, -1]) {
      const feeds = { x: [ramp(6), [2, 3]] as [number[], number[]], t: [[t], []] as [number[], number[]] };
      expect(await runModel(after, feeds)).toEqual(await runModel(before, feeds));
    }
  });

  it.each([
    ['Resize with scales that vary', 10, [node('Resize', ['x', 'n'], ['y'])]],
    ['a mask of the old kind', 7, [node('Dropout', ['x'], ['d', 'y'])]],
    ['Scan of opset 8', 8, [node('Scan', ['', 'x'], ['y'], [int('num_scan_inputs', 1)])]],
    ['statistics of every position', 7, [node('BatchNormalization', ['x', 'n', 'n', 'n', 'n'], ['y'], [int('spatial', 0)])]],
  ])('refuses %s, naming the node', (_, opset, nodes) => {
    const bytes = modelBytes({ opset, nodes, inputs: [info('x', [1, 1, 2, 2]), info('n', [4])] });
    expect(() => readOnnx(bytes)).toThrow(
      expect.objectContaining({
        code: 'MODEL_UNSUPPORTED_OP',
        place: { node: nodes[0]?.name, op: nodes[0]?.opType },
        hint: 'Export the model with opset 18.',
      }),
    );
  });

  it('leaves newer forms and other domains alone', () => {
    const graph = readOnnx(
      modelBytes({
        opset: 21,
        nodes: [node('Softmax', ['x'], ['y'], [])],
        model: { opsetImport: [{ version: 21 }, { domain: 'com.microsoft', version: 1 }] },
      }),
    );
    expect(graph.opset).toBe(21);
    expect(graph.nodes[0]?.attr('axis' as never)).toBe(-1);
  });
});
