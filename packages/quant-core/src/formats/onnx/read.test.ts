import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { allocate, type DType, dtypes } from '../../tensor/dtype.js';
import { fromFloat16, Tensor } from '../../tensor/tensor.js';
import { float, graphAttribute, info, int, modelBytes, node, ramp, runModel, text } from '../../testing/onnx.js';
import { newestOpset, oldestOpset, readOnnx } from './read.js';
import { attributeTypes, decode, encode, type NodeProto, type TensorProto } from './schema.js';
import { tensorProto } from './tensors.js';
import { writeOnnx } from './write.js';

/** Read and write again; unknown fields included. */
const again = (bytes: Uint8Array) => decode('Model', writeOnnx(readOnnx(bytes)));

/** Field 1000 with the bytes 1, 2, 3. */
const unknownField = Uint8Array.of(0xc2, 0x3e, 3, 1, 2, 3);

const withUnknown = <T extends object>(message: T): T & { $unknowns: Uint8Array[] } =>
  Object.assign(message, { $unknowns: [unknownField] });

describe('readOnnx', () => {
  it('gives names, types, attributes and constants as the file has them', () => {
    const graph = readOnnx(
      modelBytes({
        nodes: [node('Gemm', ['x', 'w', ''], ['h'], [int('transB', 1)]), node('LeakyRelu', ['h'], ['y'], [float('alpha', 0.25)])],
        inputs: [info('x', ['batch', 3])],
        outputs: [info('y', ['batch', 2])],
        initializers: { w: Tensor.float32([2, 3], ramp(6)) },
        graph: { name: 'net' },
      }),
    );
    expect(graph.name).toBe('net');
    expect(graph.inputs.map(({ name, type }) => ({ name, type }))).toEqual([
      { name: 'x', type: { dtype: 'float32', shape: ['batch', 3] } },
    ]);
    expect(graph.outputs.map(({ name, shape }) => ({ name, shape }))).toEqual([{ name: 'y', shape: ['batch', 2] }]);
    expect(graph.nodes.map(({ op, name, attrs, inputs }) => ({ op, name, attrs, inputs: inputs.map((value) => value?.name) }))).toEqual([
      { op: 'Gemm', name: 'gemm_h', attrs: { transB: 1 }, inputs: ['x', 'w'] },
      { op: 'LeakyRelu', name: 'leakyrelu_y', attrs: { alpha: 0.25 }, inputs: ['h'] },
    ]);
    expect([...(graph.constants()[0]?.constant?.as('float32').data ?? [])]).toEqual(ramp(6));
  });

  it('puts nodes in order and gives each a name of its own', () => {
    const graph = readOnnx(
      modelBytes({
        nodes: [
          node('Relu', ['h'], ['y'], [], { name: 'same' }),
          node('Abs', ['x'], ['h'], [], { name: 'same' }),
          node('Neg', ['x'], ['z'], [], { name: '' }),
        ],
      }),
    );
    expect(graph.nodes.map(({ op, name }) => [op, name])).toEqual([
      ['Abs', 'same_1'],
      ['Neg', 'z'],
      ['Relu', 'same'],
    ]);
  });

  it('takes initializers that are listed as inputs for constants', () => {
    const graph = readOnnx(
      modelBytes({
        nodes: [node('Add', ['x', 'b'], ['y'])],
        inputs: [info('x', [2, 3]), info('b', [3])],
        initializers: { b: Tensor.float32([3], [1, 2, 3]) },
        model: { irVersion: 3 },
      }),
    );
    expect(graph.inputs.map(({ name }) => name)).toEqual(['x']);
    expect(graph.nodes[0]?.input(1).constant?.shape).toEqual([3]);
  });

  it('gives dimensions without a name one of their own', () => {
    const graph = readOnnx(
      modelBytes({
        nodes: [node('Relu', ['x'], ['y'])],
        inputs: [{ name: 'x', type: { tensorType: { elemType: 1, shape: { dim: [{}, { dimValue: 3 }] } } } }],
      }),
    );
    expect(graph.inputs[0]?.shape).toEqual(['x_d0', 3]);
  });

  it.each([
    ['value_float', { f: 2.5, type: attributeTypes.float }, 'float32', [], [2.5]],
    ['value_floats', { floats: [1, 2], type: attributeTypes.floats }, 'float32', [2], [1, 2]],
    ['value_int', { i: 7, type: attributeTypes.int }, 'int64', [], [7n]],
    ['value_ints', { ints: [3, -4], type: attributeTypes.ints }, 'int64', [2], [3n, -4n]],
    ['value', { t: tensorProto('', Tensor.float32([1], [9])), type: attributeTypes.tensor }, 'float32', [1], [9]],
  ])('makes a constant of a Constant node with %s', (name, attribute, dtype, shape, data) => {
    const graph = readOnnx(
      modelBytes({ nodes: [node('Constant', [], ['c'], [{ name, ...attribute }]), node('Cast', ['c'], ['y'], [int('to', 1)])] }),
    );
    const constant = graph.nodes[0]?.input(0).constant;
    expect(graph.nodes).toHaveLength(1);
    expect([constant?.dtype, constant?.shape, Array.from(constant?.data as Float32Array)]).toEqual([dtype, shape, data]);
  });

  it('reads every opset that it says it reads, and writes what ONNX Runtime takes', async () => {
    for (let opset = oldestOpset; opset <= newestOpset; opset++) {
      const bytes = writeOnnx(readOnnx(modelBytes({ opset, nodes: [node('Relu', ['x'], ['y'])] })));
      const { y } = await runModel(bytes, {
        x: [
          [-1, 2, 0, 1, -5, 3],
          [2, 3],
        ],
      });
      expect(y?.data).toEqual([0, 2, 0, 1, 0, 3]);
    }
    for (const opset of [oldestOpset - 1, newestOpset + 1]) {
      expect(() => readOnnx(modelBytes({ opset, nodes: [node('Relu', ['x'], ['y'])] }))).toThrow(
        expect.objectContaining({ code: 'MODEL_OPSET_UNSUPPORTED' }),
      );
    }
  });
});

