import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { failure } from '../../data/testing/files.js';
import { Graph, type Value } from '../../ir/graph.js';
import { inferShapes } from '../../ir/infer.js';
import type { Attrs } from '../../ir/ops.js';
import { difference, graphOf, runGraph } from '../../normalise/testing/oracle.js';
import { Random } from '../../tensor/random.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { lowerToBlocked } from './blocked.js';
import { OrtEngine } from './ort.js';
import { probeBlock } from './probe.js';

const engine = new OrtEngine();

function randomTensor(shape: readonly number[], seed: number): Tensor<'float32'> {
  const random = new Random(seed);
  return Tensor.float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );
}

/** A Conv whose weights (and bias) are inputs, as in a training step. */
function convolution(x: readonly number[], w: readonly number[], attrs: Attrs<'Conv'>, bias = true): Graph {
  const graph = new Graph('conv');
  const inputs = [graph.input('x', { dtype: 'float32', shape: x }), graph.input('w', { dtype: 'float32', shape: w })];
  if (bias) inputs.push(graph.input('b', { dtype: 'float32', shape: [w[0] as number] }));
  graph.outputs.push(graph.node('Conv', inputs, attrs, { outputNames: ['y'] }).output());
  inferShapes(graph);
  return graph;
}

const feedsOf = (graph: Graph) =>
  Object.fromEntries(graph.inputs.map((value, i) => [value.name, randomTensor(value.shape as number[], i + 1)]));

/** The block size of the processor that runs the test. */
const blockHere = () => probeBlock(ort, { intraOpNumThreads: 1, logSeverityLevel: 3 });

const internalOps = (graph: Graph) =>
  graph.nodes.filter((node) => node.opaque?.domain === 'com.microsoft.nchwc').map((node) => node.opName);

const sixteen = [2, 16, 7, 6];

