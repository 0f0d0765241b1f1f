import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { targets } from '../choices.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { inspectRuntime } from '../evaluate/runtime.js';
import { simulate } from '../fakequant/simulate.js';
import { observedTable, planOf, recipeWith } from '../fakequant/testing/plans.js';
import { writeOnnx } from '../formats/onnx/write.js';
import type { Graph } from '../ir/graph.js';
import { difference, graphOf, randomFeeds } from '../normalise/testing/oracle.js';
import { toQdq } from './qdq.js';

const engine = new OrtEngine();
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-moves-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** An operator that moves or selects elements, between two layers. */
const between = (line: string, channels: number) =>
  graphOf(`graph net (x: float32[N, 4, 4, 4]) opset 18
    a = Conv(x, w1=float32[8, 4, 1, 1]#, b1=float32[8]#) @first
    ${line}
    y = Conv(m, w2=float32[3, ${channels}, 1, 1]#, b2=float32[3]#) @last
    return y`);

const nets: Record<string, () => Graph> = {
  DepthToSpace: () => between('m = DepthToSpace(a) {blocksize=2}', 2),
  Tile: () => between('m = Tile(a, repeats=int64[4]{1, 2, 1, 2})', 16),
  GatherElements: () => between('i = Cast(a) {to=int64}\nz = Mul(i, none=int64[]{0})\nm = GatherElements(a, z) {axis=3}', 8),
  Resize: () =>
    between(
      'm = Resize(a, _, scales=float32[4]{1, 1, 2, 2}) {mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"}',
      8,
    ),
  ReduceMax: () => between('m = ReduceMax(a, axes=int64[1]{2})', 8),
  ReduceMin: () => between('m = ReduceMin(a, axes=int64[2]{2, 3})', 8),
};

const compare = async (graph: Graph, target: (typeof targets)[number], file: string) => {
  const plan = planOf(graph, recipeWith({}, { target }));
  const feeds = randomFeeds(graph);
  const table = await observedTable(graph, plan, feeds);
  const { graph: artifact } = toQdq(graph, plan, table);
  const path = join(directory, `${file}.onnx`);
  await writeFile(path, writeOnnx(artifact));
  const figures = await inspectRuntime({ engine, path, threads: 1, feeds, directory, runs: 1 });
  const run = async (one: Graph, mode: 'train' | 'infer') => {
    const program = await engine.compile(one, { threads: 1, mode });
    const results = await program.run(feeds);
    await program.dispose();
    return results;
  };
  return { figures, apart: difference(await run(simulate(graph, plan, table), 'train'), await run(artifact, 'infer')) };
};

it.each(Object.keys(nets).flatMap((op) => targets.map((target) => [op, target] as const)))(
  '%s runs on integers, %s',
  async (op, target) => {
    const { figures, apart } = await compare(nets[op]?.() as Graph, target, `${op}-${target}`);
    expect(figures.byOp).toMatchObject({ QLinearConv: 2, [op]: 1, QuantizeLinear: 1 });
    // A sum of floats may fall on the other side of a step; one step of the output is less than a twentieth of its range.
    expect(apart).toBeLessThan(0.05);
  },
);

it('linear interpolation is computed in float between two integer layers', async () => {
  const graph = between('m = Resize(a, _, scales=float32[4]{1, 1, 2, 2}) {mode="linear"}', 8);
  const { figures, apart } = await compare(graph, 'onnxruntime', 'linear');
  expect(figures.byOp).toMatchObject({ QLinearConv: 2, Resize: 1, QuantizeLinear: 2 });
  expect(apart).toBeLessThan(0.05);
});
