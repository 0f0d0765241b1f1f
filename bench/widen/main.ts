/**
 * Time of a first int8 Conv (with ReLU and pooling after it) on few input channels, as it is and in the form that is written (`convert/widen.ts`);
 * in turns, on one thread. The figures of docs/decisions/0007.
 *
 *     npm run bench -- widen [--runs 40] [--append]
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { widenInputs } from '../../packages/quant-core/src/convert/widen.js';
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import type { Graph } from '../../packages/quant-core/src/ir/graph.js';
import { inferShapes } from '../../packages/quant-core/src/ir/infer.js';
import { parse } from '../../packages/quant-core/src/ir/text.js';
import { Random } from '../../packages/quant-core/src/tensor/random.js';
import { sizeOf, Tensor } from '../../packages/quant-core/src/tensor/tensor.js';
import { median, randomTensor } from '../models/inputs.js';
import { appendResults, machine, table } from '../results.js';

const { values } = parseArgs({ options: { runs: { type: 'string', default: '40' }, append: { type: 'boolean', default: false } } });
const runs = Number(values.runs);

interface Layer {
  channels: number;
  outputs: number;
  kernel: number;
  stride: number;
  /** Height and width of the input. */
  size: number;
  batch: number;
}

const layers: readonly Layer[] = [
  { channels: 1, outputs: 16, kernel: 3, stride: 1, size: 28, batch: 32 },
  { channels: 1, outputs: 16, kernel: 3, stride: 2, size: 28, batch: 32 },
  { channels: 2, outputs: 16, kernel: 3, stride: 1, size: 32, batch: 32 },
  { channels: 3, outputs: 16, kernel: 3, stride: 1, size: 32, batch: 32 },
  { channels: 3, outputs: 32, kernel: 3, stride: 2, size: 96, batch: 8 },
  { channels: 1, outputs: 16, kernel: 5, stride: 1, size: 28, batch: 32 },
  { channels: 3, outputs: 32, kernel: 5, stride: 1, size: 32, batch: 32 },
  { channels: 3, outputs: 64, kernel: 7, stride: 2, size: 96, batch: 8 },
  { channels: 6, outputs: 16, kernel: 3, stride: 1, size: 32, batch: 32 },
];

/** The layer between quantizers, with weights of 7 bits. */
function graphOf({ channels, outputs, kernel, stride, size }: Layer): Graph {
  const shape = [outputs, channels, kernel, kernel];
  const random = new Random(1);
  const weights = new Tensor(
    'int8',
    shape,
    Int8Array.from({ length: sizeOf(shape) }, () => random.below(127) - 63),
  );
  const pad = Math.floor(kernel / 2);
  const graph = parse(
    `graph first (x: float32[N, ${channels}, ${size}, ${size}]) opset 17
    q = QuantizeLinear(x, s=float32[]{0.02}, z=uint8[]{0})
    d = DequantizeLinear(q, s, z)
    w = DequantizeLinear(k=int8[${shape.join(', ')}]#, ws=float32[]{0.01}, wz=int8[]{0})
    c = Conv(d, w) {pads=[${[pad, pad, pad, pad].join(', ')}], strides=[${stride}, ${stride}]} @conv
    r = Relu(c)
    o = QuantizeLinear(r, os=float32[]{0.1}, oz=uint8[]{0})
    p = MaxPool(o) {kernel_shape=[2, 2], strides=[2, 2]}
    y = DequantizeLinear(p, os, oz)
    return y
`,
    new Map([['k', weights]]),
  );
  inferShapes(graph);
  return graph;
}

const engine = new OrtEngine();
const rows: string[][] = [];
for (const layer of layers) {
  const [narrow, wide] = [graphOf(layer), graphOf(layer)];
  widenInputs(wide);
  inferShapes(wide);
  const programs = [await engine.compile(narrow, { threads: 1, mode: 'infer' }), await engine.compile(wide, { threads: 1, mode: 'infer' })];
  const x = randomTensor([layer.batch, layer.channels, layer.size, layer.size], 3);
  const times: number[][] = programs.map(() => []);
  for (let run = 0; run < runs + 5; run++) {
    for (const [index, program] of programs.entries()) {
      const started = performance.now();
      await program.run({ x });
      if (run >= 5) times[index]?.push(performance.now() - started);
    }
  }
  for (const program of programs) await program.dispose();
  const [before, after] = times.map(median) as [number, number];
  const { channels, outputs, kernel, stride, size, batch } = layer;
  const what = `${kernel}×${kernel}, ${channels} → ${outputs} channels, stride ${stride}, ${size}×${size}, batch ${batch}`;
  rows.push([what, before.toFixed(3), after.toFixed(3), `${(before / after).toFixed(2)}×`]);
}
const body = table(['first layer', 'as it is, ms', 'as written, ms', 'faster by'], rows);
process.stdout.write(`${body}\n`);
if (values.append)
  appendResults({
    title: 'First layers on few channels',
    command: `npm run bench -- widen --runs ${runs}`,
    machine: machine(),
    versions: [`ONNX Runtime ${engine.version}`],
    body: `${body}\n\nMedian of ${runs} runs in turns, one thread.`,
  });
