import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDataset } from '../data/dataset.js';
import { bytesOf, failure, npy } from '../data/testing/files.js';
import { zip } from '../data/testing/zip.js';
import { readOnnx } from '../formats/onnx/read.js';
import { writeOnnx } from '../formats/onnx/write.js';
import type { Graph } from '../ir/graph.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { openSizes } from './inputs.js';
import { quickRecipe, Workshop } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

const [vocabulary, length] = [24, 12];

/** Sentences as scripts/torch-bert.py makes them: class 1 where the token 3 comes before the token 4; after its length a sentence is padding. */
function sentences(count: number) {
  const random = new Random(7);
  const below = (n: number) => Math.floor(random.uniform() * n);
  const of = () => new BigInt64Array(count * length);
  const [ids, mask, types, labels] = [of(), of(), of(), new BigInt64Array(count)];
  for (let row = 0; row < count; row++) {
    const words = 6 + below(length - 5);
    const first = 1 + below(words - 2);
    const second = first + 1 + below(words - 1 - first);
    labels[row] = BigInt(below(2));
    for (let i = 0; i < words; i++) {
      const at = row * length + i;
      ids[at] = BigInt(i === 0 ? 1 : 5 + below(vocabulary - 5));
      mask[at] = 1n;
      types[at] = i >= length / 2 ? 1n : 0n;
    }
    ids[row * length + first] = labels[row] ? 3n : 4n;
    ids[row * length + second] = labels[row] ? 4n : 3n;
  }
  const array = (data: BigInt64Array, ...shape: number[]) => npy('<i8', [count, ...shape], bytesOf(data));
  return {
    input_ids: array(ids, length),
    attention_mask: array(mask, length),
    token_type_ids: array(types, length),
    labels: array(labels),
  };
}

const archive = (arrays: Record<string, Buffer>) =>
  shop.file('data.npz', zip(Object.entries(arrays).map(([name, data]) => ({ name: `${name}.npy`, data }))));

/** The exported encoder, its classifier forgotten. */
async function bert(): Promise<Graph> {
  const graph = readOnnx(await readFile(fileURLToPath(new URL('./testing/bert.onnx', import.meta.url))));
  const random = new Random(3);
  for (const value of graph.constants())
    if (value.name === 'classifier.weight' && value.constant)
      value.constant = Tensor.float32(
        value.constant.shape,
        Float32Array.from({ length: value.constant.size }, () => 0.05 * random.normal()),
      );
  return graph;
}

const tableOf = (graph: Graph, name: string) =>
  graph
    .constants()
    .find((value) => value.name === name)
    ?.constant?.as('float32').data;

describe('an encoder with three inputs, as PyTorch exports it', () => {
  it('is trained to far above chance, its embeddings too', async () => {
    const graph = await bert();
    const recipe = quickRecipe({
      training: { epochs: 3, optimizer: 'adam', learningRate: 0.004, distillation: { weight: 0, temperature: 2 } },
    });
    const done = await shop.run(shop.job(await shop.model(graph), await archive(sentences(700)), recipe));
    const { report } = done;
    expect(report.float.value).toBeLessThan(0.75);
    expect(report.qat?.value).toBeGreaterThan(0.9);
    expect(report.int8.from).toBe('qat');
    expect(report.parity.top1Agreement).toBeGreaterThan(0.99);
    const int8 = readOnnx(done.model);
    expect(int8.inputs.map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual(
      ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => [name, 'int64', ['batch', 'sequence']]),
    );
    expect(tableOf(int8, 'words.weight')).not.toEqual(tableOf(graph, 'words.weight'));
    expect(report.provenance.dataset.inputs?.map((array) => array.name)).toEqual(['input_ids', 'attention_mask', 'token_type_ids']);
  });

  it('an array that is missing is named, and not guessed', async () => {
    const { attention_mask: _, ...rest } = sentences(20);
    const error = await failure('DATASET_INPUTS', async () => {
      await shop.run(shop.job(await shop.model(await bert()), await archive(rest), quickRecipe()));
    });
    expect(error.message).toContain('nothing for "attention_mask"');
    expect(error.hint).toContain('"attention_mask"');
  });

  it('inputs of different length are refused', async () => {
    const short = npy('<i8', [20, 11], Buffer.alloc(20 * 11 * 8));
    const error = await failure('DATASET_SHAPE', async () => {
      await shop.run(shop.job(await shop.model(await bert()), await archive({ ...sentences(20), token_type_ids: short }), quickRecipe()));
    });
    expect(error.message).toContain('sequence');
    expect(error.message).toContain('12 and 11');
    expect(() =>
      openSizes({ graph: graphOf('graph g (x: float32[N, a], y: float32[N, a]) opset 18\nz = Add(x, y)\nreturn z') }, [[2], [3]]),
    ).toThrow('2 and 3');
  });

  it('takes samples for one input from no other format', async () => {
    const model = await shop.model(await bert());
    const csv = await shop.file('data.csv', Buffer.from('1,2,0\n3,4,1\n5,6,0\n'));
    const error = await failure('DATASET_INPUTS', () => shop.run(shop.job(model, csv, quickRecipe())));
    expect(error.message).toContain('csv');
  });
});

