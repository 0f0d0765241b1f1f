/**
 * Latency of a float model and of its int8 form in ONNX Runtime, batch 1 and 32, taking turns in one run.
 *
 *     npm run bench -- inference [--threads 1] [--runs 200] [--append]                            ResNet-20, quantized on the spot
 *     npm run bench -- inference --float model.onnx --int8 model.int8.onnx --name "my model"      two files
 *
 * The files must have one float32 input with a symbolic batch.
 */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toQdq } from '../../packages/quant-core/src/convert/qdq.js';
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import { measureLatency } from '../../packages/quant-core/src/evaluate/latency.js';
import { activationParams } from '../../packages/quant-core/src/fakequant/scales.js';
import { scalesOfWeights } from '../../packages/quant-core/src/fakequant/simulate.js';
import { readOnnx } from '../../packages/quant-core/src/formats/onnx/read.js';
import { writeOnnx } from '../../packages/quant-core/src/formats/onnx/write.js';
import { randomTensor } from '../models/inputs.js';
import { defaultRecipe, prepare } from '../models/prepare.js';
import { resnet20 } from '../models/resnet20.js';
import { appendResults, machine, table } from '../results.js';

const { values } = parseArgs({
  options: {
    float: { type: 'string' },
    int8: { type: 'string' },
    name: { type: 'string', default: 'ResNet-20' },
    threads: { type: 'string', default: '1' },
    runs: { type: 'string', default: '200' },
    append: { type: 'boolean', default: false },
  },
});
if ((values.float === undefined) !== (values.int8 === undefined))
  throw new Error('--float and --int8 go together: give both files or neither.');
const threads = Number(values.threads);
const engine = new OrtEngine();

/** Write ResNet-20 and its int8 form, calibrated on random input, to `directory`. */
async function quantizedResnet20(directory: string): Promise<[string, string]> {
  const graph = resnet20();
  const { plan, calibrated } = await prepare(graph, defaultRecipe(), engine);
  const ranges = new Map([...calibrated].map(([name, { range }]) => [name, range]));
  const scales = { activations: activationParams(plan.groups, plan.activations, ranges), weights: scalesOfWeights(graph, plan, new Map()) };
  const [float, int8] = [join(directory, 'resnet20.onnx'), join(directory, 'resnet20.int8.onnx')];
  writeFileSync(float, writeOnnx(graph));
  writeFileSync(int8, writeOnnx(toQdq(graph, plan, scales).graph));
  return [float, int8];
}

const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
try {
  const given: [string, string] | undefined = values.float && values.int8 ? [values.float, values.int8] : undefined;
  const [floatPath, int8Path] = given ?? (await quantizedResnet20(directory));
  const input = readOnnx(readFileSync(floatPath)).inputs[0];
  const sample = (input?.shape?.slice(1) ?? []).map(Number);
  if (input?.dtype !== 'float32' || sample.some(Number.isNaN)) {
    throw new Error(`${floatPath} must have one float32 input whose dimensions behind the batch are fixed.`);
  }
  const float = await engine.load(floatPath, { threads, mode: 'infer' });
  const int8 = await engine.load(int8Path, { threads, mode: 'infer' });
  const figures = await measureLatency({
    float,
    int8,
    feeds: (batch) => ({ [input.name]: randomTensor([batch, ...sample], batch) }),
    runs: Number(values.runs),
    budgetSeconds: 120,
  });
  await float.dispose();
  await int8.dispose();

  const row = (name: string, f: { p50Ms: number; p95Ms: number }, q: { p50Ms: number; p95Ms: number }): string[] => [
    name,
    `${f.p50Ms.toFixed(3)} (${f.p95Ms.toFixed(3)})`,
    `${q.p50Ms.toFixed(3)} (${q.p95Ms.toFixed(3)})`,
    `${(f.p50Ms / q.p50Ms).toFixed(2)}×`,
  ];
  const body = [
    table(
      [
        `${values.name}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
        'float ms, p50 (p95)',
        'int8 ms, p50 (p95)',
        'int8 is faster by',
      ],
      [row('batch 1', figures.float, figures.int8), row('batch 32', figures.float.batch32, figures.int8.batch32)],
    ),
    '',
    `Size: ${statSync(floatPath).size} bytes in float, ${statSync(int8Path).size} in int8.`,
  ].join('\n');
  console.log(body);
  if (values.append) {
    const files = given ? ' --float … --int8 …' : '';
    appendResults({
      title: `Inference of ${values.name}`,
      command: `npm run bench -- inference${files} --threads ${threads} --runs ${figures.runs}`,
      machine: machine(),
      versions: [`ONNX Runtime ${engine.version}`],
      body,
    });
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
