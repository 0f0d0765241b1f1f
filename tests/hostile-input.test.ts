import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bytesOf, npy } from '../packages/quant-core/src/data/testing/files.js';
import { zip } from '../packages/quant-core/src/data/testing/zip.js';
import { encode } from '../packages/quant-core/src/formats/onnx/schema.js';
import { tensorProto } from '../packages/quant-core/src/formats/onnx/tensors.js';
import { Tensor } from '../packages/quant-core/src/tensor/tensor.js';
import { info, int, ints, modelBytes, node, ramp } from '../packages/quant-core/src/testing/onnx.js';
import { form, startApi, type TestApi } from './support/api.js';
import { classifier, points } from './support/samples.js';
import { until } from './support/services.js';

/** Bad input over HTTP, with real inspections: each gets a 4xx with code, place and hint, and the service keeps serving. */

let api: TestApi;
beforeAll(async () => {
  api = await startApi();
});
afterAll(async () => {
  expect(await (await fetch(`${api.url}/readyz`)).json()).toMatchObject({ status: 'ok' });
  // The answer goes out first, what was uploaded is cleared away after it.
  await until(async () => (await api.staged()).length === 0, 'the uploads to be cleared away');
  await api.close();
});

interface Refusal {
  status: number;
  code: string;
  detail: string;
  hint: string;
  place: Record<string, unknown>;
  errors: { pointer: string; detail: string }[];
}

/** Send it and make sure that it was refused with everything a refusal should have. */
async function refusal(path: string, body: Uint8Array | FormData): Promise<Refusal> {
  const answer = await fetch(api.url + path, {
    method: 'POST',
    body: body instanceof FormData ? body : new Uint8Array(body),
    headers: body instanceof FormData ? {} : { 'content-type': 'application/octet-stream' },
  });
  const problem = await answer.json();
  expect(answer.status, JSON.stringify(problem)).toBeGreaterThanOrEqual(400);
  expect(answer.status, JSON.stringify(problem)).toBeLessThan(500);
  expect(answer.headers.get('content-type')).toContain('application/problem+json');
  expect(problem.hint.length).toBeGreaterThan(10);
  expect(problem.detail).not.toMatch(/TypeError|Cannot read prop|undefined is not|\/tmp\/|at .+:\d+:\d+/);
  return problem;
}

const weights = { w: Tensor.float32([3, 3], ramp(9)) };
const gemm = node('Gemm', ['x', 'w'], ['y']);

/** Initializer `w` with its bytes in another file. */
const external = (location: string) =>
  modelBytes({
    nodes: [gemm],
    initializers: [{ name: 'w', dims: [3, 3], dataType: 1, dataLocation: 1, externalData: [{ key: 'location', value: location }] }],
  });