/** Mean of embeddings, a layer, two classes: class 1 where token 3 is there. */
const bag = (dtype: string) => {
  const graph = graphOf(`graph bag (tokens: ${dtype}[N, 6]) opset 18
    e = Gather(table=float32[10, 8]#, tokens) @embedding
    m = ReduceMean(e, axes=int64[1]{1}) {keepdims=0}
    h = Gemm(m, w1=float32[8, 16]#, b1=float32[16]#) @hidden
    r = Relu(h)
    y = Gemm(r, w2=float32[16, 2]#, b2=float32[2]#) @head
    return y`);
  return graph;
};

const tokens = (count: number, vocabularySize = 10) => {
  const random = new Random(5);
  const rows = Array.from({ length: count }, () => Array.from({ length: 6 }, () => Math.floor(random.uniform() * vocabularySize)));
  return { rows, labels: rows.map((row) => Number(row.includes(3))) };
};

const csvOf = ({ rows, labels }: ReturnType<typeof tokens>) =>
  shop.file('tokens.csv', Buffer.from(`${rows.map((row, i) => [...row, labels[i]].join()).join('\n')}\n`));

describe('one integer input', () => {
  const recipe = () =>
    quickRecipe({ training: { epochs: 4, optimizer: 'adam', learningRate: 0.02, distillation: { weight: 0, temperature: 2 } } });

  it.each(['int64', 'int32'])('%s, from a CSV of whole numbers', async (dtype) => {
    const done = await shop.run(shop.job(await shop.model(bag(dtype)), await csvOf(tokens(600)), recipe()));
    expect(done.report.qat?.value).toBeGreaterThan(0.85);
    expect(readOnnx(done.model).inputs[0]?.dtype).toBe(dtype);
  });

  it('a token outside the table is named with its sample', async () => {
    const data = tokens(40);
    (data.rows[17] as number[])[4] = 10;
    const model = await shop.model(bag('int64'));
    const error = await failure('DATASET_VALUES', async () => shop.run(shop.job(model, await csvOf(data), recipe())));
    expect(error.message).toBe('Sample 17 holds 10 at element 4; input tokens is looked up in table, which has 10 rows.');
    expect(error.place).toMatchObject({ sample: 17, tensor: 'tokens' });
    (data.rows[17] as number[])[4] = 1.5;
    const broken = await failure('DATASET_VALUES', async () => shop.run(shop.job(model, await csvOf(data), recipe())));
    expect(broken.message).toContain('Sample 17 holds 1.5 at element 4');
  });

  it('values go in as they are, bytes too; a scale is refused', async () => {
    const x = npy('|u1', [2, 3], Buffer.of(0, 1, 2, 253, 254, 255));
    const path = await shop.file('x.npy', x);
    const options = { workDirectory: shop.directory, limits: shop.job('', '', recipe()).limits };
    for (const dtype of ['int64', 'int32', 'uint8'] as const) {
      const dataset = await openDataset(path, {}, { ...options, fit: { shape: [3], dtype } });
      const { x: batch } = await dataset.batch([1, 0]);
      expect([batch.dtype, batch.shape, Array.from(batch.data as Int32Array, Number)]).toEqual([dtype, [2, 3], [253, 254, 255, 0, 1, 2]]);
      expect(dataset.assumptions).toEqual([]);
      await dataset.close();
    }
    const fit = { shape: [3], dtype: 'int64' as const, name: 'ids' };
    const error = await failure('DATASET_CONFIG', () => openDataset(path, { scale: 2 }, { ...options, fit }));
    expect(error.message).toContain('ids');
    const small = await failure('DATASET_VALUES', () => openDataset(path, {}, { ...options, fit: { ...fit, dtype: 'int8' } }));
    expect(small.message).toContain('Sample 1 holds 253');
  });

  it('64-bit integers keep every digit', async () => {
    const wild = [2 ** 40 + 1, -(2 ** 40) - 1, 2 ** 31, -(2 ** 31), -1, 0];
    const path = await shop.file('x.npy', npy('<i8', [2, 3], bytesOf(BigInt64Array.from(wild, BigInt))));
    const options = { workDirectory: shop.directory, limits: shop.job('', '', recipe()).limits };
    const dataset = await openDataset(path, {}, { ...options, fit: { shape: [3], dtype: 'int64' } });
    expect(Array.from((await dataset.batch([0, 1])).x.data as BigInt64Array, Number)).toEqual(wild);
    await dataset.close();
  });
});

it('inputs that do not share their batch, or have an element type that no dataset holds, are refused', async () => {
  const text = (inputs: string) => `graph g (${inputs}) opset 18\nc = Gemm(x, w=float32[2, 2]#, b=float32[2]#)\nreturn c`;
  const run = async (inputs: string) => shop.run(shop.job(await shop.file('m.onnx', writeOnnx(graphOf(text(inputs)))), '', quickRecipe()));
  const error = await failure('MODEL_INPUTS_UNSUPPORTED', () => run('x: float32[4, 2], m: int64[3, 2]'));
  expect(error.message).toContain('Input m is [3, 2] and input x is [4, 2]: their first dimensions differ');
  // A state of recurrent layers: its first dimension is no batch, and the name of the second says so.
  const state = await failure('MODEL_INPUTS_UNSUPPORTED', () => run('x: float32[N, 2], h: float32[2, N, 8]'));
  expect(state.message).toContain('Input h has the batch "N" as axis 1 of [2, N, 8], and must have it as axis 0');
  expect(state.hint).toContain('transpose');
  expect((await failure('MODEL_INPUTS_UNSUPPORTED', () => run('x: float32[N, 2], h: float16[N, 2]'))).message).toContain('float16');
});