describe('convolutions of a training graph', () => {
  it.runIf(process.arch === 'x64')('find the blocked kernels of every x86 processor', async () => {
    expect([8, 16]).toContain(await blockHere());
  });

  it.each([
    ['3x3', sixteen, [32, 16, 3, 3], { pads: [1, 1, 1, 1] }, true],
    ['3x3 without bias', sixteen, [16, 16, 3, 3], {}, false],
    ['stride 2, uneven pads', sixteen, [16, 16, 3, 3], { strides: [2, 2], pads: [0, 1, 1, 0] }, true],
    ['dilated', sixteen, [16, 16, 3, 2], { dilations: [2, 2], pads: [2, 1, 2, 1] }, true],
    ['5x5', sixteen, [16, 16, 5, 5], { pads: [2, 2, 2, 2] }, true],
    ['first layer: 3 channels', [2, 3, 8, 8], [16, 3, 3, 3], { pads: [1, 1, 1, 1] }, true],
    ['first layer: 1 channel', [2, 1, 8, 8], [16, 1, 3, 3], {}, true],
    ['depthwise', sixteen, [16, 1, 3, 3], { group: 16, pads: [1, 1, 1, 1] }, true],
    ['depthwise, stride 2', sixteen, [16, 1, 3, 3], { group: 16, strides: [2, 2], pads: [1, 1, 1, 1] }, false],
    ['VALID', sixteen, [16, 16, 3, 3], { auto_pad: 'VALID' }, true],
  ] as const)('%s: the blocked kernel computes what the plain one does', async (_what, x, w, attrs, bias) => {
    const graph = convolution(x, w, { kernel_shape: w.slice(2), ...attrs } as Attrs<'Conv'>, bias);
    const feeds = feedsOf(graph);
    const wanted = await runGraph(graph, feeds);
    const program = await engine.compile(graph, { threads: 1, mode: 'train' });
    expect(difference(wanted, await program.run(feeds))).toBeLessThan(1e-5);
    await program.dispose();
    const block = await blockHere();
    if (block !== undefined) {
      const lowered = graph.clone();
      lowerToBlocked(lowered, block);
      expect(difference(wanted, await runGraph(lowered, feeds))).toBeLessThan(1e-5);
    }
    for (const block of [8, 16]) {
      const lowered = graph.clone();
      lowerToBlocked(lowered, block);
      expect(internalOps(lowered)).toContain('Conv');
      expect(internalOps(lowered)).toContain('ReorderOutput');
      expect(lowered.outputs.map((value) => value.name)).toEqual(['y']);
    }
    expect(graph.nodes.map((node) => node.op)).toEqual(['Conv']);
  });

  it.each([
    ['1x1', sixteen, [16, 16, 1, 1], {}],
    ['groups that are not depthwise', sixteen, [16, 4, 3, 3], { group: 4 }],
    ['output channels that fill no block', sixteen, [12, 16, 3, 3], {}],
    ['input channels that fill no block', [2, 12, 7, 6], [16, 12, 3, 3], {}],
    ['one dimension', [2, 16, 9], [16, 16, 3], {}],
    ['two outputs a channel', sixteen, [32, 1, 3, 3], { group: 16 }],
    ['SAME_UPPER', sixteen, [16, 16, 3, 3], { auto_pad: 'SAME_UPPER' }],
  ] as const)('%s stays with the plain kernel', async (_what, x, w, attrs) => {
    const graph = convolution(x, w, { kernel_shape: w.slice(2), ...attrs } as Attrs<'Conv'>);
    const lowered = graph.clone();
    lowerToBlocked(lowered, 16);
    expect(internalOps(lowered)).toEqual([]);
    const feeds = feedsOf(graph);
    const program = await engine.compile(graph, { threads: 1, mode: 'train' });
    expect(difference(await runGraph(graph, feeds), await program.run(feeds))).toBeLessThan(1e-5);
    await program.dispose();
  });

  it('compute a Relu along that alone reads their result', async () => {
    const graph = (relus: number, output: boolean) => {
      const g = convolution(sixteen, [16, 16, 3, 3], { pads: [1, 1, 1, 1], kernel_shape: [3, 3] });
      const y = g.outputs[0] as Value;
      y.name = 'z';
      const reader = (i: number) => g.node(i ? 'Neg' : 'Relu', [y], {}, { outputNames: [`y${i}`] }).output();
      g.outputs.splice(0, 1, ...(output ? [y] : []), ...Array.from({ length: relus }, (_, i) => reader(i)));
      inferShapes(g);
      return g;
    };
    for (const [readers, output, alone] of [
      [1, false, true],
      [2, false, false],
      [1, true, false],
    ] as const) {
      const plain = graph(readers, output);
      const lowered = plain.clone();
      lowerToBlocked(lowered, (await blockHere()) ?? 16);
      expect(lowered.nodes.some((node) => node.op === 'Relu')).toBe(!alone);
      const feeds = feedsOf(plain);
      const program = await engine.compile(plain, { threads: 1, mode: 'train' });
      expect(difference(await runGraph(plain, feeds), await program.run(feeds))).toBeLessThan(1e-5);
      await program.dispose();
    }
  });

  /** A depthwise Conv with its weight gradient as one, and with the gradient by its input where that is wanted. */
  const depthwiseStep = (channels: number, alsoReadPlain: boolean) => {
    const g = new Graph('step');
    const [n, h, w] = [2, 6, 5];
    const image = [n, channels, h, w];
    const input = (name: string, shape: number[]) => g.input(name, { dtype: 'float32', shape });
    const [x, dy, weights] = [input('x', image), input('dy', image), input('w', [channels, 1, 3, 3])];
    const conv = (name: string, of: Value, filter: Value, group: number, kernel: number[]) =>
      g.node('Conv', [of, filter], { group, kernel_shape: kernel, pads: [1, 1, 1, 1] }, { outputNames: [name] }).output();
    const reshaped = (of: Value, shape: number[], name: string) =>
      g.node('Reshape', [of, g.constant(`${name}_shape`, Tensor.ints(shape))], {}, { outputNames: [name] }).output();
    const y = conv('y', x, weights, channels, [3, 3]);
    const dx = conv('dx', dy, weights, channels, [3, 3]);
    const rows = reshaped(x, [1, n * channels, h, w], 'rows');
    const filters = reshaped(dy, [n * channels, 1, h, w], 'filters');
    g.outputs.push(y, dx);
    inferShapes(g);
    g.outputs.push(conv('dw', rows, filters, n * channels, [h, w]));
    if (alsoReadPlain) g.outputs.push(g.node('Neg', [x], {}, { outputNames: ['negative'] }).output());
    inferShapes(g);
    return g;
  };

  it.each([
    ['each image once', 16, false, 2],
    ['an image whose plain form is kept anyway once more', 16, true, 3],
    ['only what fills a block', 24, false, 1],
  ] as const)('of a depthwise layer and its gradients reorder %s', async (_what, channels, alsoReadPlain, reorders) => {
    const graph = depthwiseStep(channels, alsoReadPlain);
    const lowered = graph.clone();
    lowerToBlocked(lowered, 16);
    expect(internalOps(lowered).filter((op) => op === 'ReorderInput')).toHaveLength(reorders);
    const feeds = feedsOf(graph);
    const program = await engine.compile(graph, { threads: 1, mode: 'train' });
    expect(difference(await runGraph(graph, feeds), await program.run(feeds))).toBeLessThan(1e-5);
    await program.dispose();
  });

  it('with constant weights is left to the runtime', () => {
    const graph = graphOf('graph g (x: float32[N, 16, 7, 7]) opset 18\ny = Conv(x, w=float32[16, 16, 3, 3]#)\nreturn y');
    lowerToBlocked(graph, 16);
    expect(internalOps(graph)).toEqual([]);
  });
});

