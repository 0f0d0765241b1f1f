import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Graph } from '../../ir/graph.js';
import { Tensor } from '../../tensor/tensor.js';
import { countNodes } from './count.js';
import { writeOnnx } from './write.js';

it('counts the nodes of a file past large weights, and none in what is not a model', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'octet-count-'));
  try {
    const graph = new Graph('long');
    let value = graph.input('x', { dtype: 'float32', shape: [1, 4] });
    for (let i = 0; i < 300; i++) {
      const weight = graph.constant(`w${i}`, Tensor.zeros('float32', i % 100 ? [4] : [300, 4]));
      value = graph.node('Add', [value, weight]).output();
    }
    graph.outputs.push(value);
    const path = join(directory, 'm.onnx');
    await writeFile(path, writeOnnx(graph));
    expect(countNodes(path)).toBe(300);
    for (const bytes of ['', 'PK', '\xff\xff\xff', 'hello, this is text']) {
      await writeFile(path, bytes, 'latin1');
      expect(countNodes(path)).toBe(0);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