describe('models', () => {
  const good = Buffer.from(classifier());
  /** Field 7 (graph) with a length that reaches beyond the file, and beyond 2 GB. */
  const hostileLengths = Buffer.from([0x08, 0x08, 0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]);
  const deep = (() => {
    let bytes = Buffer.from([0x0a, 0x00]);
    for (let i = 0; i < 5000; i++) {
      const length = [];
      for (let rest = bytes.length; ; rest >>>= 7) {
        length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
        if (rest <= 0x7f) break;
      }
      bytes = Buffer.concat([Buffer.from([0x3a, ...length]), bytes]);
    }
    return bytes;
  })();

  const cases: [string, Uint8Array, RegExp, RegExp?][] = [
    ['not ONNX', Buffer.from('\x89PNG\r\n\x1a\n and so on, nothing of a model'), /^MODEL_(NOT_ONNX|TRUNCATED|INVALID)$/],
    ['truncated', good.subarray(0, good.length - 40), /^MODEL_(TRUNCATED|INVALID)$/],
    ['hostile protobuf lengths', hostileLengths, /^MODEL_(TRUNCATED|INVALID|NOT_ONNX)$/],
    ['protobuf nested without end', deep, /^MODEL_/],
    [
      'a cyclic graph',
      modelBytes({
        nodes: [node('Add', ['x', 'b'], ['a']), node('Relu', ['a'], ['b']), node('Gemm', ['b', 'w'], ['y'])],
        initializers: weights,
      }),
      /^MODEL_CYCLIC$/,
      /add_a|relu_b|"a"|"b"/,
    ],
    ['a missing initializer', modelBytes({ nodes: [gemm] }), /^MODEL_MISSING_TENSOR$/, /gemm_y|"w"/],
    [
      'wrong dtypes',
      modelBytes({ nodes: [gemm], initializers: { w: Tensor.int64([3, 3], ramp(9).map(Math.trunc)) } }),
      /^MODEL_(DTYPE|INVALID|RUN_FAILED)$/,
      /gemm_y|"?w"?/,
    ],
    [
      'external data outside of the zip',
      zip([{ name: 'model.onnx', data: Buffer.from(external('../../etc/passwd')) }]),
      /^MODEL_EXTERNAL_DATA$/,
      /w/,
    ],
    [
      'external data at an absolute path',
      zip([{ name: 'model.onnx', data: Buffer.from(external('/etc/passwd')) }]),
      /^MODEL_EXTERNAL_DATA$/,
      /w/,
    ],
    ['external data without a zip', external('weights.bin'), /^MODEL_EXTERNAL_DATA$/, /w/],
    [
      'a dimension of zero',
      modelBytes({ nodes: [gemm], inputs: [info('x', ['N', 0])], initializers: { w: Tensor.float32([0, 3], []) } }),
      /^MODEL_/,
    ],
    [
      'huge dimensions',
      modelBytes({ nodes: [gemm], initializers: [{ ...tensorProto('w', Tensor.float32([1], [1])), dims: [2 ** 31, 2 ** 31] }] }),
      /^MODEL_/,
      /w/,
    ],
    [
      'a Reshape to a tensor of terabytes',
      modelBytes({
        nodes: [node('ConstantOfShape', ['s'], ['c']), node('Add', ['x', 'c'], ['h']), node('Gemm', ['h', 'w'], ['y'])],
        initializers: { ...weights, s: Tensor.int64([2], [2 ** 40, 3]) },
      }),
      /^MODEL_/,
    ],
    [
      'a custom operator',
      modelBytes({
        nodes: [node('MyOp', ['x'], ['h'], [], { domain: 'com.example' }), node('Gemm', ['h', 'w'], ['y'])],
        initializers: weights,
      }),
      /^MODEL_UNSUPPORTED_OP$/,
      /myop_h|MyOp/,
    ],
    ['an opset from the future', modelBytes({ nodes: [gemm], initializers: weights, opset: 999 }), /^MODEL_OPSET_UNSUPPORTED$/],
    [
      'impossible shapes',
      modelBytes({
        nodes: [node('Conv', ['x', 'k'], ['y'], [ints('strides', [0, 0])])],
        inputs: [info('x', ['N', 3, 8, 8])],
        initializers: { k: Tensor.float32([4, 2, 3, 3], ramp(72)) },
      }),
      /^MODEL_/,
      /conv_y/,
    ],
    ['nothing to quantize', modelBytes({ nodes: [node('Relu', ['x'], ['y'])] }), /^MODEL_NOTHING_TO_QUANTIZE$/],
    ['a zip bomb', zip([{ name: 'model.onnx', data: Buffer.alloc(300_000_000), deflate: true }]), /^(MODEL_|DATASET_ARCHIVE)/],
    ['a zip without a model', zip([{ name: 'readme.txt', data: Buffer.from('hello') }]), /^MODEL_/],
    ['an empty graph', encode('Model', { irVersion: 8, opsetImport: [{ domain: '', version: 18 }] }), /^MODEL_/],
    [
      'an attribute of another type',
      modelBytes({ nodes: [node('Gemm', ['x', 'w'], ['y'], [int('alpha', 7)])], initializers: weights }),
      /^MODEL_/,
      /gemm_y/,
    ],
  ];
  it.concurrent.each(cases)('%s', { timeout: 300_000 }, async (_what, bytes, code, place) => {
    const problem = await refusal('/v1/models', bytes);
    expect(problem.code, JSON.stringify(problem)).toMatch(code);
    if (place !== undefined) expect(`${problem.detail} ${JSON.stringify(problem.place)}`).toMatch(place);
  });
});

describe('datasets', () => {
  const x = (values: number[]) => ({ name: 'x.npy', data: npy('<f4', [values.length / 2, 2], bytesOf(Float32Array.from(values))) });
  const y = (values: number[]) => ({ name: 'y.npy', data: npy('<i8', [values.length], bytesOf(BigInt64Array.from(values.map(BigInt)))) });
  const stored = Buffer.alloc(200_000_000);
  const bomb = zip([{ name: 'x.npy', data: Buffer.concat([npy('<f4', [25_000_000, 2], Buffer.alloc(0)), stored]), deflate: true }]);

  const cases: [string, Uint8Array, RegExp, RegExp?][] = [
    ['no known format', Buffer.from('once upon a time there was no dataset\0\0\0'), /^DATASET_UNREADABLE$/],
    ['NaN', zip([x([1, 2, Number.NaN, 4]), y([0, 1])]), /^DATASET_NOT_FINITE$/, /sample.{0,10}1/],
    ['infinity', zip([x([1, 2, 3, Number.POSITIVE_INFINITY]), y([0, 1])]), /^DATASET_NOT_FINITE$/, /sample.{0,10}1/],
    ['negative labels', zip([x([1, 2, 3, 4]), y([0, -1])]), /^DATASET_LABELS$/, /sample.{0,10}1/],
    ['labels out of all range', zip([x([1, 2, 3, 4]), y([0, 2 ** 40])]), /^DATASET_LABELS$/],
    ['fewer labels than samples', zip([x([1, 2, 3, 4]), y([0])]), /^DATASET_LABELS$/],
    ['no samples', zip([x([]), y([])]), /^DATASET_EMPTY$/],
    ['a header that promises more than there is', npy('<f4', [1_000_000, 10], Buffer.alloc(40)), /^DATASET_/],
    ['a header of absurd dimensions', npy('<f4', [2 ** 40, 2 ** 20], Buffer.alloc(40)), /^DATASET_/],
    ['pickled objects', npy('|O', [2], Buffer.alloc(40)), /^DATASET_UNREADABLE$/],
    ['a zip bomb', bomb, /^DATASET_(ARCHIVE|TOO_LARGE)$/],
    [
      'a zip with a path that climbs',
      zip([{ name: '../../x.npy', data: npy('<f4', [2, 2], Buffer.alloc(16)) }]),
      /^DATASET_(ARCHIVE|UNREADABLE)$/,
    ],
    ['an encrypted zip', zip([{ ...x([1, 2, 3, 4]), encrypted: true }, y([0, 1])]), /^DATASET_ARCHIVE$/],
    ['a zip cut off', points().subarray(0, 400), /^DATASET_/],
    ['CSV with text among numbers', Buffer.from('a,b,label\n1,2,0\n3,oops,1\n'), /^DATASET_/],
    ['an entry that lies about its size', zip([{ ...x([1, 2, 3, 4]), size: 10 ** 9 }, y([0, 1])]), /^DATASET_/],
  ];
  it.concurrent.each(cases)('%s', { timeout: 300_000 }, async (_what, bytes, code, place) => {
    const problem = await refusal('/v1/datasets', bytes);
    expect(problem.code, JSON.stringify(problem)).toMatch(code);
    if (place !== undefined) expect(`${problem.detail} ${JSON.stringify(problem.place)}`).toMatch(place);
  });
});