describe('tensors', () => {
  const packedVarints = (values: bigint[]) => {
    const bytes: number[] = [];
    for (const value of values) {
      let rest = BigInt.asUintN(64, value);
      for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
      bytes.push(Number(rest));
    }
    return Uint8Array.from(bytes);
  };
  const constantOf = (tensor: TensorProto) => {
    const graph = readOnnx(modelBytes({ nodes: [node('Identity', ['t'], ['y'])], initializers: [{ ...tensor, name: 't' }] }));
    return graph.nodes[0]?.input(0).constant;
  };
  const bits = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const samples: Record<DType, { values: bigint[] | number[]; field: Partial<TensorProto> }> = {
    float32: { values: [1.5, -2], field: { floatData: [bits(Float32Array.of(1.5, -2))] } },
    float64: { values: [1e300, -2], field: { doubleData: [bits(Float64Array.of(1e300, -2))] } },
    int64: { values: [-1n, 2n ** 62n], field: { int64Data: [packedVarints([-1n, 2n ** 62n])] } },
    uint64: { values: [1n, 2n ** 64n - 1n], field: { uint64Data: [packedVarints([1n, 2n ** 64n - 1n])] } },
    uint32: { values: [1, 2 ** 32 - 1], field: { uint64Data: [packedVarints([1n, 2n ** 32n - 1n])] } },
    int32: { values: [-(2 ** 31), 5], field: { int32Data: [packedVarints([-(2n ** 31n), 5n])] } },
    int16: { values: [-32768, 5], field: { int32Data: [packedVarints([-32768n, 5n])] } },
    int8: { values: [-128, 127], field: { int32Data: [packedVarints([-128n, 127n])] } },
    uint16: { values: [65535, 0], field: { int32Data: [packedVarints([65535n, 0n])] } },
    uint8: { values: [255, 300 - 256], field: { int32Data: [packedVarints([255n, 44n])] } },
    bool: { values: [1, 0], field: { int32Data: [packedVarints([1n, 0n])] } },
    float16: { values: [0x3c00, 0xc000], field: { int32Data: [packedVarints([0x3c00n, 0xc000n])] } },
    // Both elements in one number, the first in the lower half.
    int4: { values: [-8, 7], field: { int32Data: [packedVarints([0x78n])] } },
    uint4: { values: [15, 2], field: { int32Data: [packedVarints([0x2fn])] } },
  };

  it.each(Object.keys(samples) as DType[])('reads %s from raw data and from its typed field', (dtype) => {
    const { values, field } = samples[dtype];
    const data = allocate(dtype, 2);
    values.forEach((value, i) => {
      data[i] = value as never;
    });
    const expected = new Tensor(dtype, [2], data);
    expect(constantOf(tensorProto('t', expected))).toEqual(expected);
    expect(constantOf({ dims: [2], dataType: dtypes[dtype].onnx, ...field })).toEqual(expected);
  });

  it('reads float16 as bit patterns', () => {
    expect([0x3c00, 0xc000].map(fromFloat16)).toEqual([1, -2]);
  });

  it('reads typed data that is not packed, or packed in pieces', () => {
    const tensor: TensorProto = { dims: [3], dataType: 7, int64Data: [packedVarints([1n])] };
    // Field 7, wire type 0.
    tensor.$unknowns = [Uint8Array.of(0x38, 2), Uint8Array.of(0x38, 3)];
    expect(constantOf(tensor)?.data).toEqual(BigInt64Array.of(1n, 2n, 3n));
    const floats: TensorProto = { dims: [2], dataType: 1, floatData: [bits(Float32Array.of(1)), bits(Float32Array.of(2))] };
    expect(constantOf(floats)?.data).toEqual(Float32Array.of(1, 2));
  });

  it('keeps tensors of types without arrays as they are', async () => {
    const strings: TensorProto = { name: 's', dims: [2], dataType: 8, stringData: [Buffer.from('cat'), Buffer.from('dog')] };
    const graph = readOnnx(
      modelBytes({
        nodes: [node('Gather', ['s', 'i'], ['y'])],
        initializers: [strings, tensorProto('i', Tensor.ints([1]))],
        inputs: [],
        outputs: [info('y', [1], 8)],
      }),
    );
    expect(graph.nodes.map(({ opName, op }) => [op, opName])).toEqual([
      ['Opaque', 'Constant'],
      ['Gather', 'Gather'],
    ]);
    const session = await ort.InferenceSession.create(writeOnnx(graph));
    expect((await session.run({})).y?.data).toEqual(['dog']);
  });

  it('reads external data through the reader it is given', () => {
    const file = Float32Array.of(0, 1, 2, 3);
    const external = (fields: Record<string, string>): TensorProto => ({
      name: 't',
      dims: [2],
      dataType: 1,
      dataLocation: 1,
      externalData: Object.entries(fields).map(([key, value]) => ({ key, value })),
    });
    const read = (tensor: TensorProto) =>
      readOnnx(modelBytes({ nodes: [node('Identity', ['t'], ['y'])], initializers: [tensor] }), {
        externalData: (location) => (location === 'w/data.bin' ? bits(file) : new Uint8Array(0)),
      }).nodes[0]?.input(0).constant;
    expect(read(external({ location: './w/data.bin', offset: '4', length: '8' }))?.data).toEqual(Float32Array.of(1, 2));
    expect(read(external({ location: 'w/data.bin', offset: '8' }))?.data).toEqual(Float32Array.of(2, 3));
  });
});

