import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { failure } from '../../data/testing/files.js';
import { inspectRuntime } from '../../evaluate/runtime.js';
import { writeOnnx } from '../../formats/onnx/write.js';
import type { Graph } from '../../ir/graph.js';
import { difference, graphOf, randomFeeds, runGraph } from '../../normalise/testing/oracle.js';
import { Tensor } from '../../tensor/tensor.js';
import { loadBackend } from './backend.js';
import { TfjsEngine } from './tfjs.js';

const engine = await TfjsEngine.create('wasm');
const { tf } = await loadBackend('wasm');
const train = { threads: 1, mode: 'train' } as const;

const layers = () =>
  graphOf(`graph g (x: float32[N, 2, 6, 6]) opset 18
    q = QuantizeLinear(x, s=float32[]{0.05}, z=uint8[]{128})
    d = DequantizeLinear(q, s, z)
    c = Conv(d, w=float32[4, 2, 3, 3]#) {pads=[1, 1, 1, 1]}
    r = Relu(c)
    p, i = MaxPool(r) {kernel_shape=[2, 2], strides=[2, 2]}
    f = Flatten(p)
    y = Gemm(f, v=float32[36, 3]#)
    return y, d, x`);

describe('a program', () => {
  it('takes batches of any size, and gives memory of its own', async () => {
    const graph = layers();
    const program = await engine.compile(graph, train);
    for (const n of [1, 5]) {
      const x = Tensor.float32([n, 2, 6, 6], new Float32Array(n * 72).fill(0.3));
      const results = await program.run({ x });
      expect(difference(await runGraph(graph, { x }), results)).toBeLessThan(1e-5);
      (results.x as Tensor<'float32'>).data.fill(9);
      expect(x.data[0]).toBe(Math.fround(0.3));
    }
    await program.dispose();
  });

  it('frees what it made, on the way, at the end, and when it fails', async () => {
    const graph = layers();
    const before = tf.memory().numTensors;
    const program = await engine.compile(graph, train);
    await program.run(randomFeeds(graph));
    const constants = tf.memory().numTensors;
    expect(constants).toBeLessThan(before + 6);
    await program.run(randomFeeds(graph));
    expect(tf.memory().numTensors).toBe(constants);
    await program.dispose();
    expect(tf.memory().numTensors).toBe(before);
    const broken = graphOf('graph g (x: float32[N, M], i: float32[2]) opset 18\na = Relu(x)\ny = Gather(a, k=int64[1]{7})\nreturn y');
    const failing = await engine.compile(broken, train);
    const feeds = { x: Tensor.float32([2, 2], [1, 2, 3, 4]), i: Tensor.float32([2], [1, 2]) };
    const error = await failure('MODEL_RUN_FAILED', () => failing.run(feeds));
    expect(error.message).toContain('Gather y: index 7 is outside of an axis of 2');
    expect(error.place).toMatchObject({ node: 'y', op: 'Gather' });
    await failing.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('a value that is handed on outlives the one it was', async () => {
    const graph = graphOf(
      'graph g (x: float32[2, 3]) opset 18\na = Relu(x)\nb = Identity(a)\nc = Cast(b) {to=float32}\ny = Neg(c)\nreturn y, b',
    );
    const feeds = randomFeeds(graph);
    const program = await engine.compile(graph, train);
    expect(difference(await runGraph(graph, feeds), await program.run(feeds))).toBe(0);
    await program.dispose();
  });

  it('refuses what does not fit its inputs', async () => {
    const program = await engine.compile(layers(), train);
    const refused = async (feeds: Record<string, Tensor>) => (await failure('MODEL_RUN_FAILED', () => program.run(feeds))).message;
    expect(await refused({})).toBe('Input "x" is not given');
    expect(await refused({ x: Tensor.float32([1, 2, 6], new Float32Array(12)) })).toBe('Input "x" has shape [1,2,6], wanted [N,2,6,6]');
    expect(await refused({ x: Tensor.ints([1]) })).toBe('Input "x" is int64, wanted float32');
    await program.dispose();
  });

  it('keeps the graph that was compiled, whatever becomes of it', async () => {
    const graph = layers();
    const feeds = randomFeeds(graph);
    const program = await engine.compile(graph, train);
    const wanted = await program.run(feeds);
    graph.outputs.splice(0, 1);
    expect(await program.run(feeds)).toEqual(wanted);
    await program.dispose();
  });
});

describe('what TF.js cannot do', () => {
  const compiled = (text: string): [Graph, Promise<unknown>] => {
    const graph = graphOf(text);
    return [graph, engine.compile(graph, train)];
  };

  it('is named: every operator without a kernel', async () => {
    const [, made] = compiled(`graph g (x: float32[2]) opset 18
      a = Opaque<ai.onnx, Shrink, 1>(x) @first
      b = Opaque<ai.onnx, Shrink, 1>(a)
      y = Opaque<ai.onnx, Multinomial, 1>(b)
      return y`);
    const error = await failure('ENGINE_UNSUPPORTED_OP', () => made);
    expect(error.message).toBe('The TF.js engine has no kernel for Shrink, Multinomial (node first)');
    expect(error.place).toEqual({ node: 'first', op: 'Shrink' });
  });

  it.each([
    ['a type', 'graph g (x: float64[2]) opset 18\ny = Relu(x)\nreturn y', 'TF.js has no float64 (tensor "x")'],
    [
      'half precision',
      'graph g (x: float32[2]) opset 18\nh = Cast(x) {to=float16}\ny = Cast(h) {to=float32}\nreturn y',
      'TF.js has no float16',
    ],
  ])('%s', async (_what, text, message) => {
    expect((await failure('ENGINE_UNSUPPORTED_TYPE', () => compiled(text)[1])).message).toContain(message);
  });

  it('an integer of more than 32 bits', async () => {
    const graph = graphOf('graph g (x: int64[1]) opset 18\ny = Neg(x)\nreturn y');
    const program = await engine.compile(graph, train);
    const error = await failure('ENGINE_UNSUPPORTED_TYPE', () => program.run({ x: Tensor.ints([2 ** 40]) }));
    expect(error.message).toContain('x (int64) has 1099511627776');
    await program.dispose();
  });

  it.each([
    ['Add', 'graph g (x: uint8[2]) opset 18\ny = Add(x, x)\nreturn y', 'arithmetic on uint8'],
    [
      'Resize',
      'graph g (x: float32[1, 1, 4, 4]) opset 18\ny = Resize(x, _, s=float32[4]{1, 1, 0.5, 0.5}) {mode="linear", antialias=1}\nreturn y',
      'antialias',
    ],
    ['Einsum', 'graph g (x: float32[3, 3]) opset 18\ny = Einsum(x) {equation="ii->i"}\nreturn y', 'the equation "ii->i"'],
  ])('a form of %s', async (op, text, what) => {
    const graph = graphOf(text);
    const program = await engine.compile(graph, train);
    const feeds = op === 'Add' ? { x: new Tensor('uint8', [2], Uint8Array.of(200, 100)) } : randomFeeds(graph);
    const error = await failure('ENGINE_UNSUPPORTED_OP', () => program.run(feeds));
    expect(error.message).toBe(`The TF.js engine cannot run ${op} y: ${what}`);
    await program.dispose();
  });
});

it('loads a model file as it came, and its profile counts no integer node', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'octet-tfjs-'));
  try {
    const graph = layers();
    const path = join(directory, 'model.onnx');
    await writeFile(path, writeOnnx(graph));
    const feeds = randomFeeds(graph);
    const program = await engine.load(path, { threads: 1, mode: 'infer' });
    expect(difference(await runGraph(graph, feeds), await program.run(feeds))).toBeLessThan(1e-5);
    await program.dispose();
    const figures = await inspectRuntime({ engine, path, threads: 1, feeds, directory, runs: 2 });
    expect(figures).toMatchObject({ integerNodes: 0, boundaryNodes: 2, byOp: { Conv: 1, QuantizeLinear: 1, MaxPool: 1 } });
    expect(figures.integerTimeShare).toBe(0);
    expect((await readFile(path)).length).toBeGreaterThan(0);
    await failure('MODEL_RUN_FAILED', () => engine.load(join(directory, 'nowhere.onnx'), { threads: 1, mode: 'infer' }));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
