/**
 * Latency of a float model and of its int8 forms in ONNX Runtime, batch 1 and 32, taking turns in one run.
 *
 *     npm run bench -- inference [--threads 1] [--runs 200] [--append]                            ResNet-20, quantized on the spot
 *     npm run bench -- inference --float model.onnx --int8 model.int8.onnx --name "my model"      two files
 *     … --mixed model.mixed.onnx                                                                  and one of placement "auto"
 *
 * The files must have one float32 input with a symbolic batch.
 */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toQdq } from '../../packages/quant-core/src/convert/qdq.js';
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import { race } from '../../packages/quant-core/src/evaluate/race.js';
import { quantile } from '../../packages/quant-core/src/evaluate/statistics.js';
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
    mixed: { type: 'string' },
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
  const [floatPath, int8Path] = values.float && values.int8 ? [values.float, values.int8] : await quantizedResnet20(directory);
  const input = readOnnx(readFileSync(floatPath)).inputs[0];
  const sample = (input?.shape?.slice(1) ?? []).map(Number);
  if (input?.dtype !== 'float32' || sample.some(Number.isNaN)) {
    throw new Error(`${floatPath} must have one float32 input whose dimensions after the batch are fixed.`);
  }
  const files = [floatPath, int8Path, ...(values.mixed ? [values.mixed] : [])];
  const programs = [];
  for (const file of files) programs.push(await engine.load(file, { threads, mode: 'infer' }));
  const runs = Number(values.runs);
  const rows: string[][] = [];
  for (const batch of [1, 32]) {
    const times = await race(programs, { feeds: { [input.name]: randomTensor([batch, ...sample], batch) }, runs, budgetMs: 60_000 });
    const at = (share: number) =>
      times.map((own) =>
        quantile(
          [...own].sort((x, y) => x - y),
          share,
        ),
      );
    const [p50, p95] = [at(0.5), at(0.95)];
    const cells = p50.map((ms, index) => `${ms.toFixed(3)} (${(p95[index] as number).toFixed(3)})`);
    rows.push([`batch ${batch}`, ...cells, ...p50.slice(1).map((ms) => `${((p50[0] as number) / ms).toFixed(2)}×`)]);
  }
  for (const program of programs) await program.dispose();

  const names = ['float', 'int8', ...(values.mixed ? ['auto'] : [])];
  const head = [
    `${values.name}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    ...names.map((name) => `${name} ms, p50 (p95)`),
    ...names.slice(1).map((name) => `${name} is faster by`),
  ];
  const sizes = files.map((file, index) => `${statSync(file).size} ${names[index]}`).join(', ');
  const body = [table(head, rows), '', `Bytes: ${sizes}.`].join('\n');
  console.log(body);
  if (values.append) {
    const given = values.float ? ` --float … --int8 …${values.mixed ? ' --mixed …' : ''}` : '';
    appendResults({
      title: `Inference of ${values.name}`,
      command: `npm run bench -- inference${given} --threads ${threads} --runs ${runs}`,
      machine: machine(),
      versions: [`ONNX Runtime ${engine.version}`],
      body,
    });
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
