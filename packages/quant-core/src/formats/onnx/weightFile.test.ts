import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { graphOf, randomFeeds, runGraph } from '../../normalise/testing/oracle.js';
import { Tensor } from '../../tensor/tensor.js';
import { readOnnx } from './read.js';
import { WeightFile } from './weightFile.js';
import { writeOnnx } from './write.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-weights-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const net = () =>
  graphOf(`graph g (x: float32[N, 200]) opset 18
    h = Gemm(x, w=float32[200, 300]#, b=float32[300]#)
    r = Relu(h)
    y = Gemm(r, v=float32[300, 100]#, c=float32[100]#)
    return y`);

it('large constants lie in a file beside the model, which the runtime and the reader find', async () => {
  const graph = net();
  const weights = new WeightFile(join(directory, 'net.bin'));
  const bytes = writeOnnx(graph, weights);
  weights.close();
  expect(bytes.length).toBeLessThan(4000);
  const data = await readFile(weights.path);
  // Each begins a page.
  expect(data.length).toBe(Math.ceil((200 * 300 * 4) / 4096) * 4096 + 300 * 100 * 4);
  const path = join(directory, 'net.onnx');
  await writeFile(path, bytes);
  const feeds = randomFeeds(graph);
  const session = await ort.InferenceSession.create(path);
  const { y } = await session.run({ x: new ort.Tensor('float32', (feeds.x as Tensor).data as Float32Array, [3, 200]) });
  await session.release();
  expect(y?.data).toEqual((await runGraph(graph, feeds)).y?.data);
  const again = readOnnx(bytes, { externalData: () => data });
  expect(again.constants().map((value) => value.constant)).toEqual(graph.constants().map((value) => value.constant));
  expect(writeOnnx(again)).toEqual(writeOnnx(graph));
});

it('a tensor is written once, for all graphs that have it', async () => {
  const graph = net();
  const weights = new WeightFile(join(directory, 'once.bin'));
  const first = writeOnnx(graph, weights);
  const { size } = await stat(weights.path);
  expect(writeOnnx(graph.clone(), weights)).toEqual(first);
  expect((await stat(weights.path)).size).toBe(size);
  const place = weights.place(Tensor.zeros('float32', [20_000]));
  expect(place).toEqual({ location: 'once.bin', offset: Math.ceil(size / 4096) * 4096, length: 80_000 });
  expect(weights.place(Tensor.zeros('float32', [1000]))).toBeUndefined();
  weights.remove();
  await expect(stat(weights.path)).rejects.toThrow('ENOENT');
});
