import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readOnnx } from '../formats/onnx/read.js';
import type { Graph } from '../ir/graph.js';
import { normalise } from './index.js';
import { difference, randomFeeds, runGraph } from './testing/oracle.js';

const folder = join(process.env.OCTET_DATA ?? '', 'models');
const files = process.env.OCTET_DATA && existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.onnx')) : [];
const read = (file: string) => readOnnx(readFileSync(join(folder, file)));

/**
 * What the numbers of a file are held to: its own, or for a training-mode export, which drops out at random, those of the inference form of the
 * same net with the weights and statistics of the export (making it has moved the statistics a little).
 */
function referenceOf(file: string): Graph {
  const own = read(file);
  if (!file.includes('_train')) return own;
  const reference = read(file.replace('_train', '_bn'));
  const constants = new Map(own.constants().map((value) => [value.name, value.constant]));
  for (const value of reference.constants()) value.constant = constants.get(value.name) ?? value.constant;
  return reference;
}

describe.skipIf(files.length === 0)('real models (OCTET_DATA)', () => {
  it.each(files)('%s', async (file) => {
    const graph = read(file);
    const reference = referenceOf(file);
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
