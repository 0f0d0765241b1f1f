/**
 * One job of Octet, in a process of its own, so that a crash is one row of the table:
 * `contender.ts '{"model": …, "calibration": …, "evaluation": …, "method": …, "output": …}'`. Prints what came of it as JSON.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OctetError } from '../../packages/quant-core/src/errors.js';
import { defaultLimits } from '../../packages/quant-core/src/events.js';
import { quantize } from '../../packages/quant-core/src/quantize.js';
import { defaultRecipe } from '../../packages/quant-core/src/recipe.js';
import type { Report } from '../../packages/quant-core/src/report/schema.js';
import type { ZooJob, ZooResult } from './options.js';

async function result({ model, calibration, evaluation, method, weightBits, output }: ZooJob, workDirectory: string): Promise<ZooResult> {
  const recipe = defaultRecipe();
  const job = {
    modelPath: model,
    externalFiles: 'beside' as const,
    dataset: { path: calibration, config: {} },
    evaluationDataset: { path: evaluation, config: {} },
    recipe: {
      ...recipe,
      method,
      quantization: { ...recipe.quantization, weights: { reduceRange: weightBits === 7 } },
      training: { ...recipe.training, epochs: 1, batchSize: 8 },
      evaluation: { ...recipe.evaluation, latencyRuns: 3 },
    },
    outputDirectory: output,
    workDirectory,
    limits: defaultLimits,
  };
  try {
    const { reportPath, modelPath } = await quantize(job);
    const report = JSON.parse(readFileSync(reportPath, 'utf8')) as Report;
    return {
      model: modelPath,
      int8: report.layers.filter(({ precision }) => precision === 'int8').length,
      float: report.layers.filter(({ precision }) => precision === 'float').map(({ name, op, reason }) => `${op} ${name}: ${reason}`),
      outputs: report.outputs.map(({ name, kind, judged, why, fidelity }) => ({
        name,
        kind,
        judged,
        why,
        sqnrDb: fidelity?.sqnrDb ?? null,
      })),
      verdict: `${report.verdict.decision}: ${report.verdict.text}`,
      warnings: report.warnings.map(({ text }) => text),
    };
  } catch (error) {
    if (error instanceof OctetError) return { code: error.code, reason: error.message, hint: error.hint };
    return { code: 'CRASH', reason: error instanceof Error ? (error.stack ?? error.message) : String(error), hint: '' };
  }
}

const directory = mkdtempSync(join(tmpdir(), 'octet-zoo-'));
try {
  console.log(JSON.stringify(await result(JSON.parse(process.argv[2] as string) as ZooJob, directory)));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
