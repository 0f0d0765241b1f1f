import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { inspectRuntime } from '../evaluate/runtime.js';
import { layerBytes } from '../evaluate/sizes.js';
import { defaultLimits } from '../events.js';
import { observedTable, planOf, recipeWith } from '../fakequant/testing/plans.js';
import { writeOnnx } from '../formats/onnx/write.js';
import { readModel } from '../formats/read.js';
import type { Graph } from '../ir/graph.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { prepareModel } from '../pipeline/model.js';
import type { Recipe } from '../recipe.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import { toQdq } from './qdq.js';

const engine = new OrtEngine();
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-pack-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A first layer that is widened, one of an odd number of weights, a depthwise one and a Gemm. */
const net = () =>
  graphOf(`graph net (x: float32[N, 1, 8, 8]) opset 18
    a = Conv(x, w1=float32[5, 1, 3, 3]#, b1=float32[5]#) {pads=[1, 1, 1, 1]} @a
    ra = Relu(a)
    d = Conv(ra, w2=float32[5, 1, 3, 3]#, b2=float32[5]#) {group=5, strides=[2, 2]} @d
    rd = Relu(d)
    f = Flatten(rd)
    y = Gemm(f, w3=float32[45, 16]#, b3=float32[16]#) @fc
    return y`);

const x = (() => {
  const random = new Random(3);
  return Tensor.float32(
    [8, 1, 8, 8],
    Float32Array.from({ length: 512 }, () => random.normal()),
  );
})();

async function converted(
  quantization: Partial<Recipe['quantization']>,
  name: string,
): Promise<{ artifact: Graph; path: string; bytes: number }> {
  const graph = net();
  const plan = planOf(graph, recipeWith(quantization));
  const { graph: artifact } = toQdq(graph, plan, await observedTable(graph, plan, { x }));
  const file = writeOnnx(artifact);
  const path = join(directory, `${name}.onnx`);
  await writeFile(path, file);
  return { artifact, path, bytes: file.byteLength };
}

async function outputs(path: string): Promise<Float32Array> {
  const program = await engine.load(path, { threads: 1, mode: 'infer' });
  const { y } = await program.run({ x });
  await program.dispose();
  return y!.data as Float32Array;
}

const packed = (graph: Graph) =>
  graph.nodes.flatMap((node) => (node.is('Cast') && node.input(0).constant?.dtype === 'int4' ? [node.name.replace(/_int8.*/, '')] : []));

describe('weights as int4', () => {
  it.each([2, 3, 4])('%s bits: the same bits come out as of int8, the file is smaller, and integer kernels run', async (bits) => {
    const [wide, narrow] = [
      await converted({ weights: { bits } }, `wide${bits}`),
      await converted({ weights: { bits, storage: 'int4' } }, `narrow${bits}`),
    ];
    expect(packed(narrow.artifact)).toEqual(['w1', 'w2', 'w3']);
    expect(packed(wide.artifact)).toEqual([]);
    expect([wide.artifact.opset, narrow.artifact.opset]).toEqual([18, 21]);
    expect(await outputs(narrow.path)).toEqual(await outputs(wide.path));
    const figures = await Promise.all(
      [wide, narrow].map(({ path }) => inspectRuntime({ engine, path, threads: 1, feeds: { x }, directory })),
    );
    expect(figures[1]?.byOp).toEqual(figures[0]?.byOp);
    expect(figures[1]?.byOp.QLinearConv).toBe(2);
    const gemm = (graph: Graph) => layerBytes(graph).get('fc') as number;
    expect(gemm(wide.artifact) - gemm(narrow.artifact)).toBe(360);
    expect(wide.bytes - narrow.bytes).toBeGreaterThan(0);
  });

  it('weights of 8 bits stay what they are', async () => {
    const { artifact } = await converted({ weights: { bits: 4, storage: 'int4' }, layers: [{ name: 'd', weights: { bits: 8 } }] }, 'mixed');
    expect(packed(artifact)).toEqual(['w1', 'w3']);
  });

  it('a grid with a zero point fits as well', async () => {
    const asymmetric = { bits: 4, perChannel: false, symmetric: false };
    const [wide, narrow] = [
      await converted({ weights: asymmetric }, 'wideA'),
      await converted({ weights: { ...asymmetric, storage: 'int4' } }, 'narrowA'),
    ];
    expect(packed(narrow.artifact)).toHaveLength(3);
    expect(await outputs(narrow.path)).toEqual(await outputs(wide.path));
  });

  it('read back, the weights are the same, and the model is known to be quantized', async () => {
    const { artifact, path } = await converted({ weights: { bits: 4, storage: 'int4' } }, 'back');
    const { graph } = await readModel(path, defaultLimits);
    const of = (one: Graph) =>
      one.constants().flatMap(({ constant }) => (constant?.dtype === 'int4' ? [Array.from(constant.data as Int8Array)] : []));
    expect(of(graph)).toEqual(of(artifact));
    expect(of(graph)).toHaveLength(3);
    expect(
      of(graph)
        .flat()
        .some((v) => v < 0),
    ).toBe(true);
    await expect(prepareModel(path, defaultLimits, engine)).rejects.toMatchObject({ code: 'MODEL_ALREADY_QUANTIZED' });
  });

  it('refuses where no weight is narrow enough', () => {
    expect(() => planOf(net(), recipeWith({ weights: { storage: 'int4' } }))).toThrow(/no layer has weights of 4 bits or less/);
  });

  it('refuses a model of an older opset with an operator that has another form in that of int4', () => {
    const normed = (opset: number) =>
      graphOf(`graph net (x: float32[N, 4, 8, 8]) opset ${opset}
        a = Conv(x, w1=float32[4, 4, 3, 3]#) @a
        g = GroupNormalization(a, s=float32[4]#, b=float32[4]#) {num_groups=2} @norm
        y = Conv(g, w2=float32[4, 4, 3, 3]#) @b
        return y`);
    const recipe = recipeWith({ weights: { bits: 4, storage: 'int4' } });
    expect(() => planOf(normed(18), recipe)).toThrow(/GroupNormalization norm has another form/);
    expect(planOf(normed(21), recipe).weights.map(({ storage }) => storage)).toEqual(['int4', 'int4']);
  });
});