describe('shards', () => {
  /** Something whose sums have an order: a convolution and a product. */
  const graph = () => {
    const g = convolution(sixteen, [16, 16, 3, 3], { pads: [1, 1, 1, 1], kernel_shape: [3, 3] });
    const flat = g.node('Flatten', [g.outputs[0]]).output();
    const v = g.input('v', { dtype: 'float32', shape: [16 * 42, 5] });
    g.outputs.splice(0, 1, g.node('MatMul', [flat, v], {}, { outputNames: ['z'] }).output());
    inferShapes(g);
    return g;
  };
  const parts = (count: number) => Array.from({ length: count }, (_, i) => ({ ...feedsOf(graph()), x: randomTensor(sixteen, 100 + i) }));
  const bits = (results: readonly Record<string, Tensor>[]) =>
    results.map((result) => Buffer.from((result.z as Tensor).raw).toString('hex'));

  it('on threads have the bits of shards one after the other, in order', async () => {
    const feeds = parts(5);
    const sequential = await engine.compileSharded(graph(), { threads: 1, shards: 5 });
    const wanted = bits(await sequential.run(feeds));
    await sequential.dispose();
    expect(new Set(wanted).size).toBe(5);
    for (const threads of [2, 8]) {
      const threaded = await engine.compileSharded(graph(), { threads, shards: 5 });
      expect(bits(await threaded.run(feeds))).toEqual(wanted);
      expect(bits(await threaded.run([...feeds].reverse()))).toEqual([...wanted].reverse());
      await threaded.dispose();
    }
  });

  it('leave what they are fed alone, also views of a larger array', async () => {
    const threaded = await engine.compileSharded(graph(), { threads: 2, shards: 2 });
    const feeds = parts(2);
    const whole = Float32Array.from(feeds.flatMap((feed) => [...feed.x.data]));
    const half = whole.length / 2;
    const views = feeds.map((feed, i) => ({ ...feed, x: Tensor.float32(sixteen, whole.subarray(i * half, (i + 1) * half)) }));
    expect(bits(await threaded.run(views))).toEqual(bits(await threaded.run(feeds)));
    expect(whole.byteLength).toBe(2 * half * 4);
    await threaded.dispose();
  });

  it('report what the runtime says, and go on', async () => {
    const threaded = await engine.compileSharded(graph(), { threads: 2, shards: 2 });
    const good: Record<string, Tensor> = parts(1)[0] ?? {};
    const error = await failure('MODEL_RUN_FAILED', () => threaded.run([good, { ...good, x: randomTensor([2, 16, 3, 3], 1) }]));
    expect(error.message).toContain('x');
    expect(await threaded.run([good])).toHaveLength(1);
    await threaded.dispose();
  });

  it('finish what they are at before they are disposed', async () => {
    for (let i = 0; i < 5; i++) {
      const threaded = await engine.compileSharded(graph(), { threads: 2, shards: 4 });
      const going = threaded.run(parts(4));
      await new Promise((resolve) => setTimeout(resolve, i));
      await threaded.dispose();
      expect(await going).toHaveLength(4);
    }
  });

  it('of several programs on the same threads keep their results apart', async () => {
    const [first, second] = [
      await engine.compileSharded(graph(), { threads: 2, shards: 2 }),
      await engine.compileSharded(graph(), { threads: 2, shards: 2 }),
    ];
    const results = await first.run(parts(2));
    const kept = bits(results);
    expect(bits(await second.run([...parts(2)].reverse()))).toEqual([...kept].reverse());
    expect(bits(results)).toEqual(kept);
    await second.dispose();
    expect(bits(await first.run(parts(2)))).toEqual(kept);
    await first.dispose();
  });

  it('wait for each other', async () => {
    const threaded = await engine.compileSharded(graph(), { threads: 2, shards: 3 });
    const [first, second] = [parts(3), parts(3).map((feeds, i) => ({ ...feeds, x: randomTensor(sixteen, 200 + i) }))];
    const alone = [bits(await threaded.run(first)), bits(await threaded.run(second))];
    const together = await Promise.all([threaded.run(first).then(bits), threaded.run(second).then(bits)]);
    expect(together).toEqual(alone);
    await threaded.dispose();
  });

  it('refuse work when they are disposed', async () => {
    const threaded = await engine.compileSharded(graph(), { threads: 2, shards: 2 });
    await threaded.dispose();
    await expect(threaded.run(parts(2))).rejects.toThrow();
  });

  it('of a graph that cannot be compiled leave the threads to others', async () => {
    const broken = graph();
    const node = broken.nodes.find((one) => one.op === 'MatMul');
    node?.setInput(1, broken.input('narrow', { dtype: 'float32', shape: [3, 5] }));
    await failure('MODEL_RUN_FAILED', () => engine.compileSharded(broken, { threads: 2, shards: 2 }));
    const threaded = await engine.compileSharded(graph(), { threads: 2, shards: 2 });
    expect(await threaded.run(parts(2))).toHaveLength(2);
    await threaded.dispose();
  });
});

