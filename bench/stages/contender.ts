/**
 * One whole job in a process of its own: `contender.ts '{"model": …, "dataset": …, "recipe": {…}}'`. Prints seconds and the peak of the resident
 * memory of every stage as JSON, measured by a thread that looks every 5 ms, whatever the job does meanwhile.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { defaultLimits, type PipelineEvent } from '../../packages/quant-core/src/events.js';
import { quantize } from '../../packages/quant-core/src/quantize.js';
import type { Report } from '../../packages/quant-core/src/report/schema.js';
import type { StageFigures, StageOptions } from './options.js';

const peak = new Float64Array(new SharedArrayBuffer(8));
const watch =
  'const p = require("node:worker_threads").workerData; setInterval(() => { p[0] = Math.max(p[0], process.memoryUsage.rss()); }, 5);';
const watcher = new Worker(watch, { eval: true, workerData: peak });

const { model, dataset, recipe } = JSON.parse(process.argv[2] as string) as StageOptions;
const directory = mkdtempSync(join(tmpdir(), 'octet-stages-'));
const peaks: Record<string, number> = {};
let stage = 'start';
const take = () => {
  peaks[stage] = Math.max(peak[0] as number, process.memoryUsage.rss());
  peak[0] = 0;
};
try {
  const job = {
    modelPath: model,
    dataset: { path: dataset, config: {} },
    recipe,
    outputDirectory: join(directory, 'out'),
    workDirectory: join(directory, 'work'),
    limits: defaultLimits,
  };
  const onEvent = (event: PipelineEvent) => {
    if (event.type !== 'stage') return;
    take();
    stage = event.stage;
  };
  const { reportPath } = await quantize(job, { onEvent });
  take();
  const report = JSON.parse(await readFile(reportPath, 'utf8')) as Report;
  const { seconds, memory, versions } = report.provenance;
  const figures: StageFigures = {
    seconds,
    peakBytes: peaks,
    told: memory,
    layers: report.layers,
    version: `ONNX Runtime ${versions.onnxruntime}`,
  };
  console.log(JSON.stringify(figures));
} finally {
  await watcher.terminate();
  rmSync(directory, { recursive: true, force: true });
}