describe('what goes through unchanged', () => {
  it('keeps metadata, doc strings, annotations and unknown fields', () => {
    const relu: NodeProto = withUnknown(node('Relu', ['x'], ['h'], [], { docString: 'a doc' }));
    const shrink: NodeProto = withUnknown(node('Shrink', ['h'], ['y'], [withUnknown(float('lambd', 0.5))], { docString: 'b doc' }));
    const graph = withUnknown({
      name: 'g',
      docString: 'graph doc',
      node: [relu, shrink],
      input: [withUnknown({ ...info('x', [2]), docString: 'input doc' })],
      output: [info('y', [2])],
      quantizationAnnotation: [
        { tensorName: 'h', parameters: [{ key: 'SCALE_TENSOR', value: 'x' }] },
        { tensorName: 'gone', parameters: [] },
      ],
    });
    const bytes = encode(
      'Model',
      withUnknown({
        irVersion: 8,
        producerName: 'writer',
        producerVersion: '1.2',
        domain: 'org.example',
        modelVersion: 5,
        docString: 'model doc',
        metadataProps: [{ key: 'k', value: 'v' }],
        opsetImport: [
          { domain: '', version: 18 },
          { domain: 'local', version: 3 },
        ],
        graph,
      }),
    );
    const model = again(bytes);
    expect(model).toMatchObject({
      producerName: 'writer',
      producerVersion: '1.2',
      domain: 'org.example',
      docString: 'model doc',
      metadataProps: [{ key: 'k', value: 'v' }],
    });
    expect(Number(model.modelVersion)).toBe(5);
    expect(model.opsetImport?.map(({ domain, version }) => [domain, Number(version)])).toEqual([
      ['', 18],
      ['local', 3],
    ]);
    expect(model.graph).toMatchObject({
      docString: 'graph doc',
      node: [{ docString: 'a doc' }, { docString: 'b doc' }],
      input: [{ docString: 'input doc' }],
    });
    expect(model.graph?.quantizationAnnotation?.map(({ tensorName }) => tensorName)).toEqual(['h']);
    const kept = [model, model.graph, ...(model.graph?.node ?? []), model.graph?.node?.[1]?.attribute?.[0], model.graph?.input?.[0]];
    for (const message of kept) expect(message?.$unknowns?.map((field) => [...field])).toEqual([[...unknownField]]);
  });

  it('writes operators outside the list as they came', async () => {
    const before = modelBytes({
      nodes: [
        node('Shrink', ['x'], ['h'], [float('lambd', 0.25)]),
        node('CDist', ['h', 'h'], ['g'], [text('metric', 'sqeuclidean')], { domain: 'com.microsoft' }),
        node('AveragePool', ['u'], ['y'], [{ name: 'kernel_shape', type: attributeTypes.ints, ints: [2] }]),
        node('Unsqueeze', ['g', 'axes'], ['u']),
      ],
      inputs: [info('x', [2, 3])],
      initializers: { axes: Tensor.ints([0]) },
      model: { opsetImport: [{ version: 19 }, { domain: 'com.microsoft', version: 1 }] },
    });
    const graph = readOnnx(before);
    expect(graph.nodes.map(({ op, opName }) => [op, opName])).toEqual([
      ['Opaque', 'Shrink'],
      ['Opaque', 'CDist'],
      ['Unsqueeze', 'Unsqueeze'],
      ['AveragePool', 'AveragePool'],
    ]);
    const feeds = { x: [ramp(6), [2, 3]] as [number[], number[]] };
    expect(await runModel(writeOnnx(graph), feeds)).toEqual(await runModel(before, feeds));
  });

  it('keeps a node of the list that has an attribute of a newer form', () => {
    const [made] = readOnnx(
      modelBytes({
        opset: 23,
        nodes: [node('QuantizeLinear', ['x', 's'], ['y'], [int('block_size', 2)])],
        initializers: { s: Tensor.scalar(1) },
      }),
    ).nodes;
    expect([made?.op, made?.opName]).toEqual(['Opaque', 'QuantizeLinear']);
  });

  it('leaves out optional outputs that were left out', () => {
    const weights = { w: Tensor.float32([1, 4, 3], ramp(12)), r: Tensor.float32([1, 4, 1], ramp(4)) };
    const model = again(
      modelBytes({
        nodes: [node('LSTM', ['x', 'w', 'r'], ['', 'y'], [int('hidden_size', 1)])],
        inputs: [info('x', [2, 1, 3])],
        initializers: weights,
      }),
    );
    expect(model.graph?.node?.[0]?.output).toEqual(['', 'y']);
  });

  it('keeps outputs that nobody reads where the operator wants them', async () => {
    const ones = Tensor.float32([3], [1, 1, 1]);
    const before = modelBytes({
      nodes: [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], ['y', 'mean', 'var'], [int('training_mode', 1)])],
      initializers: { s: ones, b: ones, m: ones, v: ones },
    });
    const feeds: Record<string, [number[], number[]]> = { x: [ramp(6), [2, 3]] };
    expect(await runModel(writeOnnx(readOnnx(before)), feeds)).toEqual(await runModel(before, feeds));
  });

  it('keeps the types of outputs that are not tensors', () => {
    const sequence = { name: 'y', type: {} };
    // TypeProto.sequence_type { elem_type { tensor_type { elem_type: 1 } } }
    Object.assign(sequence.type, { $unknowns: [Uint8Array.of(0x22, 6, 0x0a, 4, 0x0a, 2, 0x08, 1)] });
    const model = again(modelBytes({ nodes: [node('SequenceConstruct', ['x'], ['y'])], outputs: [sequence] }));
    expect(model.graph?.output?.[0]?.type?.$unknowns).toHaveLength(1);
  });
});

