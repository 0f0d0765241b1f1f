import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zip as makeZip, type ZipEntry } from '../data/testing/zip.js';
import { defaultLimits, type Limits } from '../events.js';
import { Tensor } from '../tensor/tensor.js';
import { modelBytes, node } from '../testing/onnx.js';
import type { TensorProto } from './onnx/schema.js';
import { readModel } from './read.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'octet-formats-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(bytes: Uint8Array, limits: Partial<Limits> = {}): ReturnType<typeof readModel> {
  const path = join(folder, 'upload');
  await writeFile(path, bytes);
  return readModel(path, { ...defaultLimits, ...limits });
}

const bufferOf = (parts: Parameters<typeof modelBytes>[0]) => Buffer.from(modelBytes(parts));

const external = (name: string, location: string, offset: string, length = '8'): TensorProto => ({
  name,
  dims: [2],
  dataType: 1,
  dataLocation: 1,
  externalData: Object.entries({ location, offset, length }).map(([key, value]) => ({ key, value })),
});

const add = (...tensors: TensorProto[]) =>
  bufferOf({
    nodes: tensors.map(({ name }, i) => node('Add', [i === 0 ? 'x' : `h${i - 1}`, name ?? ''], [i === tensors.length - 1 ? 'y' : `h${i}`])),
    initializers: tensors,
  });
const weights = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer);
const plain = bufferOf({ nodes: [node('Relu', ['x'], ['y'])], model: { producerName: 'p', producerVersion: '2' } });
const fails = (code: string, place: object = {}) => expect.objectContaining({ code, place: expect.objectContaining(place) });

