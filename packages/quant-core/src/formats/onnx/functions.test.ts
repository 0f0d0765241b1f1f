import { describe, expect, it } from 'vitest';
import type { ErrorCode, OctetError } from '../../errors.js';
import { defaultLimits } from '../../events.js';
import { inferShapes } from '../../ir/infer.js';
import { verify } from '../../ir/verify.js';
import { Tensor } from '../../tensor/tensor.js';
import { float, graphAttribute, info, int, ints, modelBytes, node, runModel } from '../../testing/onnx.js';
import { readOnnx } from './read.js';
import { type AttributeProto, attributeTypes, decode, type FunctionProto, type NodeProto } from './schema.js';
import { writeOnnx } from './write.js';

const fn = (name: string, input: string[], output: string[], nodes: NodeProto[], more: Partial<FunctionProto> = {}): FunctionProto => ({
  domain: 'local',
  name,
  input,
  output,
  node: nodes,
  opsetImport: [
    { domain: '', version: 18 },
    { domain: 'local', version: 1 },
  ],
  ...more,
});
const call = (name: string, input: string[], output: string[], attribute: AttributeProto[] = []) =>
  node(name, input, output, attribute, { domain: 'local' });
const reference = (name: string, to: string, type: number): AttributeProto => ({ name, refAttrName: to, type });

const square = fn('Square', ['a'], ['b'], [node('Mul', ['a', 'a'], ['b'])]);
const swish = fn('Swish', ['v'], ['r'], [node('Sigmoid', ['v'], ['s']), node('Mul', ['v', 's'], ['r'])]);
/** Calls another function, and makes a tensor called as one of the main graph is. */
const both = fn('Both', ['v'], ['r'], [call('Square', ['v'], ['x']), call('Swish', ['x'], ['h']), node('Add', ['x', 'h'], ['r'])]);
const leaky = fn('Leaky', ['v'], ['r'], [node('LeakyRelu', ['v'], ['r'], [reference('alpha', 'slope', attributeTypes.float)])], {
  attributeProto: [float('slope', 0.25)],
});
const transposed = fn('Turned', ['v'], ['r'], [node('Transpose', ['v'], ['r'], [reference('perm', 'order', attributeTypes.ints)])], {
  attribute: ['order'],
});
/** The second input may be left out; then Clip has no lower bound. */
const clip = fn('Bounded', ['v', 'low', 'high'], ['r'], [node('Clip', ['v', 'low', 'high'], ['r'])]);
const pair = fn('Pair', ['v'], ['same', 'minus'], [node('Neg', ['v'], ['minus']), node('Identity', ['v'], ['same'])]);
const handedOn = fn('HandedOn', ['v', 'w'], ['v', 'sum'], [node('Add', ['v', 'w'], ['sum'])]);
const branch = (name: string, nodes: NodeProto[]) => graphAttribute(name, { name, node: nodes, output: [info('z', [2, 3])] });
const choose = fn(
  'Choose',
  ['c', 'v'],
  ['r'],
  [
    node(
      'If',
      ['c'],
      ['r'],
      [
        branch('then_branch', [call('Square', ['v'], ['z'])]),
        branch('else_branch', [node('LeakyRelu', ['v'], ['z'], [reference('alpha', 'slope', attributeTypes.float)])]),
      ],
    ),
  ],
  { attributeProto: [float('slope', 0.5)] },
);

const functions = [square, swish, both, leaky, transposed, clip, pair, choose];
const bytesOf = (nodes: NodeProto[], outputs = [info('y', undefined)], more: Parameters<typeof modelBytes>[0] = { nodes }) =>
  modelBytes({
    outputs,
    ...more,
    nodes,
    model: {
      functions,
      opsetImport: [
        { domain: '', version: 18 },
        { domain: 'local', version: 1 },
      ],
      ...more.model,
    },
  });

const x: [number[], number[]] = [
  [1, -2, 3, -4, 5, -6],
  [2, 3],
];

