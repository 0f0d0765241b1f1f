import { afterEach, describe, expect, it } from 'vitest';
import type { IndexedBatch } from '../data/batches.js';
import type { Program } from '../engine/engine.js';
import { OrtEngine } from '../engine/ort/ort.js';
import { runRows } from '../engine/rows.js';
import { modelOutput } from '../tasks/testing/specs.js';
import { Tensor } from '../tensor/tensor.js';
import { collectOutputs } from './collect.js';
import { topLabel } from './outputs.js';
import { linearGraph } from './testing/models.js';

const engine = new OrtEngine();
const programs: Program[] = [];
const ioOf = (classes = 3) => ({
  input: 'x',
  outputs: [{ output: modelOutput('y', 'classes', [classes]), task: 'classification' as const }],
});
const io = ioOf();

async function compile(weights: number[][], batch?: number): Promise<Program> {
  const program = await engine.compile(linearGraph(weights, batch), { threads: 1, mode: 'infer' });
  programs.push(program);
  return program;
}

afterEach(async () => {
  for (const program of programs.splice(0)) await program.dispose();
});

/** Samples [i, 1] with label i % 3, in batches of the sizes given. */
function* batchesOf(sizes: readonly number[]): Generator<IndexedBatch> {
  let at = 0;
  for (const n of sizes) {
    const indices = Array.from({ length: n }, (_, i) => at + i);
    yield {
      x: Tensor.float32(
        [n, 2],
        indices.flatMap((i) => [i, 1]),
      ),
      labels: Int32Array.from(indices, (i) => i % 3),
      indices: Uint32Array.from(indices),
    };
    at += n;
  }
}

const weights = [
  [0, 2.5],
  [1, 0],
  [0.5, 1.2],
];

describe('collectOutputs', () => {
  it('gives the same whatever the batches, the last of which may be partial', async () => {
    const program = await compile(weights);
    const done: number[] = [];
    const [whole] = await collectOutputs(program, batchesOf([10]), io);
    const [parts] = await collectOutputs(program, batchesOf([4, 4, 2]), io, { onProgress: (n) => done.push(n) });
    expect([...whole.scores!.slice(3, 6)]).toEqual([2.5, 1, expect.closeTo(1.7, 6)]);
    expect(parts.scores).toEqual(whole.scores);
    expect(parts.top).toEqual(whole.top);
    expect(parts.losses).toEqual(whole.losses);
    expect([...parts.indices]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(Array.from({ length: 10 }, (_, i) => topLabel(parts, i))).toEqual([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
    expect(done).toEqual([4, 8, 10]);
    expect(parts.samplesPerSecond).toBeGreaterThan(0);
  });

  it('cuts and pads for a model of fixed batch', async () => {
    const [free] = await collectOutputs(await compile(weights), batchesOf([7, 3]), io);
    const [fixed] = await collectOutputs(await compile(weights, 4), batchesOf([7, 3]), io, { fixedBatch: 4 });
    expect(fixed.scores).toEqual(free.scores);
    expect(fixed.samples).toBe(10);
  });

  it('refuses outputs without a row for each sample', async () => {
    const program: Program = { run: async () => ({ y: Tensor.float32([1, 3], [1, 2, 3]) }), dispose: async () => {} };
    await expect(collectOutputs(program, batchesOf([2]), io)).rejects.toMatchObject({
      code: 'MODEL_SHAPE',
      place: { tensor: 'y' },
    });
  });

  it('refuses no samples, and stops when the job is cancelled', async () => {
    const program = await compile(weights);
    await expect(collectOutputs(program, [], io)).rejects.toMatchObject({ code: 'DATASET_EMPTY' });
    await expect(collectOutputs(program, batchesOf([2]), io, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('labels beyond the outputs name the sample', async () => {
    const program = await compile(weights.slice(0, 2));
    await expect(collectOutputs(program, batchesOf([2, 2]), ioOf(2))).rejects.toMatchObject({
      code: 'DATASET_CLASSES',
      place: { sample: 2 },
    });
  });
});

it('runRows names an output that is missing', async () => {
  await expect(runRows(await compile(weights), { x: Tensor.float32([1, 2], [0, 1]) }, ['z'])).rejects.toThrow('"z"');
});