it('says which file it could not load, in the words of the runtime', async () => {
  const error = await failure('MODEL_RUN_FAILED', () => engine.load('nowhere.onnx', { threads: 1, mode: 'infer' }));
  expect(error.message).toContain('nowhere.onnx');
});

describe('weights too many for one message', () => {
  const large = () =>
    graphOf(`graph g (x: float32[N, 200]) opset 18
      h = Gemm(x, w=float32[200, 300]#, b=float32[300]#)
      r = Relu(h)
      y = Gemm(r, v=float32[300, 100]#, c=float32[100]#)
      return y`);
  const x = randomTensor([4, 200], 3);

  it.each(['train', 'infer'] as const)('are mapped from a file, mode %s', async (mode) => {
    const directory = await mkdtemp(join(tmpdir(), 'octet-mapped-'));
    const mapping = new OrtEngine(1000);
    mapping.layFilesIn(directory);
    const inside = await engine.compile(large(), { threads: 1, mode });
    const graph = large();
    const [mapped, again] = [await mapping.compile(graph, { threads: 1, mode }), await mapping.compile(graph, { threads: 1, mode })];
    const wanted = await inside.run({ x });
    expect(difference(wanted, await mapped.run({ x }))).toBeLessThan(1e-5);
    expect(difference(wanted, await again.run({ x }))).toBeLessThan(1e-5);
    const [file = ''] = await readdir(directory);
    expect((await stat(join(directory, file))).size).toBeLessThan(4 * (200 * 300 + 300 * 100) + 8192);
    for (const program of [inside, mapped, again]) await program.dispose();
    await rm(directory, { recursive: true });
  });

  it('by threads as well, and without a directory given', async () => {
    const mapping = new OrtEngine(1000);
    const threaded = await mapping.compileSharded(large(), { threads: 2, shards: 2 });
    const inside = await engine.compile(large(), { threads: 1, mode: 'train' });
    const wanted = await inside.run({ x });
    for (const result of await threaded.run([{ x }, { x }])) expect(difference(wanted, result)).toBeLessThan(1e-5);
    await threaded.dispose();
    await inside.dispose();
  });
});
