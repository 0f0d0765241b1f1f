import * as ort from 'onnxruntime-node';
import { expect } from 'vitest';
import { writeOnnx } from '../../formats/onnx/write.js';
import type { Graph } from '../../ir/graph.js';
import { inferShapes, type KnownElements } from '../../ir/infer.js';
import type { Pass } from '../../ir/pass.js';
import { runPasses } from '../../ir/pass.js';
import { parse, print } from '../../ir/text.js';
import { verify } from '../../ir/verify.js';
import { Random } from '../../tensor/random.js';
import { sizeOf, Tensor, toNumbers } from '../../tensor/tensor.js';

/** Run a graph in ONNX Runtime as it stands, without optimizations. */
export async function runGraph(graph: Graph, feeds: Readonly<Record<string, Tensor>> = {}): Promise<Record<string, Tensor>> {
  const session = await ort.InferenceSession.create(writeOnnx(graph), {
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 3,
    intraOpNumThreads: 1,
  });
  const given = Object.entries(feeds).map(
    ([name, t]) => [name, new ort.Tensor(t.dtype as 'float32', t.data as Float32Array, t.shape)] as const,
  );
  const results = await session.run(Object.fromEntries(given));
  await session.release();
  return Object.fromEntries(
    Object.entries(results).map(([name, t]) => [name, new Tensor(t.type as 'float32', t.dims, t.data as Float32Array)]),
  );
}

/** Normal inputs for a graph, with every open size 3. */
export function randomFeeds(graph: Graph, seed = 1): Record<string, Tensor> {
  const random = new Random(seed);
  const feed = (shape: readonly (number | string)[]): Tensor => {
    const sizes = shape.map((dim) => (typeof dim === 'number' ? dim : 3));
    return Tensor.float32(
      sizes,
      Float32Array.from({ length: sizeOf(sizes) }, () => random.normal()),
    );
  };
  return Object.fromEntries(graph.inputs.map((value) => [value.name, feed(value.shape ?? [])]));
}

/** Largest difference of two sets of results, relative to the largest number in them. */
export function difference(a: Record<string, Tensor>, b: Record<string, Tensor>): number {
  expect(Object.keys(b)).toEqual(Object.keys(a));
  let worst = 0;
  for (const [name, left] of Object.entries(a)) {
    const right = b[name] as Tensor;
    expect(right.shape).toEqual(left.shape);
    const [x, y] = [toNumbers(left), toNumbers(right)];
    const scale = Math.max(1e-3, ...Array.from(x, Math.abs));
    for (let i = 0; i < x.length; i++) {
      const apart = Math.abs((x[i] as number) - (y[i] as number)) / scale;
      if (!(apart <= worst)) worst = apart;
    }
  }
  return worst;
}

/** A graph from text, whose constants given by `#` are normal numbers. */
export function graphOf(text: string): Graph {
  const random = new Random(7);
  const constants = new Map<string, Tensor>();
  for (const [, name, dims] of text.matchAll(/([\w./]+)=float32\[([\d, ]*)\]#/g)) {
    const shape = (dims ?? '').split(',').filter(Boolean).map(Number);
    constants.set(
      name as string,
      Tensor.float32(
        shape,
        Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
      ),
    );
  }
  const graph = parse(text.replace(/\n\s+/g, '\n').trim(), constants);
  inferShapes(graph);
  verify(graph);
  return graph;
}

/** The lines of a graph, without the first, and without the elements of float constants of more than one. */
export const linesOf = (graph: Graph): string[] =>
  print(graph)
    .replace(/#[0-9a-f]+/g, '')
    .replace(/(float32\[[^\]]*\])\{[^}]*,[^}]*\}/g, '$1')
    .trim()
    .split('\n')
    .slice(1);

/** Run one pass (to rest, with verification), check that it fired and that ONNX Runtime computes the same before and after. */
export async function expectSameAfter(text: string, passes: readonly Pass[], tolerance = 1e-5): Promise<string[]> {
  const graph = graphOf(text);
  const feeds = randomFeeds(graph);
  const before = await runGraph(graph, feeds);
  expect(runPasses(graph, passes)).toBe(true);
  expect(difference(before, await runGraph(graph, feeds))).toBeLessThan(tolerance);
  return linesOf(graph);
}

/** Check that a pass leaves a graph alone. */
export function expectUntouched(text: string, pass: Pass): void {
  const graph = graphOf(text);
  const before = print(graph);
  const known: KnownElements = inferShapes(graph);
  expect(pass.run(graph, known)).toBe(false);
  expect(print(graph)).toBe(before);
}
