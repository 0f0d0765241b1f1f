import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { writeOnnx } from '../formats/onnx/write.js';
import { Tensor } from '../tensor/tensor.js';
import { measureLatency } from './latency.js';
import { inspectRuntime, kindOfNode, readProfile, runsFor } from './runtime.js';
import { linearGraph, qdqGraph } from './testing/models.js';

const engine = new OrtEngine();
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-runtime-'));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

describe('inspectRuntime', () => {
  it('counts what really became integer in a QDQ model', async () => {
    const path = join(directory, 'qdq.onnx');
    await writeFile(path, writeOnnx(qdqGraph()));
    const feeds = {
      x: Tensor.float32(
        [2, 1, 4, 4],
        Array.from({ length: 32 }, (_, i) => i / 32),
      ),
    };
    const figures = await inspectRuntime({ engine, path, threads: 1, feeds, directory, runs: 2 });
    // ONNX Runtime turns Conv-Relu into QLinearConv and Gemm into QGemm; the input is quantized once, Softmax stays float.
    expect(figures.byOp).toMatchObject({ QLinearConv: 1, QGemm: 1, Softmax: 1, QuantizeLinear: 1, DequantizeLinear: 1 });
    expect(figures.boundaryNodes).toBe(2);
    expect(figures.floatNodes).toBe(1);
    expect(figures.integerNodes).toBe(Object.values(figures.byOp).reduce((sum, n) => sum + n, 0) - 3);
    expect(figures.integerTimeShare).toBeGreaterThan(0);
    expect(figures.integerTimeShare).toBeLessThan(1);
    expect(await readdir(directory)).toEqual(['qdq.onnx']);
  });

  it('finds nothing integer in a float model', async () => {
    const path = join(directory, 'float.onnx');
    await writeFile(path, writeOnnx(linearGraph([[1, 2]])));
    const figures = await inspectRuntime({ engine, path, threads: 1, feeds: { x: Tensor.float32([1, 2], [1, 2]) }, directory, runs: 1 });
    expect(figures).toMatchObject({ integerNodes: 0, boundaryNodes: 0, integerTimeShare: 0 });
    expect(figures.floatNodes).toBeGreaterThan(0);
  });
});

describe('kindOfNode', () => {
  it.each([
    ['QLinearConv', ['uint8', 'float', 'uint8'], ['uint8'], 'integer'],
    ['QLinearConcat', ['float', 'uint8', 'uint8'], ['uint8'], 'integer'],
    ['MatMulIntegerToFloat', ['uint8', 'int8'], ['float'], 'integer'],
    ['DynamicQuantizeMatMul', ['float', 'int8'], ['float'], 'integer'],
    ['MaxPool', ['uint8'], ['uint8'], 'integer'],
    ['Transpose', ['int8'], ['int8'], 'integer'],
    ['Transpose', ['float'], ['float'], 'float'],
    ['Conv', ['float', 'float'], ['float'], 'float'],
    ['QuantizeLinear', ['float', 'float', 'uint8'], ['uint8'], 'boundary'],
    ['DequantizeLinear', ['uint8', 'float', 'uint8'], ['float'], 'boundary'],
    ['DynamicQuantizeLinear', ['float'], ['uint8', 'float', 'uint8'], 'boundary'],
    ['Cast', ['uint8'], ['float'], 'float'],
    ['Cast', ['int32'], ['int64'], 'shape'],
    ['Shape', ['float'], ['int64'], 'shape'],
    ['Gather', ['int64', 'int64'], ['int64'], 'shape'],
  ] as const)('%s of %j', (op, inputs, outputs, kind) => {
    expect(kindOfNode(op, inputs, outputs)).toBe(kind);
  });
});