describe('model-local functions', () => {
  const zero = { zero: Tensor.scalar(0), two: Tensor.scalar(2) };
  it.each<[string, NodeProto[]]>([
    ['one call', [call('Square', ['x'], ['y'])]],
    ['the same function twice', [call('Swish', ['x'], ['h']), call('Swish', ['h'], ['y'])]],
    [
      'functions in functions, with names of the main graph',
      [node('Neg', ['x'], ['s']), call('Both', ['s'], ['h']), call('Both', ['h'], ['y'])],
    ],
    [
      'an attribute given, and one left at its default',
      [call('Leaky', ['x'], ['h'], [float('slope', 0.125)]), call('Leaky', ['h'], ['y'])],
    ],
    ['an attribute without default', [call('Turned', ['x'], ['h'], [ints('order', [1, 0])]), call('Turned', ['h'], ['y'])]],
    ['an input left out in the middle, and at the end', [call('Bounded', ['x', '', 'two'], ['h']), call('Bounded', ['h', 'zero'], ['y'])]],
    ['an output left out', [call('Pair', ['x'], ['', 'y'])]],
    [
      'a call inside a subgraph of a function, with a reference beside it',
      [
        node('Greater', ['two', 'zero'], ['c']),
        call('Choose', ['c', 'x'], ['h']),
        node('Not', ['c'], ['d']),
        call('Choose', ['d', 'h'], ['y'], [float('slope', 0.75)]),
      ],
    ],
  ])('computes the same numbers: %s', async (_, nodes) => {
    const bytes = bytesOf(nodes, undefined, { nodes, initializers: zero });
    const graph = readOnnx(bytes);
    inferShapes(graph);
    verify(graph);
    expect(graph.nodes.filter((each) => each.opaque?.domain === 'local')).toEqual([]);
    const written = writeOnnx(graph);
    expect(await runModel(written, { x })).toEqual(await runModel(bytes, { x }));
    const model = decode('Model', written);
    expect(model.functions).toBeUndefined();
    expect(model.opsetImport?.map(({ domain }) => domain)).toEqual(['']);
  });

  it('are written in the opset they import', async () => {
    // Clip of opset 7 has its bounds as attributes.
    const old = fn('Old', ['v'], ['r'], [node('Clip', ['v'], ['c'], [float('min', -1), float('max', 2)]), node('Neg', ['c'], ['r'])], {
      opsetImport: [{ domain: '', version: 7 }],
    });
    const nodes = [call('Old', ['x'], ['h']), node('ReduceSum', ['h', 'axis'], ['y'], [int('keepdims', 0)])];
    const graph = readOnnx(
      modelBytes({
        nodes,
        initializers: { axis: Tensor.ints([1]) },
        model: {
          functions: [old],
          opsetImport: [
            { domain: '', version: 13 },
            { domain: 'local', version: 1 },
          ],
        },
      }),
    );
    expect(graph.opset).toBe(18);
    expect((await runModel(writeOnnx(graph), { x })).y?.data).toEqual([-2, 0]);
  });

  it('may hand an input on as an output, which the runtime does not take', async () => {
    const nodes = [call('HandedOn', ['x', 'two'], ['h', 's']), node('Sub', ['h', 's'], ['y'])];
    const graph = readOnnx(bytesOf(nodes, undefined, { nodes, initializers: zero, model: { functions: [handedOn] } }));
    expect((await runModel(writeOnnx(graph), { x })).y?.data).toEqual(new Array(6).fill(-2));
  });

  it('stand for a standard operator where they have its name', async () => {
    const own = fn('Relu', ['v'], ['r'], [node('Neg', ['v'], ['r'])], { domain: '' });
    const graph = readOnnx(modelBytes({ nodes: [node('Relu', ['x'], ['y'])], model: { functions: [own] } }));
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Neg']);
  });

  const fails = (bytes: Uint8Array, code: ErrorCode, limits = defaultLimits) =>
    expect(() => readOnnx(bytes, { limits })).toThrow(expect.objectContaining({ code } satisfies Partial<OctetError>));
  const model = (own: FunctionProto[], nodes: NodeProto[]) => bytesOf(nodes, undefined, { nodes, model: { functions: own } });

  it('are refused when they call themselves, take too few, or read what is not there', () => {
    const one = fn('One', ['v'], ['r'], [call('Two', ['v'], ['r'])]);
    const two = fn('Two', ['v'], ['r'], [call('One', ['v'], ['r'])]);
    fails(model([one, two], [call('One', ['x'], ['y'])]), 'MODEL_INVALID');
    fails(model([square], [call('Square', ['x', 'x'], ['y'])]), 'MODEL_INVALID');
    fails(model([fn('Odd', ['v'], ['r'], [node('Add', ['v', 'w'], ['r'])])], [call('Odd', ['x'], ['y'])]), 'MODEL_MISSING_TENSOR');
    fails(model([square], [call('Cube', ['x'], ['y'])]), 'MODEL_UNSUPPORTED_OP');
  });

  it('count as the nodes they become: ten functions that each call the next one ten times are refused', () => {
    const chain = Array.from({ length: 10 }, (_, at) => {
      const inner = (i: number) => [i === 0 ? 'v' : `t${i}`];
      const nodes = Array.from({ length: 10 }, (_, i) =>
        at === 9 ? node('Neg', inner(i), [`t${i + 1}`]) : call(`F${at + 1}`, inner(i), [`t${i + 1}`]),
      );
      return fn(`F${at}`, ['v'], ['t10'], nodes);
    });
    fails(model(chain, [call('F0', ['x'], ['y'])]), 'MODEL_TOO_LARGE');
  });

  it('refuses a form that changed between the opsets of model and function', () => {
    const norm = fn('Norm', ['v', 's'], ['r'], [node('GroupNormalization', ['v', 's', 's'], ['r'], [int('num_groups', 1)])]);
    const nodes = [call('Norm', ['x', 's'], ['y'])];
    const bytes = modelBytes({
      nodes,
      initializers: { s: Tensor.float32([1], [1]) },
      model: {
        functions: [norm],
        opsetImport: [
          { domain: '', version: 21 },
          { domain: 'local', version: 1 },
        ],
      },
    });
    fails(bytes, 'MODEL_OPSET_UNSUPPORTED');
  });
});
