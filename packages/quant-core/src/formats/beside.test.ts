import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { zip } from '../data/testing/zip.js';
import { defaultLimits } from '../events.js';
import { Tensor } from '../tensor/tensor.js';
import { info, modelBytes, node } from '../testing/onnx.js';
import { externalLocations } from './onnx/locations.js';
import { encode, type TensorProto } from './onnx/schema.js';
import { readModel } from './read.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-beside-'));
});
afterAll(() => rm(directory, { recursive: true }));

const external = (name: string, fields: Record<string, string>): TensorProto => ({
  name,
  dims: [2],
  dataType: 1,
  dataLocation: 1,
  externalData: Object.entries(fields).map(([key, value]) => ({ key, value })),
});
const model = (a: Record<string, string>, b: Record<string, string>) =>
  modelBytes({
    nodes: [node('Mul', ['x', 'a'], ['h']), node('Add', ['h', 'b'], ['y'])],
    // Up to IR version 3 an initializer is an input too.
    inputs: [info('x', ['N', 2]), info('a', [2])],
    initializers: [external('a', a), external('b', b)],
  });
const bytes = (...values: number[]) => Buffer.from(Float32Array.from(values).buffer);

it('reads tensors from several files, at their offsets, in folders below the model', async () => {
  const path = join(directory, 'm.onnx');
  await writeFile(path, model({ location: 'weights/a.bin', offset: '4', length: '8' }, { location: './m.onnx.data' }));
  await mkdir(join(directory, 'weights'), { recursive: true });
  await writeFile(join(directory, 'weights/a.bin'), bytes(9, 1, 2, 9));
  await writeFile(join(directory, 'm.onnx.data'), bytes(3, 4));
  expect(externalLocations(path)).toEqual(['weights/a.bin', './m.onnx.data']);
  const { graph, source } = await readModel(path, defaultLimits, 'beside');
  const tensors = new Map(graph.constants().map(({ name, constant }) => [name, constant?.data]));
  expect(tensors.get('a')).toEqual(Float32Array.of(1, 2));
  expect(tensors.get('b')).toEqual(Float32Array.of(3, 4));
  expect(graph.inputs.map(({ name }) => name)).toEqual(['x']);
  expect(source.files).toEqual([join(directory, 'weights/a.bin'), join(directory, 'm.onnx.data')]);

  // The same files in a zip are the same model, also where the zip has no folders.
  const archive = join(directory, 'm.zip');
  const data = [bytes(9, 1, 2, 9), bytes(3, 4)] as const;
  const file = model({ location: 'weights/a.bin', offset: '4', length: '8' }, { location: './m.onnx.data' });
  await writeFile(
    archive,
    zip([
      { name: 'm.onnx', data: Buffer.from(file) },
      { name: 'a.bin', data: data[0] },
      { name: 'm.onnx.data', data: data[1] },
    ]),
  );
  expect((await readModel(archive, defaultLimits)).source.sha256).toBe(source.sha256);
});

it('reads nothing beside a model where that is not allowed, and nothing outside its folder', async () => {
  const path = join(directory, 'other.onnx');
  await writeFile(path, model({ location: 'm.onnx.data' }, { location: 'm.onnx.data' }));
  await writeFile(join(directory, 'm.onnx.data'), bytes(3, 4));
  await failure('MODEL_EXTERNAL_DATA', () => readModel(path, defaultLimits));
  for (const location of ['../m.onnx.data', join(directory, 'm.onnx.data'), 'none.data']) {
    await writeFile(path, model({ location }, { location }));
    await failure('MODEL_EXTERNAL_DATA', () => readModel(path, defaultLimits, 'beside'));
  }
  const file = model({ location: 'm.onnx.data' }, { location: 'm.onnx.data' });
  await writeFile(path, file);
  await failure('MODEL_TOO_LARGE', () => readModel(path, { ...defaultLimits, modelBytes: file.length + 4 }, 'beside'));
});

it('finds no locations in what is not a model', async () => {
  const path = join(directory, 'text.onnx');
  await writeFile(path, 'no model at all');
  expect(externalLocations(path)).toEqual([]);
  await writeFile(path, encode('Model', { irVersion: 8 }));
  expect(externalLocations(path)).toEqual([]);
  expect(externalLocations(join(directory, 'nothing'))).toEqual([]);
  await writeFile(path, modelBytes({ nodes: [node('Add', ['x', 'w'], ['y'])], initializers: { w: Tensor.scalar(1) } }));
  expect(externalLocations(path)).toEqual([]);
});
