/**
 * Tasks other than one class a sample, on small networks trained for this: a U-Net with a class a pixel, a tagger with a class a token, independent
 * answers, and two heads of which one has labels. Octet trains them at 8 bits; every figure is taken again by scikit-learn and Python's ONNX Runtime.
 *
 *   npm run bench -- tasks [--python python3] [--epochs 2] [--folder DIR] [--append]
 *
 * The Python needs torch, numpy, onnx, onnxruntime and scikit-learn. A folder that holds the networks already is used as it is.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultLimits } from '../../packages/quant-core/src/events.js';
import { quantize } from '../../packages/quant-core/src/quantize.js';
import { defaultRecipe } from '../../packages/quant-core/src/recipe.js';
import type { Report } from '../../packages/quant-core/src/report/schema.js';
import { appendResults, machine, table } from '../results.js';

const { values } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    epochs: { type: 'string', default: '2' },
    folder: { type: 'string' },
    append: { type: 'boolean', default: false },
  },
});
const here = dirname(fileURLToPath(import.meta.url));
const networks = ['unet', 'tagger', 'multi', 'heads'] as const;
const scratch = mkdtempSync(join(tmpdir(), 'octet-bench-tasks-'));
const folder = values.folder ?? scratch;

const python = (script: string, ...args: string[]): string =>
  execFileSync(values.python, [join(here, script), ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

const { readFile } = await import('node:fs/promises');

async function run(name: string): Promise<{ report: Report; modelPath: string }> {
  const recipe = defaultRecipe();
  const work = join(scratch, name);
  const result = await quantize({
    modelPath: join(folder, `${name}.onnx`),
    dataset: { path: join(folder, `${name}-train.npz`), config: {} },
    evaluationDataset: { path: join(folder, `${name}-eval.npz`), config: {} },
    recipe: { ...recipe, training: { ...recipe.training, epochs: Number(values.epochs) } },
    outputDirectory: join(work, 'out'),
    workDirectory: join(work, 'work'),
    limits: defaultLimits,
  });
  return { report: JSON.parse(await readFile(result.reportPath, 'utf8')) as Report, modelPath: result.modelPath };
}

const points = (value: number) => (100 * value).toFixed(2);

try {
  if (!existsSync(join(folder, 'heads.onnx'))) python('make.py', folder);
  const rows: string[][] = [];
  for (const name of networks) {
    const { report, modelPath } = await run(name);
    const metric = report.metric.name;
    const outside = (model: string) => (JSON.parse(python('check.py', folder, name, model)) as Record<string, number>)[metric] as number;
    const [float, int8] = [outside(join(folder, `${name}.onnx`)), outside(modelPath)];
    rows.push([
      name,
      report.task,
      metric,
      `${points(report.float.value)} / ${points(float)}`,
      points(report.ptq.value),
      report.qat ? points(report.qat.value) : '',
      `${points(report.int8.value)} / ${points(int8)}`,
      `${report.change.points.toFixed(2)} (${report.change.ci95.map((end) => end.toFixed(2)).join(' … ')})`,
      report.outputs.map(({ fidelity }) => fidelity?.sqnrDb?.toFixed(1) ?? '–').join(', '),
    ]);
  }
  const body = table(
    [
      'network',
      'task',
      'metric',
      'float: report / outside',
      'PTQ',
      'QAT',
      'returned: report / outside',
      'change, points (95 %)',
      'SQNR of outputs, dB',
    ],
    rows,
  );
  console.log(body);
  if (values.append) {
    const command = `npm run bench -- tasks --epochs ${values.epochs}`;
    appendResults({ title: 'Tasks', command, machine: machine(), versions: [], body });
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