describe('readProfile', () => {
  const node = (name: string, op: string, type: string, ts: number, dur: number) => ({
    cat: 'Node',
    name: `${name}_kernel_time`,
    ts,
    dur,
    args: { op_name: op, node_index: name, input_type_shape: [{ [type]: [1] }], output_type_shape: [{ [type]: [1] }] },
  });
  const run = (ts: number) => ({ cat: 'Session', name: 'model_run', ts, dur: 90 });
  const text = JSON.stringify([
    node('1', 'Conv', 'float', 1, 1000),
    node('2', 'QLinearConv', 'uint8', 50, 1000),
    run(0),
    node('1', 'Conv', 'float', 101, 10),
    node('2', 'QLinearConv', 'uint8', 150, 30),
    run(100),
  ]);

  it('is taken of fewer runs where a model has very many nodes, of one at least', () => {
    expect([10, 8_000, 40_000, 1_000_000, 0].map(runsFor)).toEqual([20, 20, 2, 1, 20]);
  });

  it('leaves the runs that warm up out of the time', () => {
    expect(readProfile(text, 1)).toEqual({
      integerNodes: 1,
      floatNodes: 1,
      boundaryNodes: 0,
      integerTimeShare: 0.75,
      byOp: { Conv: 1, QLinearConv: 1 },
    });
    expect(readProfile(text, 0).integerTimeShare).toBeCloseTo(1030 / 2040, 12);
  });

  it('tells a damaged profile', () => {
    expect(() => readProfile(text.slice(0, 20))).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    expect(() => readProfile('{}')).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    expect(readProfile('[]').integerTimeShare).toBeNull();
  });
});

describe('measureLatency', () => {
  const counting = () => {
    const seen: string[] = [];
    const program = (name: string) => ({
      run: async (feeds: Record<string, Tensor>) => {
        seen.push(`${name}${feeds.x!.shape[0]}`);
        return {};
      },
      dispose: async () => {},
    });
    return { seen, float: program('f'), int8: program('i') };
  };
  const feeds = (batch: number) => ({ x: Tensor.zeros('float32', [batch, 1]) });

  it('lets float and int8 take turns, each first every other time', async () => {
    const { seen, float, int8 } = counting();
    const result = await measureLatency({ float, int8, feeds, runs: 6 });
    const single = seen.filter((name) => name.endsWith('1'));
    expect(single.slice(0, 8)).toEqual(['f1', 'i1', 'i1', 'f1', 'f1', 'i1', 'f1', 'i1']);
    expect(single).toHaveLength(2 * ((result.float.runs as number) + 3));
    expect(seen.filter((name) => name.endsWith('32'))).toHaveLength(2 * ((result.float.batch32.runs as number) + 3));
    expect(result.float.batch32.samples).toBe(32);
    expect(result.ratio?.batch1.value).toBeGreaterThan(0);
    expect(result.float.p95Ms).toBeGreaterThanOrEqual(result.float.p50Ms);
    expect(result.int8.batch32.p50Ms).toBeGreaterThan(0);
  });

  it('stops at the budget, but never under three runs', async () => {
    const { float, int8 } = counting();
    expect((await measureLatency({ float, int8, feeds, runs: 1000, budgetSeconds: 0 })).float.runs).toBe(3);
  });

  it('runs a model of fixed batch with that, and scales to 32 samples', async () => {
    const { seen, float, int8 } = counting();
    const { int8: figures } = await measureLatency({ float, int8, feeds, runs: 5, fixedBatch: 10 });
    expect(seen.every((name) => name.endsWith('10'))).toBe(true);
    expect(figures.batch32.samples).toBe(10);
  });

  it('a batch that memory does not allow is not run', async () => {
    const { seen, float, int8 } = counting();
    await measureLatency({ float, int8, feeds, runs: 5, largestBatch: 12 });
    expect(new Set(seen.map((name) => name.slice(1)))).toEqual(new Set(['1', '8']));
  });

  it('stops when the job is cancelled', async () => {
    const { float, int8 } = counting();
    await expect(measureLatency({ float, int8, feeds, runs: 5, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
