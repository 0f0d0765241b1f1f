/**
 * Seconds from the start of a job process to the end of its first training step, stage by stage, for a network of a million parameters.
 *
 *     npm run build && npm run bench -- start [--samples 2000] [--calibration 512] [--rate 0.001|auto] [--rounds 5] [--append]
 *
 * The process is the one a worker starts, from the build where nothing is newer than it. With `--rate auto` the steps that look for a learning
 * rate come first.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { defaultLimits, type PipelineEvent } from '../../packages/quant-core/src/events.js';
import { writeOnnx } from '../../packages/quant-core/src/formats/onnx/write.js';
import { defaultRecipe } from '../../packages/quant-core/src/recipe.js';
import { parameterLayout } from '../../packages/quant-core/src/train/parameters.js';
import { jobProcessEntry } from '../../packages/runner/src/entry.js';
import { runJobProcess } from '../../packages/runner/src/run.js';
import { median } from '../models/inputs.js';
import { appendResults, machine, table } from '../results.js';
import { npzOf } from '../sets.js';
import { millionParameters } from './model.js';

const { values } = parseArgs({
  options: {
    samples: { type: 'string', default: '2000' },
    calibration: { type: 'string', default: '512' },
    rate: { type: 'string', default: '0.001' },
    rounds: { type: 'string', default: '5' },
    append: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const built = jobProcessEntry(['runner', 'contracts', 'quant-core']).execArgv.length === 0;
if (!built) console.log('The build is older than the sources, so that the sources are run, which start slowly: npm run build.');

const base = defaultRecipe();
const recipe = {
  ...base,
  calibration: { ...base.calibration, samples: Number(values.calibration) },
  training: { ...base.training, learningRate: values.rate === 'auto' ? ('auto' as const) : Number(values.rate) },
};
const quiet = { debug: () => undefined, warn: () => undefined };

/** When each thing happened, seconds from the start: the stages as they begin, and the end of the first step. */
async function firstStep(directory: string): Promise<Map<string, number>> {
  const workDirectory = join(directory, 'work');
  mkdirSync(workDirectory, { recursive: true });
  const began = performance.now();
  const times = new Map<string, number>();
  const enough = new AbortController();
  const onEvent = (event: PipelineEvent) => {
    const now = (performance.now() - began) / 1000;
    if (event.type === 'stage') times.set(event.stage, now);
    if (event.type === 'progress' && event.stage === 'train' && !times.has('first step')) {
      times.set('first step', now);
      enough.abort();
    }
  };
  const payload = {
    modelPath: join(directory, 'model.onnx'),
    dataset: { path: join(directory, 'set.npz'), config: {} },
    recipe,
    outputDirectory: join(directory, 'out'),
    workDirectory,
    limits: defaultLimits,
  };
  const limits = { seconds: 600, memoryBytes: 8 * 2 ** 30 };
  await runJobProcess({ command: 'quantize', payload, signal: enough.signal, onEvent, limits, log: quiet }).catch((error: unknown) => {
    if (!enough.signal.aborted) throw error;
  });
  return times;
}

const names: Record<string, string> = {
  load: 'process started',
  baseline: 'model read, dataset laid out',
  calibrate: 'float model evaluated',
  ptq: 'calibrated',
  train: 'PTQ model written',
  'first step': 'training step compiled, first step done',
};

const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
const all: Map<string, number>[] = [];
const graph = millionParameters();
try {
  writeFileSync(join(directory, 'model.onnx'), writeOnnx(graph));
  writeFileSync(join(directory, 'set.npz'), npzOf(Number(values.samples), [3, 32, 32], 'uint8'));
  for (let round = 0; round < rounds; round++) {
    const times = await firstStep(directory);
    all.push(times);
    console.log(`round ${round + 1}/${rounds}: ${times.get('first step')?.toFixed(2)} s`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const rows = Object.entries(names).map(([stage, name], index, stages) => {
  const at = (key: string, times: Map<string, number>) => times.get(key) ?? Number.NaN;
  const before = stages[index - 1]?.[0];
  return [
    name,
    median(all.map((times) => at(stage, times) - (before ? at(before, times) : 0))).toFixed(2),
    median(all.map((times) => at(stage, times))).toFixed(2),
  ];
});
const size = parameterLayout(graph).size;
const body = [
  table(
    [`${(size / 1e6).toFixed(2)} M parameters, ${values.samples} samples of [3, 32, 32]`, `s, median of ${rounds}`, 's since the start'],
    rows,
  ),
  ...(built ? [] : ['', 'Run from the sources, not from the build.']),
].join('\n');
console.log(`\n${body}`);
if (values.append) {
  const command = `npm run bench -- start --samples ${values.samples} --calibration ${values.calibration} --rate ${values.rate} --rounds ${rounds}`;
  appendResults({ title: 'From the start of a job to its first training step', command, machine: machine(), versions: [], body });
}