describe('one-shot jobs', () => {
  const model = classifier();
  const cases: [string, Record<string, string | Uint8Array>, string, string?][] = [
    ['no dataset', { model }, 'MULTIPART_INVALID', '/dataset'],
    ['an empty dataset', { model, dataset: new Uint8Array(0) }, 'BODY_EMPTY', '/dataset'],
    ['a config that is no JSON', { model, dataset: points(), config: '{method: qat}' }, 'JSON_INVALID'],
    ['a config that is a list', { model, dataset: points(), config: '[]' }, 'JSON_INVALID'],
    ['unknown keys', { model, dataset: points(), config: '{"training": {"epoch": 1}}' }, 'CONFIG_INVALID', '/training/epoch'],
    ['impossible values', { model, dataset: points(), config: '{"training": {"epochs": -1}}' }, 'CONFIG_INVALID', '/training/epochs'],
    [
      'unknown keys in the config of the dataset',
      { model, dataset: points(), config: '{"datasetConfig": {"colour": "red"}}' },
      'DATASET_CONFIG',
      '/datasetConfig/colour',
    ],
    [
      'a metric that the data do not have',
      { model, dataset: points(), config: '{"evaluation": {"metric": "r2"}}' },
      'CONFIG_IMPOSSIBLE',
      '/evaluation/metric',
    ],
    ['more classes than outputs', { model, dataset: points({ classes: 4 }) }, 'DATASET_CLASSES'],
    ['samples of another shape', { dataset: points({ features: 7 }), model }, 'DATASET_SHAPE'],
    ['an evaluation set of another shape', { evaluation: points({ features: 7 }), dataset: points(), model }, 'DATASET_SHAPE'],
  ];
  it.concurrent.each(cases)('%s', { timeout: 300_000 }, async (_what, parts, code, pointer) => {
    const problem = await refusal('/v1/jobs', form(parts));
    expect(problem, JSON.stringify(problem)).toMatchObject({ code });
    if (pointer !== undefined) expect(problem.errors.map((one) => one.pointer)).toContain(pointer);
  });

  it('leaves nothing of what was refused, and takes a good one in any order of its parts', async () => {
    const kept = async (path: string) => (await (await fetch(api.url + path)).json()).items.length;
    expect([await kept('/v1/models'), await kept('/v1/datasets'), await kept('/v1/jobs')]).toEqual([0, 0, 0]);
    const config = JSON.stringify({ method: 'ptq', seed: 7, datasetConfig: { scale: 2 }, metadata: { from: 'test' } });
    const parts = { config, evaluation: points({ samples: 30 }), dataset: points(), model };
    const send = (headers = {}) => fetch(`${api.url}/v1/jobs`, { method: 'POST', body: form(parts), headers });
    const answer = await send({ 'idempotency-key': 'one' });
    const job = await answer.json();
    expect(answer.status, JSON.stringify(job)).toBe(202);
    expect(answer.headers.get('location')).toBe(`/v1/jobs/${job.id}`);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(job).toMatchObject({ state: 'queued', queuePosition: 1, recipe: { method: 'ptq', seed: 7 }, metadata: { from: 'test' } });
    const dataset = async (id: string) => (await fetch(`${api.url}/v1/datasets/${id}`)).json();
    expect(await dataset(job.dataset)).toMatchObject({ config: { scale: 2 }, summary: { samples: 60 } });
    expect(await dataset(job.evaluationDataset)).toMatchObject({ config: { scale: 2 }, summary: { samples: 30 } });
    expect(await (await send({ 'idempotency-key': 'one' })).json()).toMatchObject({ id: job.id });
    expect(await kept('/v1/jobs')).toBe(1);
  });
});
