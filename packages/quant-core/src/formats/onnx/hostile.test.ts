import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OctetError } from '../../errors.js';
import { defaultLimits, type Limits } from '../../events.js';
import { Tensor } from '../../tensor/tensor.js';
import { graphAttribute, info, int, ints, modelBytes, node, ramp } from '../../testing/onnx.js';
import { readOnnx } from './read.js';
import { type AttributeProto, attributeTypes, encode, type NodeProto, type TensorProto } from './schema.js';
import { tensorProto } from './tensors.js';

function fails(bytes: Uint8Array, code: string, place: object = {}, limits: Partial<Limits> = {}): void {
  expect(() => readOnnx(bytes, { limits: { ...defaultLimits, ...limits } })).toThrow(
    expect.objectContaining({ code, place: expect.objectContaining(place) }),
  );
}

const w = Tensor.float32([3, 2], ramp(6));
const matMul = (more: Partial<Parameters<typeof modelBytes>[0]> = {}) =>
  modelBytes({ nodes: [node('MatMul', ['x', 'w'], ['y'])], initializers: { w }, ...more });

describe('files that are not whole models', () => {
  it.each([
    ['nothing', new Uint8Array(0)],
    ['text', Buffer.from('weights,bias\n1,2\n')],
    ['JSON', Buffer.from('{"model": 1}')],
    ['an image', Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex')],
    ['a pickle', Buffer.from('8004958d000000000000008c', 'hex')],
    ['HDF5', Buffer.from('894844460d0a1a0a00000000', 'hex')],
    ['zeros', new Uint8Array(1000)],
    ['a model without a graph', encode('Model', { irVersion: 8, opsetImport: [{ version: 18 }] })],
    ['a text that begins like a field', Buffer.from('"label","value"\n'.repeat(100))],
  ])('says that %s is not ONNX', (_, bytes) => fails(bytes, 'MODEL_NOT_ONNX'));

  it('says of a model cut at any place that it is cut off, or no model', () => {
    const bytes = matMul();
    for (let length = 0; length < bytes.length; length++) {
      expect(() => readOnnx(bytes.subarray(0, length)), `${length} bytes`).toThrow(
        expect.objectContaining({ code: expect.stringMatching(length < 5 ? /NOT_ONNX|TRUNCATED/ : /TRUNCATED/) }),
      );
    }
  });

  it('believes no length', () => {
    // ir_version 8, then graph with a length of 2 GiB, of 2^63, and of more digits than a number has.
    for (const length of ['ffffffff07', 'ffffffffffffffff7f', 'ffffffffffffffffffffff01', '80'])
      fails(Buffer.from(`08083a${length}`, 'hex'), 'MODEL_TRUNCATED');
    // A node inside that reaches past its graph.
    fails(Buffer.from('08083a040a7f0a01', 'hex'), 'MODEL_TRUNCATED');
    // Groups, and field number 0.
    fails(Buffer.from('08083a020b0c', 'hex'), 'MODEL_TRUNCATED');
    fails(Buffer.from('08083a020000', 'hex'), 'MODEL_TRUNCATED');
  });

  it('bounds nesting and the number of fields before it makes objects of them', () => {
    let deep: AttributeProto = int('a', 1);
    for (let i = 0; i < 30; i++) deep = graphAttribute('a', { node: [node('If', [], ['o'], [deep])] });
    // Encoders refuse this depth, so the rest is wrapped by hand: graph = field 6, attribute = field 5, node = field 1.
    let bytes = Buffer.from(encode('Node', node('If', [], ['o'], [deep])));
    const wrap = (tag: number, content: Buffer) => {
      const length = [];
      let rest = content.length;
      for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
      return Buffer.concat([Buffer.from([tag, ...length, rest]), content]);
    };
    for (let i = 0; i < 20; i++) bytes = wrap(0x2a, wrap(0x32, wrap(0x0a, bytes)));
    fails(Buffer.concat([Buffer.from([8, 8]), wrap(0x3a, wrap(0x0a, bytes))]), 'MODEL_INVALID');
    const nodes = Buffer.alloc(2 * 500_000);
    for (let i = 0; i < nodes.length; i += 2) nodes[i] = 0x0a;
    fails(Buffer.concat([Buffer.from([8, 8]), wrap(0x3a, nodes)]), 'MODEL_TOO_LARGE', {}, { modelNodes: 1000 });
  });

  it('holds to the limits', () => {
    fails(matMul(), 'MODEL_TOO_LARGE', {}, { modelBytes: 10 });
    fails(modelBytes({ nodes: [node('Relu', ['x'], ['h']), node('Relu', ['h'], ['y'])] }), 'MODEL_TOO_LARGE', {}, { modelNodes: 1 });
    fails(matMul(), 'MODEL_TOO_LARGE', { tensor: 'w' }, { modelParameters: 5 });
    fails(modelBytes({ nodes: [node('Relu', ['x'], ['y'], [], { name: 'n'.repeat(20_000) })] }), 'MODEL_INVALID');
  });

  it('wants an opset', () => {
    fails(matMul({ model: { opsetImport: [{ domain: 'com.microsoft', version: 1 }] } }), 'MODEL_OPSET_UNSUPPORTED');
    fails(matMul({ model: { opsetImport: [{ version: 13 }, { domain: 'ai.onnx', version: 17 }] } }), 'MODEL_INVALID');
  });
});

describe('graphs that are not graphs', () => {
  it('names a node on a cycle', () => {
    fails(
      modelBytes({
        nodes: [
          node('Relu', ['x'], ['a']),
          node('Add', ['a', 'c'], ['b']),
          node('Relu', ['b'], ['c'], [], { name: 'back' }),
          node('Relu', ['c'], ['y']),
        ],
      }),
      'MODEL_CYCLIC',
    );
    const error = catchError(() =>
      readOnnx(
        modelBytes({
          nodes: [
            node('Relu', ['c'], ['y']),
            node('Add', ['x', 'c'], ['b'], [], { name: 'one' }),
            node('Relu', ['b'], ['c'], [], { name: 'two' }),
          ],
        }),
      ),
    );
    expect(['one', 'two']).toContain(error.place.node);
    fails(modelBytes({ nodes: [node('Add', ['x', 'y'], ['y'])] }), 'MODEL_CYCLIC', { node: 'add_y', op: 'Add' });
    // Through what a subgraph takes from outside.
    const branch = graphAttribute('then_branch', { node: [node('Relu', ['y'], ['i'])], output: [info('i', undefined)] });
    fails(modelBytes({ nodes: [node('If', ['x'], ['y'], [branch])] }), 'MODEL_CYCLIC', { node: 'if_y', op: 'If' });
  });

  it.each([
    [
      'an input that nothing makes',
      { nodes: [node('MatMul', ['x', 'gone'], ['y'])] },
      'MODEL_MISSING_TENSOR',
      { node: 'matmul_y', op: 'MatMul', tensor: 'gone' },
    ],
    ['an output that nothing makes', { nodes: [node('Relu', ['x'], ['z'])] }, 'MODEL_MISSING_TENSOR', { tensor: 'y' }],
    ['a name made twice by nodes', { nodes: [node('Relu', ['x'], ['y']), node('Abs', ['x'], ['y'])] }, 'MODEL_INVALID', { tensor: 'y' }],
    [
      'a name made by a node and an initializer',
      { nodes: [node('Relu', ['x'], ['y'])], initializers: { y: w } },
      'MODEL_INVALID',
      { tensor: 'y' },
    ],
    ['a name made by an input and a node', { nodes: [node('Relu', ['x'], ['x'])] }, 'MODEL_INVALID', { tensor: 'x' }],
    [
      'two initializers of a name',
      { nodes: [node('Relu', ['x'], ['y'])], initializers: [tensorProto('w', w), tensorProto('w', w)] },
      'MODEL_INVALID',
      { tensor: 'w' },
    ],
    [
      'an output listed twice',
      { nodes: [node('Relu', ['x'], ['y'])], outputs: [info('y', [2]), info('y', [2])] },
      'MODEL_INVALID',
      { tensor: 'y' },
    ],
    ['no outputs', { nodes: [node('Relu', ['x'], ['y'])], outputs: [] }, 'MODEL_INVALID', {}],
    ['too few inputs', { nodes: [node('Add', ['x'], ['y'])] }, 'MODEL_INVALID', { node: 'add_y', op: 'Add' }],
    ['too many inputs', { nodes: [node('Relu', ['x', 'x'], ['y'])] }, 'MODEL_INVALID', { node: 'relu_y', op: 'Relu' }],
    ['a needed input left out', { nodes: [node('Add', ['', 'x'], ['y'])] }, 'MODEL_INVALID', { node: 'add_y', op: 'Add' }],
    ['too many outputs', { nodes: [node('Relu', ['x'], ['y', 'z'])] }, 'MODEL_INVALID', { node: 'relu_y', op: 'Relu' }],
    ['no operator type', { nodes: [node('', ['x'], ['y'])] }, 'MODEL_INVALID', {}],
    [
      'a kind of attribute that does not exist',
      { nodes: [node('Flatten', ['x'], ['y'], [{ name: 'axis', type: 77, i: 1 }])] },
      'MODEL_INVALID',
      { node: 'flatten_y' },
    ],
    [
      'an attribute of the wrong kind',
      { nodes: [node('Flatten', ['x'], ['y'], [ints('axis', [1])])] },
      'MODEL_INVALID',
      { node: 'flatten_y', op: 'Flatten' },
    ],
    [
      'an attribute twice',
      { nodes: [node('Flatten', ['x'], ['y'], [int('axis', 1), int('axis', 1)])] },
      'MODEL_INVALID',
      { node: 'flatten_y' },
    ],
    [
      'an attribute of a function that is none',
      { nodes: [node('Flatten', ['x'], ['y'], [{ name: 'axis', type: 2, refAttrName: 'a' }])] },
      'MODEL_INVALID',
      { node: 'flatten_y' },
    ],
    ['a Constant without a value', { nodes: [node('Constant', [], ['y'])] }, 'MODEL_INVALID', { node: 'constant_y', op: 'Constant' }],
    [
      'an operator of another domain',
      { nodes: [node('Magic', ['x'], ['y'], [], { domain: 'acme.ai' })] },
      'MODEL_UNSUPPORTED_OP',
      { node: 'magic_y', op: 'Magic' },
    ],
    [
      'sparse weights',
      { nodes: [node('Relu', ['x'], ['y'])], graph: { sparseInitializer: [Uint8Array.of(0x1a, 1, 1)] } },
      'MODEL_INVALID',
      {},
    ],
    [
      'an input that is not a tensor',
      { nodes: [node('Relu', ['x'], ['y'])], inputs: [{ name: 'x', type: {} }] },
      'MODEL_INPUTS_UNSUPPORTED',
      { tensor: 'x' },
    ],
    ['an input of strings', { nodes: [node('Relu', ['x'], ['y'])], inputs: [info('x', [2], 8)] }, 'MODEL_DTYPE', { tensor: 'x' }],
  ] as [string, Parameters<typeof modelBytes>[0], string, object][])('refuses %s', (_, parts, code, place) =>
    fails(modelBytes(parts), code, place),
  );

  it('refuses another domain inside a subgraph', () => {
    const branch = graphAttribute('then_branch', {
      node: [node('Magic', ['x'], ['i'], [], { domain: 'acme.ai' })],
      output: [info('i', undefined)],
    });
    fails(modelBytes({ nodes: [node('If', ['x'], ['y'], [branch])] }), 'MODEL_UNSUPPORTED_OP', { node: 'magic_i', op: 'Magic' });
  });
});

describe('tensors that are none', () => {
  const withTensor = (tensor: TensorProto, op = 'Relu', more: NodeProto = {}) =>
    modelBytes({ nodes: [{ ...node(op, ['t'], ['y']), ...more }], initializers: [{ name: 't', ...tensor }] });
  it.each([
    ['a payload too short', { dims: [3], dataType: 1, rawData: new Uint8Array(8) }, 'MODEL_INVALID'],
    ['a payload too long', { dims: [3], dataType: 1, rawData: new Uint8Array(16) }, 'MODEL_INVALID'],
    ['no payload', { dims: [3], dataType: 1 }, 'MODEL_INVALID'],
    ['a typed payload too short', { dims: [3], dataType: 1, floatData: [new Uint8Array(8)] }, 'MODEL_INVALID'],
    ['varints too few', { dims: [3], dataType: 7, int64Data: [Uint8Array.of(1, 2)] }, 'MODEL_INVALID'],
    ['varints too many', { dims: [1], dataType: 7, int64Data: [Uint8Array.of(1, 2)] }, 'MODEL_INVALID'],
    ['a varint cut off', { dims: [1], dataType: 7, int64Data: [Uint8Array.of(0x80)] }, 'MODEL_TRUNCATED'],
    ['a varint without an end', { dims: [1], dataType: 7, int64Data: [new Uint8Array(20).fill(0xff)] }, 'MODEL_TRUNCATED'],
    ['data of another type', { dims: [1], dataType: 1, int64Data: [Uint8Array.of(1)] }, 'MODEL_DTYPE'],
    ['no element type', { dims: [1], dataType: 0, rawData: new Uint8Array(4) }, 'MODEL_DTYPE'],
    ['an unknown element type', { dims: [1], dataType: 99, rawData: new Uint8Array(4) }, 'MODEL_DTYPE'],
    ['a negative dimension', { dims: [-1], dataType: 1, rawData: new Uint8Array(0) }, 'MODEL_SHAPE'],
    ['a huge dimension', { dims: [2 ** 40], dataType: 1, rawData: new Uint8Array(4) }, 'MODEL_SHAPE'],
    ['a huge product', { dims: [70_000, 70_000, 70_000], dataType: 1, rawData: new Uint8Array(4) }, 'MODEL_SHAPE'],
    ['a dimension past 2^53', { dims: [2 ** 62], dataType: 1, rawData: new Uint8Array(4) }, 'MODEL_SHAPE'],
    ['many dimensions', { dims: new Array(1000).fill(1), dataType: 1, rawData: new Uint8Array(4) }, 'MODEL_SHAPE'],
    ['no elements', { dims: [3, 0], dataType: 1, rawData: new Uint8Array(0) }, 'MODEL_SHAPE'],
    ['segments', { dims: [1], dataType: 1, segment: Uint8Array.of(8, 1), rawData: new Uint8Array(4) }, 'MODEL_INVALID'],
    ['external data without a place', { dims: [1], dataType: 1, dataLocation: 1 }, 'MODEL_EXTERNAL_DATA'],
    [
      'external data of strings',
      { dims: [1], dataType: 8, dataLocation: 1, externalData: [{ key: 'location', value: 'a' }] },
      'MODEL_EXTERNAL_DATA',
    ],
  ] as [string, TensorProto, string][])('refuses %s', (_, tensor, code) => fails(withTensor(tensor), code, { tensor: 't' }));

  it.each([[[0, 3]], [[2 ** 40, 3]], [[60_000, 60_000, 3]], [new Array(1000).fill(1)]])('refuses a graph input of shape %j', (shape) =>
    fails(modelBytes({ nodes: [node('Relu', ['x'], ['y'])], inputs: [info('x', shape)] }), 'MODEL_SHAPE', { tensor: 'x' }),
  );

  it('leaves claims about outputs that cannot be to shape inference', () => {
    const graph = readOnnx(modelBytes({ nodes: [node('Relu', ['x'], ['y'])], outputs: [info('y', [0, 2 ** 40])] }));
    expect(graph.outputs[0]?.type).toEqual({ dtype: 'float32' });
  });

  it.each([
    ['Conv', ['x', 't'], Tensor.ints([1])],
    ['Reshape', ['x', 't'], Tensor.float32([1], [6])],
    ['Slice', ['x', 't', 't'], Tensor.float32([1], [6])],
    ['Gather', ['x', 't'], Tensor.float32([1], [0])],
  ])('refuses constants of the wrong type on %s', (op, inputs, tensor) => {
    fails(modelBytes({ nodes: [node(op, inputs, ['y'])], initializers: { t: tensor } }), 'MODEL_DTYPE', {
      node: `${op.toLowerCase()}_y`,
      op,
      tensor: 't',
    });
  });

  it('takes empty lists of sizes', () => {
    const graph = readOnnx(
      modelBytes({ nodes: [node('Reshape', ['x', 't'], ['y'])], inputs: [info('x', [1])], initializers: { t: Tensor.ints([]) } }),
    );
    expect(graph.nodes[0]?.input(1).constant?.size).toBe(0);
  });
});

describe('any damage', () => {
  const branch = graphAttribute('body', {
    node: [node('Add', ['h', 'w'], ['i'])],
    output: [info('i', undefined)],
    initializer: [tensorProto('q', w)],
  });
  const sound = modelBytes({
    opset: 11,
    nodes: [
      node('Clip', ['x', 'low'], ['h']),
      node('Loop', ['', 'c'], ['l'], [branch]),
      node('Softmax', ['l'], ['s'], [int('axis', 0)]),
      node('ReduceMean', ['s'], ['y'], [ints('axes', [0, 1])]),
      node(
        'Constant',
        [],
        ['c'],
        [{ name: 'value', type: attributeTypes.tensor, t: { dims: [], dataType: 9, int32Data: [Uint8Array.of(1)] } }],
      ),
    ],
    initializers: [
      tensorProto('w', w),
      { name: 'low', dims: [], dataType: 1, floatData: [Uint8Array.of(0, 0, 0, 0)] },
      {
        name: 'e',
        dims: [1],
        dataType: 1,
        dataLocation: 1,
        externalData: [
          { key: 'location', value: 'e.bin' },
          { key: 'length', value: '4' },
        ],
      },
    ],
    model: { metadataProps: [{ key: 'k', value: 'v' }], producerName: 'p' },
  });
  const read = (bytes: Uint8Array) =>
    readOnnx(bytes, { limits: { ...defaultLimits, modelNodes: 1000, modelParameters: 10_000 }, externalData: () => new Uint8Array(4) });

  /** Throws nothing but an OctetError that some check raised on purpose. */
  function refusesWell(bytes: Uint8Array): void {
    try {
      read(bytes);
    } catch (error) {
      // Plain checks: this runs ten thousand times. "Cannot be read" is the net under all checks, which must not be needed.
      const isRefusal = error instanceof OctetError && error.code.startsWith('MODEL_');
      if (!isRefusal || error.message.startsWith('The model cannot be read') || error.message.length > 3000) throw error;
    }
  }

  it('starts from a sound model', () => {
    expect(read(sound).nodes.map(({ opName }) => opName)).toEqual(['Clip', 'Loop', 'Shape', 'Flatten', 'Softmax', 'Reshape', 'ReduceMean']);
  });

  it('of single bits is refused or read', () => {
    for (let at = 0; at < sound.length; at++) {
      for (const bit of [0, 3, 7]) {
        const bytes = Uint8Array.from(sound);
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
        refusesWell(bytes);
      }
    }
  });

  it('of many bytes is refused or read', () => {
    const edit = fc.record({ at: fc.nat(sound.length - 1), byte: fc.nat(255) });
    const damage = fc.record({
      edits: fc.array(edit, { maxLength: 8 }),
      length: fc.oneof({ weight: 3, arbitrary: fc.constant(sound.length) }, fc.nat(sound.length)),
      twice: fc.tuple(fc.nat(sound.length), fc.nat(40)),
    });
    fc.assert(
      fc.property(damage, ({ edits, length, twice: [from, count] }) => {
        const bytes = Uint8Array.from(sound);
        for (const { at, byte } of edits) bytes[at] = byte;
        refusesWell(Buffer.concat([bytes.subarray(0, Math.min(from + count, length)), bytes.subarray(Math.min(from, length), length)]));
      }),
      { numRuns: 3000, seed: 20 },
    );
  });
});

function catchError(action: () => unknown): OctetError {
  try {
    action();
  } catch (error) {
    if (error instanceof OctetError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
