import { describe, expect, it } from 'vitest';
import { toQdq } from '../convert/qdq.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { planOf, tableOf } from '../fakequant/testing/plans.js';
import { readOnnx } from '../formats/onnx/read.js';
import {
  type AttributeProto,
  attributeTypes,
  decode,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../formats/onnx/schema.js';
import { tensorProto } from '../formats/onnx/tensors.js';
import { writeOnnx } from '../formats/onnx/write.js';
import { bindDims } from '../ir/infer.js';
import { normalise } from '../normalise/index.js';
import { describeOutputs } from '../tasks/output.js';
import { Tensor } from '../tensor/tensor.js';
import { float, floats, graphAttribute, info, int, ints, modelBytes, node, ramp, text } from '../testing/onnx.js';
import { inferTypes } from './types.js';

const engine = new OrtEngine();
const string = (name: string, value: string): AttributeProto => text(name, value);
const strings = (name: string, values: string[]): AttributeProto => ({
  name,
  type: attributeTypes.strings,
  strings: values.map((value) => Buffer.from(value)),
});
const ml = { domain: 'ai.onnx.ml' };

/** TypeProto fields: sequence 4, map 5, optional 9; written by hand, since the schema here knows tensors only. */
const message = (id: number, content: Uint8Array) => Buffer.concat([Buffer.from([(id << 3) | 2, content.length]), content]);
const tensorOf = (elemType: number) => message(1, Buffer.from([0x08, elemType]));
const typed = (name: string, type: Uint8Array): ValueInfoProto => ({ name, type: { $unknowns: [type] } });
const sequenceOf = (name: string, type: Uint8Array) => typed(name, message(4, message(1, type)));
const mapOf = (key: number, value: Uint8Array) => message(5, Buffer.concat([Buffer.from([0x08, key]), message(2, value)]));

const weights: TensorProto[] = [
  tensorProto('w1', Tensor.float32([3, 2, 3], ramp(18))),
  tensorProto('w2', Tensor.float32([3, 3, 1], ramp(9))),
  tensorProto('dense', Tensor.float32([15, 4], ramp(60))),
  tensorProto('two', Tensor.scalar(2)),
  tensorProto('zero', Tensor.scalar(0)),
  tensorProto('axes', Tensor.ints([0, -1])),
  tensorProto('trips', new Tensor('int64', [], BigInt64Array.of(3n))),
  tensorProto('yes', new Tensor('bool', [], Uint8Array.of(1))),
];
const conv = (input: string, output: string, weight: string) => node('Conv', [input, weight], [output]);
/** x [N, 2, 7] → a [N, 3, 5]; b [N, 3, 5] → y [N, 4]. */
const before = [conv('x', 'c1', 'w1'), node('Relu', ['c1'], ['a'])];
const after = [conv('b', 'c2', 'w2'), node('Relu', ['c2'], ['r2']), node('Flatten', ['r2'], ['f']), node('MatMul', ['f', 'dense'], ['y'])];

const branch = (name: string, op: string, shape: (number | string)[] | undefined) =>
  graphAttribute(name, { name, node: [node(op, ['a'], [`${name}_z`])], output: [info(`${name}_z`, shape)] });
const condition = [node('ReduceMax', ['x'], ['m'], [int('keepdims', 0)]), node('Greater', ['m', 'zero'], ['c'])];
const loop = (shape: (number | string)[] | undefined) =>
  graphAttribute('body', {
    name: 'body',
    node: [
      node('Identity', ['go'], ['goes']),
      node('Tanh', ['v'], ['v_out']),
      node('ReduceMean', ['v_out', 'axes'], ['seen'], [int('keepdims', 0)]),
    ],
    input: [info('i', [], 7), info('go', [], 9), info('v', shape)],
    output: [info('goes', [], 9), info('v_out', shape), info('seen', undefined)],
  });

interface Case {
  what: string;
  /** From `a` [N, 3, 5] to `b`, of the same shape. */
  between: NodeProto[];
  /** What reads `y`. */
  tail?: NodeProto[];
  /** More outputs beside `y`. */
  outputs?: ValueInfoProto[];
  /** Types of values inside. */
  known?: ValueInfoProto[];
}

const cases: Case[] = [
  { what: 'an operator outside the list', between: [node('LpPool', ['a'], ['b'], [ints('kernel_shape', [3]), ints('pads', [1, 1])])] },
  {
    what: 'a scaler as skl2onnx writes it, of which nobody knows the shape',
    between: [
      node('Scaler', ['a'], ['scaled'], [floats('offset', [0.5]), floats('scale', [2])], ml),
      node('Cast', ['scaled'], ['b'], [int('to', 1)]),
    ],
  },
  { what: 'one with noise', between: [node('RandomNormalLike', ['a'], ['n'], [float('scale', 0.001)]), node('Add', ['a', 'n'], ['b'])] },
  {
    what: 'one outside the standard',
    between: [
      node('CDist', ['t1', 't2'], ['d'], [string('metric', 'euclidean')], { domain: 'com.microsoft' }),
      node('Add', ['a', 'one'], ['b']),
    ],
  },
  {
    what: 'an If without types',
    between: [...condition, node('If', ['c'], ['b'], [branch('then_branch', 'Exp', undefined), branch('else_branch', 'Neg', undefined)])],
  },
  {
    what: 'an If with types',
    between: [
      ...condition,
      node('If', ['c'], ['b'], [branch('then_branch', 'Exp', ['N', 3, 5]), branch('else_branch', 'Neg', ['N', 3, 5])]),
    ],
  },
  {
    what: 'a Loop with a state and a collected output',
    between: [node('Loop', ['trips', 'yes', 'a'], ['b', 'seen'], [loop(['N', 3, 5])])],
    outputs: [info('seen', ['T', 3])],
  },
  {
    what: 'a sequence there and back',
    between: [
      node('SplitToSequence', ['a'], ['s'], [int('axis', 1)]),
      node('ConcatFromSequence', ['s'], ['j'], [int('axis', 1)]),
      node('Identity', ['j'], ['b']),
    ],
    known: [info('j', ['N', 3, 5])],
  },
  {
    what: 'an optional',
    between: [node('Optional', ['a'], ['o']), node('OptionalGetElement', ['o'], ['b'])],
  },
  {
    what: 'an output that is a sequence',
    between: [node('Neg', ['a'], ['b'])],
    tail: [node('SplitToSequence', ['y'], ['parts'], [int('axis', 0)])],
    outputs: [sequenceOf('parts', tensorOf(1))],
  },
  {
    what: 'label, probabilities and map of a classifier as skl2onnx writes them',
    between: [node('Neg', ['a'], ['b'])],
    tail: [
      node('ArgMax', ['y'], ['at'], [int('axis', 1), int('keepdims', 0)]),
      node('ArrayFeatureExtractor', ['names', 'at'], ['picked'], [], ml),
      node('Reshape', ['picked', 'flat'], ['label']),
      node('Softmax', ['y'], ['p']),
      node('ZipMap', ['p'], ['probabilities'], [strings('classlabels_strings', ['a', 'b', 'c', 'd'])], ml),
    ],
    outputs: [info('label', ['N'], 8), sequenceOf('probabilities', mapOf(8, tensorOf(1)))],
  },
  {
    what: 'integers after the scores',
    between: [node('Neg', ['a'], ['b'])],
    tail: [
      node('ArgMax', ['y'], ['top'], [int('axis', 1), int('keepdims', 0)]),
      node('TopK', ['y', 'k'], ['best', 'where']),
      node('Cast', ['y'], ['whole'], [int('to', 7)]),
      node('Cast', ['top'], ['said'], [int('to', 8)]),
    ],
    outputs: [
      info('top', ['N'], 7),
      info('best', ['N', 2]),
      info('where', ['N', 2], 7),
      info('whole', ['N', 4], 7),
      info('said', ['N'], 8),
    ],
  },
];

const more: TensorProto[] = [
  ...weights,
  tensorProto('one', Tensor.scalar(1)),
  tensorProto('t1', Tensor.float32([2, 2], ramp(4))),
  tensorProto('t2', Tensor.float32([2, 2], ramp(4))),
  tensorProto('k', Tensor.ints([2])),
  tensorProto('flat', Tensor.ints([-1])),
  { name: 'names', dims: [4], dataType: 8, stringData: ['a', 'b', 'c', 'd'].map((each) => Buffer.from(each)) },
];

const fileOf = ({ between, tail = [], outputs = [], known = [] }: Case): Uint8Array =>
  modelBytes({
    nodes: [...before, ...between, ...after, ...tail],
    inputs: [info('x', ['N', 2, 7])],
    outputs: [info('y', ['N', 4]), ...outputs],
    initializers: more,
    graph: { valueInfo: known },
    model: { opsetImport: [{ version: 18 }, { domain: 'ai.onnx.ml', version: 3 }, { domain: 'com.microsoft', version: 1 }] },
  });

describe('types on both sides of what no rule is for', () => {
  it('a list of maps is kept and not judged, and the way to scores is named', async () => {
    const graph = readOnnx(fileOf(cases.find(({ tail }) => tail?.some(({ opType }) => opType === 'ZipMap')) as Case));
    await inferTypes(graph, engine);
    expect(describeOutputs(graph).at(-1)).toMatchObject({ judged: false, why: expect.stringContaining('zipmap=False') });
  });

  it.each(cases)('$what: layers after it are quantized, and the interface is written as it was', async (example) => {
    const original = readOnnx(fileOf(example));
    await inferTypes(original, engine);
    const y = original.outputs[0];
    expect(y?.type).toEqual({ dtype: 'float32', shape: ['N', 4] });
    const graph = original.clone();
    await normalise(graph);
    const plan = planOf(graph);
    expect(plan.weights.map(({ value }) => value).sort()).toEqual(['dense', 'w1', 'w2']);
    const bytes = writeOnnx(toQdq(graph, plan, tableOf(graph, plan)).graph);
    const [float, int8] = [decode('Model', fileOf(example)).graph, decode('Model', bytes).graph];
    expect(int8?.output).toEqual(float?.output);
    expect(int8?.output?.map(({ type }) => type?.$unknowns)).toEqual(float?.output?.map(({ type }) => type?.$unknowns));
    expect(int8?.input).toEqual(float?.input);
    // For training every size is bound.
    const bound = graph.clone();
    bindDims(bound, { N: 6 });
    expect(bound.outputs[0]?.shape).toEqual([6, 4]);
    const program = await engine.compile(graph, { threads: 1, mode: 'infer' });
    await program.dispose();
  });

  it('believes what the file declares only where it cannot tell itself', async () => {
    const lie = { what: '', between: [node('Neg', ['a'], ['b'])], known: [info('b', ['N', 3, 99]), info('c2', [1, 3, 5])] };
    const original = readOnnx(fileOf(lie));
    await inferTypes(original, engine);
    const shapes = new Map(original.values().map(({ name, shape }) => [name, shape]));
    expect(shapes.get('b')).toEqual(['N', 3, 5]);
    expect(shapes.get('c2')).toEqual(['N', 3, 5]);
  });

  it('leaves unknown what cannot be known', async () => {
    const between = [node('NonZero', ['a'], ['at']), node('Cast', ['at'], ['f32'], [int('to', 1)]), node('Neg', ['a'], ['b'])];
    const original = readOnnx(fileOf({ what: '', between, outputs: [info('f32', [3, 'K'])] }));
    await inferTypes(original, engine);
    const f32 = original.outputs[1];
    expect(f32?.shape?.[0]).toBe(3);
    expect(typeof f32?.shape?.[1]).toBe('string');
  });
});
