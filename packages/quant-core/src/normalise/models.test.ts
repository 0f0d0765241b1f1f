import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readOnnx } from '../formats/onnx/read.js';
import { normalise } from './index.js';
import { difference, randomFeeds, runGraph } from './testing/oracle.js';

const folder = join(process.env.OCTET_DATA ?? '', 'models');
const files = process.env.OCTET_DATA && existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.onnx')) : [];
const read = (file: string) => readOnnx(readFileSync(join(folder, file)));

describe.skipIf(files.length === 0)('real models (OCTET_DATA)', () => {
  it.each(files)('%s', async (file) => {
    const graph = read(file);
    // A training-mode export has no numbers of its own to hold to.
    const reference = read(file.replace('_train.onnx', '_folded.onnx'));
    const feeds = randomFeeds(reference);
    await normalise(graph, { evaluate: runGraph });
    expect(difference(await runGraph(reference, feeds), await runGraph(graph, feeds))).toBeLessThan(1e-4);
    const allowed = new Set(
      'Conv Gemm Relu Clip MaxPool AveragePool GlobalAveragePool Add Flatten Reshape Softmax Transpose Slice Pad Concat'.split(' '),
    );
    expect(graph.nodes.map((node) => node.opName).filter((op) => !allowed.has(op))).toEqual([]);
    expect(graph.outputs[0]?.shape?.[0]).toBe(graph.inputs[0]?.shape?.[0]);
  });
});