describe('subgraphs', () => {
  const branch = (name: string, op: string) =>
    graphAttribute(name, {
      name,
      node: [node(op, ['h'], ['inner']), node('Add', ['inner', 'bias'], [`${name}_y`])],
      output: [info(`${name}_y`, undefined)],
    });
  const bytes = modelBytes({
    nodes: [
      node('Abs', ['x'], ['h']),
      node('Cast', ['t'], ['c'], [int('to', 9)]),
      node('If', ['c'], ['y'], [{ ...branch('then_branch', 'Neg') }, { ...branch('else_branch', 'Exp') }].map(distinct)),
    ],
    inputs: [info('x', [2]), info('t', [])],
    initializers: { bias: Tensor.float32([2], [10, 20]) },
  });

  /** Inner names differ between branches, as ONNX wants. */
  function distinct(attribute: ReturnType<typeof branch>, at: number): ReturnType<typeof branch> {
    for (const inner of attribute.g?.node ?? []) {
      inner.input = inner.input?.map((name) => (name === 'inner' ? `inner_${at}` : name)) ?? [];
      inner.output = inner.output?.map((name) => (name === 'inner' ? `inner_${at}` : name)) ?? [];
    }
    return attribute;
  }

  const run = (model: Uint8Array) =>
    Promise.all([1, 0].map(async (t) => (await runModel(model, { x: [[1, -2], [2]], t: [[t], []] })).y?.data));

  it('makes what they take from outside inputs of the node', async () => {
    const graph = readOnnx(bytes);
    const node = graph.nodes.find(({ opName }) => opName === 'If');
    expect(node?.inputs.map((value) => value?.name)).toEqual(['c', 'h', 'bias']);
    expect(node?.opaque?.ownInputs).toBe(1);
    expect(await run(writeOnnx(graph))).toEqual(await run(bytes));
    expect(await run(bytes)).toEqual([
      [9, 18],
      [Math.fround(10 + Math.fround(Math.E)), Math.fround(20 + Math.fround(Math.exp(2)))],
    ]);
  });

  it('follow the names of outer values, and give way to new ones', async () => {
    const graph = readOnnx(bytes);
    const before = await run(bytes);
    const abs = graph.nodes.find((node) => node.is('Abs'));
    const added = graph.node(
      'Relu',
      [abs?.output()],
      {},
      { name: 'inner_0', outputNames: ['inner_0'], ...(graph.nodes[2] ? { before: graph.nodes[2] } : {}) },
    );
    const node = graph.nodes.find(({ opName }) => opName === 'If');
    node?.setInput(1, added.output());
    const copy = graph.clone();
    for (const value of copy.values()) if (value.name === 'bias') value.name = 'renamed';
    expect(await run(writeOnnx(graph))).toEqual(before);
    expect(await run(writeOnnx(copy))).toEqual(before);
  });
});

const data = process.env.OCTET_DATA ? join(process.env.OCTET_DATA, 'models') : '';

describe.skipIf(!data || !existsSync(data))('real models', () => {
  it.each(data && existsSync(data) ? readdirSync(data).filter((name) => name.endsWith('.onnx')) : [])(
    '%s computes the same bits when read and written',
    async (name) => {
      const before = readFileSync(join(data, name));
      const after = writeOnnx(readOnnx(before));
      const session = await ort.InferenceSession.create(before, { logSeverityLevel: 4 });
      const feeds = Object.fromEntries(
        session.inputMetadata.map((input) => {
          const shape = input.isTensor ? input.shape.map((dim) => (typeof dim === 'number' && dim > 0 ? dim : 3)) : [];
          return [input.name, [ramp(shape.reduce((a, b) => a * b, 1)).map((value) => value % 2), shape] as [number[], number[]]];
        }),
      );
      expect(await runModel(after, feeds)).toEqual(await runModel(before, feeds));
      // Writing is a fixed point.
      expect(Buffer.compare(writeOnnx(readOnnx(after)), after)).toBe(0);
    },
  );
});
