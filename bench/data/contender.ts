/** Octet laying out a zip of image folders, in a process of its own: `contender.ts ZIP HEIGHT WIDTH THREADS`. Prints its figures as JSON. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { openDataset } from '../../packages/quant-core/src/data/dataset.js';
import { defaultLimits } from '../../packages/quant-core/src/events.js';
import type { LayOutFigures } from './photos.js';

const [path, height, width, threads] = process.argv.slice(2) as [string, string, string, string];
const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
try {
  const fit = { shape: [3, Number(height), Number(width)], dtype: 'float32' } as const;
  const started = performance.now();
  const cpu = process.cpuUsage();
  const dataset = await openDataset(path, {}, { workDirectory: directory, limits: defaultLimits, fit, threads: Number(threads) });
  const { user, system } = process.cpuUsage(cpu);
  const figures: LayOutFigures = {
    samples: dataset.size,
    seconds: (performance.now() - started) / 1000,
    cpuSeconds: (user + system) / 1e6,
  };
  await dataset.close();
  console.log(JSON.stringify(figures));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
