import { afterAll, beforeAll, expect, it } from 'vitest';
import { bytesOf, npy } from '../data/testing/files.js';
import { attributeTypes, decode, encode, type ValueInfoProto } from '../formats/onnx/schema.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { info, int, modelBytes, node } from '../testing/onnx.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const random = Random.for(5, 'scores');
const normal = (count: number) => Float32Array.from({ length: count }, () => random.normal());

/** A sequence of maps from int64 to float32, as skl2onnx declares it, field by field. */
const message = (id: number, content: Uint8Array) => Buffer.concat([Buffer.from([(id << 3) | 2, content.length]), content]);
const map = message(5, Buffer.concat([Buffer.from([0x08, 7]), message(2, message(1, Buffer.from([0x08, 1])))]));
const maps: ValueInfoProto = { name: 'maps', type: { $unknowns: [message(4, message(1, map))] } };

/** A classifier as skl2onnx writes it: a label and maps; its probabilities are an output as well where they are asked for. */
const classifier = (outputs: ValueInfoProto[]) =>
  modelBytes({
    nodes: [
      node('Gemm', ['x', 'w', 'b'], ['z']),
      node('Softmax', ['z'], ['p']),
      node('ArgMax', ['p'], ['label'], [int('axis', 1), int('keepdims', 0)]),
      node('ZipMap', ['p'], ['maps'], [{ name: 'classlabels_int64s', type: attributeTypes.ints, ints: [4, 5, 6] }], {
        domain: 'ai.onnx.ml',
      }),
    ],
    inputs: [info('x', ['N', 6])],
    outputs,
    initializers: { w: Tensor.float32([6, 3], normal(18)), b: Tensor.float32([3], normal(3)) },
    model: { opsetImport: [{ version: 18 }, { domain: 'ai.onnx.ml', version: 3 }] },
  });

const label = info('label', ['N'], 7);

it.each(['ptq', 'qat'] as const)(
  'judges what ZipMap makes its maps of, and leaves the interface of the file as it was (%s)',
  async (method) => {
    const samples = await shop.file('x.npy', npy('<f4', [64, 6], bytesOf(normal(64 * 6))));
    const model = await shop.file('model.onnx', classifier([label, maps]));
    const { report, model: file } = await shop.run(shop.job(model, samples, quickRecipe({ method })));
    expect(report.outputs.map(({ name, kind, judged }) => [name, kind, judged])).toEqual([
      ['label', 'other', false],
      ['maps', 'other', false],
      ['p', 'classes', true],
    ]);
    expect(report.outputs[2]?.why).toContain('ZipMap');
    expect(report.outputs[2]?.fidelity?.sqnrDb).toBeGreaterThan(20);
    const outputs = decode('Model', file).graph?.output ?? [];
    expect(outputs.map((output) => Buffer.from(encode('ValueInfo', output)))).toEqual(
      [label, maps].map((output) => Buffer.from(encode('ValueInfo', output))),
    );
    expect(report.size.int8Bytes).toBe(file.byteLength);
  },
);

it('runs a model that has maps beside a tensor', async () => {
  const samples = await shop.file('x.npy', npy('<f4', [64, 6], bytesOf(normal(64 * 6))));
  const model = await shop.file('model.onnx', classifier([label, maps, info('p', ['N', 3])]));
  const { report } = await shop.run(shop.job(model, samples, quickRecipe({ method: 'ptq' })));
  expect(report.outputs.filter(({ judged }) => judged).map(({ name }) => name)).toEqual(['p']);
});