describe('readModel', () => {
  it('reads an .onnx file and says what it holds', async () => {
    const bytes = modelBytes({
      nodes: [node('Relu', ['x'], ['h']), node('Relu', ['h'], ['i']), node('Gelu', ['i'], ['y'], [], { domain: 'com.microsoft' })],
      opset: 13,
      model: {
        producerName: 'p',
        producerVersion: '2',
        opsetImport: [
          { domain: 'ai.onnx', version: 13 },
          { domain: 'com.microsoft', version: 1 },
        ],
      },
    });
    const { graph, source } = await read(bytes);
    expect(graph.nodes.filter(({ op }) => op === 'Relu')).toHaveLength(2);
    expect(source).toEqual({
      producer: 'p 2',
      sha256: createHash('sha256').update(bytes).digest('hex'),
      files: [],
      irVersion: 8,
      opset: 13,
      ops: { Relu: 2, 'com.microsoft.Gelu': 1 },
      nodes: 3,
      metadata: {},
      bytes: bytes.length,
    });
  });

  it.each([false, true])('reads a zip with external data (deflated: %s)', async (deflate) => {
    const model = add(external('a', 'weights.bin', '0'), external('b', 'more/weights.bin', '8'));
    const parts: ZipEntry[] = [
      { name: 'net/', data: Buffer.alloc(0) },
      { name: 'net/model.onnx', data: model, deflate },
      { name: 'net/weights.bin', data: weights, deflate },
      { name: 'net/more/weights.bin', data: weights, deflate },
      { name: '__MACOSX/net/._model.onnx', data: Buffer.of(1), deflate },
    ];
    const { graph, source } = await read(makeZip(parts));
    expect(graph.constants().map((value) => value.constant)).toEqual([Tensor.float32([2], [1, 2]), Tensor.float32([2], [3, 4])]);
    expect(source.bytes).toBe(model.length + 2 * weights.length);
  });

  it.each(['/etc/passwd', '../weights.bin', 'a/../../weights.bin', '..\\weights.bin', 'C:\\weights.bin', '', 'a\0b'])(
    'refuses external data at %j',
    async (location) => {
      const zip = makeZip([
        { name: 'net/model.onnx', data: add(external('a', location, '0')) },
        { name: 'weights.bin', data: weights },
      ]);
      await expect(read(zip)).rejects.toThrow(fails('MODEL_EXTERNAL_DATA', { tensor: 'a' }));
    },
  );

  it.each([
    ['an offset past the end', '17', '8'],
    ['a length past the end', '12', '8'],
    ['a length that does not fit the shape', '0', '4'],
    ['an offset that is not a number', '-4', '8'],
    ['a length that is not a number', '0', '1e1'],
    ['a huge offset', '99999999999999999999', '8'],
  ])('refuses %s', async (_, offset, length) => {
    const zip = makeZip([
      { name: 'model.onnx', data: add(external('a', 'weights.bin', offset, length)) },
      { name: 'weights.bin', data: weights },
    ]);
    await expect(read(zip)).rejects.toThrow(fails('MODEL_EXTERNAL_DATA', { tensor: 'a', file: 'weights.bin' }));
  });

  it('refuses external data that did not come along', async () => {
    const model = add(external('a', 'weights.bin', '0'));
    await expect(read(model)).rejects.toThrow(fails('MODEL_EXTERNAL_DATA', { file: 'weights.bin' }));
    await expect(read(makeZip([{ name: 'model.onnx', data: model }]))).rejects.toThrow(
      fails('MODEL_EXTERNAL_DATA', { file: 'weights.bin' }),
    );
  });

  it.each([
    ['no model', [{ name: 'readme.txt', data: plain }], 'MODEL_NOT_ONNX'],
    [
      'two models',
      [
        { name: 'a.onnx', data: plain },
        { name: 'b.onnx', data: plain },
      ],
      'MODEL_ARCHIVE',
    ],
    [
      'a name twice',
      [
        { name: 'a.onnx', data: plain },
        { name: 'a.onnx', data: plain },
      ],
      'MODEL_ARCHIVE',
    ],
    ['a path that leads out', [{ name: '../a.onnx', data: plain }], 'MODEL_ARCHIVE'],
    ['an absolute path', [{ name: '/a.onnx', data: plain }], 'MODEL_ARCHIVE'],
    ['an encrypted entry', [{ name: 'a.onnx', data: plain, encrypted: true }], 'MODEL_ARCHIVE'],
    ['an unknown method', [{ name: 'a.onnx', data: plain, method: 99 }], 'MODEL_ARCHIVE'],
    ['a wrong size', [{ name: 'a.onnx', data: plain, size: 5 }], 'MODEL_ARCHIVE'],
    ['a wrong checksum', [{ name: 'a.onnx', data: plain, crc: 5 }], 'MODEL_ARCHIVE'],
    ['a record outside the file', [{ name: 'a.onnx', data: plain, offset: 0x7fffffff }], 'MODEL_ARCHIVE'],
  ] as [string, ZipEntry[], string][])('refuses a zip with %s', async (_, parts, code) => {
    await expect(read(makeZip(parts))).rejects.toThrow(fails(code));
  });

  it('refuses a zip that is cut off', async () => {
    const zip = makeZip([{ name: 'a.onnx', data: plain }]);
    for (const length of [4, 40, zip.length - 30, zip.length - 1])
      await expect(read(zip.subarray(0, length))).rejects.toThrow(fails('MODEL_ARCHIVE'));
  });

  it('refuses zip bombs by ratio, by size and by number', async () => {
    const zeros = { name: 'zeros.bin', data: Buffer.alloc(2 * 1024 * 1024), deflate: true };
    const model = { name: 'a.onnx', data: plain };
    await expect(read(makeZip([model, zeros]))).rejects.toThrow(fails('MODEL_ARCHIVE', { file: 'zeros.bin' }));
    await expect(read(makeZip([model, { ...zeros, deflate: false }]), { archiveBytes: 1024 * 1024 })).rejects.toThrow(
      fails('MODEL_ARCHIVE', { file: 'zeros.bin' }),
    );
    await expect(read(makeZip([model, zeros]), { archiveEntries: 1 })).rejects.toThrow(fails('MODEL_ARCHIVE'));
    // An entry that unpacks to more than it says stops there.
    await expect(read(makeZip([{ name: 'a.onnx', data: zeros.data, size: 1000, deflate: true }]))).rejects.toThrow(
      fails('MODEL_ARCHIVE', { file: 'a.onnx' }),
    );
    await expect(read(makeZip([model, { ...zeros, deflate: false }]), { archiveRatio: 0.5 })).rejects.toThrow(
      fails('MODEL_ARCHIVE', { file: 'zeros.bin' }),
    );
  });

  it('holds files to the limit on models', async () => {
    await expect(read(plain, { modelBytes: plain.length - 1 })).rejects.toThrow(fails('MODEL_TOO_LARGE'));
    const model = add(external('a', 'weights.bin', '0'));
    const zip = makeZip([
      { name: 'a.onnx', data: model },
      { name: 'weights.bin', data: Buffer.alloc(5000), deflate: true },
    ]);
    await expect(read(zip, { modelBytes: 4000 })).rejects.toThrow(fails('MODEL_TOO_LARGE', { file: 'weights.bin' }));
  });
});
