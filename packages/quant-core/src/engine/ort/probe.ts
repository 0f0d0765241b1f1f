import type * as Ort from 'onnxruntime-node';
import { writeOnnx } from '../../formats/onnx/write.js';
import { Graph } from '../../ir/graph.js';
import { lowerToBlocked } from './blocked.js';

/** Channels of the probe: a multiple of every block size. */
const channels = 16;
const shape = [1, channels, 5, 5];

/** A convolution whose weights are an input. */
function convolution(): Graph {
  const graph = new Graph('probe');
  const x = graph.input('x', { dtype: 'float32', shape });
  const w = graph.input('w', { dtype: 'float32', shape: [channels, channels, 3, 3] });
  const y = graph.node('Conv', [x, w], { pads: [1, 1, 1, 1] }, { outputNames: ['y'] }).output();
  y.type = { dtype: 'float32', shape };
  graph.outputs.push(y);
  return graph;
}

/**
 * The block size of this processor's NCHWc kernels, found by comparing with the plain operator; undefined where there are none.
 * They are an internal interface of the runtime: whatever does not compute the same numbers is not used.
 */
export async function probeBlock(ort: typeof Ort, options: Ort.InferenceSession.SessionOptions): Promise<number | undefined> {
  const fill = (size: number, factor: number) => Float32Array.from({ length: size }, (_, i) => ((i * factor) % 17) - 8);
  const feeds = {
    x: new ort.Tensor('float32', fill(channels * 25, 7), shape),
    w: new ort.Tensor('float32', fill(channels * channels * 9, 5), [channels, channels, 3, 3]),
  };
  const run = async (graph: Graph) => {
    const session = await ort.InferenceSession.create(writeOnnx(graph), options);
    try {
      return (await session.run(feeds)).y?.data as Float32Array;
    } finally {
      await session.release();
    }
  };
  const wanted = await run(convolution());
  for (const block of [16, 8]) {
    const graph = convolution();
    lowerToBlocked(graph, block);
    try {
      const got = await run(graph);
      if (got.every((value, i) => Math.abs(value - (wanted[i] as number)) <= 1e-3 * (1 + Math.abs(wanted[i] as number)))) return block;
    } catch {
      // A runtime without these kernels refuses the graph.
    }
  }
  return undefined;
}
