/**
 * Whether loading data holds up training: samples a second when a set is laid out at the start of a job (image folders decoded on one core and
 * on all, npz), when batches are read in shuffled order, and as one training step takes them.
 *
 *     npm run bench -- data [--samples 4000] [--size 64] [--photos 600] [--network mlp] [--batch 64] [--threads 2] [--rounds 3]
 *                           [--python python3] [--append]
 *
 * `--photos` images of 500×375 are laid out by Pillow as well, by the Python that --python or the environment variable PYTHON names.
 * `--samples 0` leaves everything but the photographs out.
 * `--network` names the network whose steps are the comparison; the MLP takes samples fastest.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { batches } from '../../packages/quant-core/src/data/batches.js';
import { openDataset } from '../../packages/quant-core/src/data/dataset.js';
import { shuffled } from '../../packages/quant-core/src/data/split.js';
import { defaultLimits } from '../../packages/quant-core/src/events.js';
import { measureOctet } from '../engine/processes.js';
import { median } from '../models/inputs.js';
import { networkNames, networkOf } from '../models/networks.js';
import { appendResults, machine, table } from '../results.js';
import { npzOf } from '../sets.js';
import { comparePhotos, imageFolders } from './photos.js';

const { values } = parseArgs({
  options: {
    samples: { type: 'string', default: '4000' },
    size: { type: 'string', default: '64' },
    network: { type: 'string', default: 'mlp' },
    batch: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    photos: { type: 'string', default: '600' },
    python: { type: 'string', default: process.env.PYTHON ?? 'python3' },
    append: { type: 'boolean', default: false },
  },
});
const [count, size, batch, threads, rounds] = [values.samples, values.size, values.batch, values.threads, values.rounds].map(Number) as [
  number,
  number,
  number,
  number,
  number,
];
const network = networkNames(values.network)[0] as ReturnType<typeof networkNames>[number];
const { title, sample } = networkOf(network);

const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
const rates: Record<string, number[]> = {};
const note = (name: string, samples: number, milliseconds: number) => {
  rates[name] = [...(rates[name] ?? []), (1000 * samples) / milliseconds];
};

/** Lay a set out, then read it once in shuffled order. */
async function load(name: string, path: string, shape: readonly number[], workers: number): Promise<void> {
  const started = performance.now();
  const dataset = await openDataset(
    path,
    {},
    { workDirectory: directory, limits: defaultLimits, fit: { shape, dtype: 'float32' }, threads: workers },
  );
  note(`laid out: ${name}`, dataset.size, performance.now() - started);
  const order = shuffled(
    Uint32Array.from({ length: dataset.size }, (_, i) => i),
    0,
    0,
  );
  const reading = performance.now();
  let read = 0;
  for await (const { x } of batches(dataset, order, { batchSize: batch })) read += x.shape[0] as number;
  note(`read in batches: ${name.split(',')[0]}`, read, performance.now() - reading);
  await dataset.close();
}

/** Samples a second of laying out, reading and training. */
async function measureSamples(): Promise<string> {
  const [images, arrays] = [join(directory, 'images.zip'), join(directory, 'set.npz')];
  writeFileSync(images, await imageFolders(count, size, size));
  writeFileSync(arrays, npzOf(count, sample, 'uint8'));
  for (let round = 0; round < rounds; round++) {
    await load(`JPEG ${size}×${size}, 1 at a time`, images, [3, 32, 32], 1);
    await load(`JPEG ${size}×${size}, on ${threads} cores`, images, [3, 32, 32], threads);
    await load(`npz of bytes [${sample}]`, arrays, sample, threads);
    const { imagesPerSecond, stepMs } = await measureOctet('ort', { network, batch, threads, quantized: true, warmup: 3, steps: 12 });
    note(`trained: ${title}, QAT step`, batch, stepMs);
    console.log(`round ${round + 1}/${rounds}: ${imagesPerSecond.toFixed(0)} samples/s trained`);
  }
  const trained = median(rates[`trained: ${title}, QAT step`] as number[]);
  const rows = Object.entries(rates).map(([name, all]) => [name, median(all).toFixed(0), (median(all) / trained).toFixed(1)]);
  return [
    table([`${count} samples, batch ${batch}`, `samples/s, median of ${rounds}`, '÷ training'], rows),
    '',
    'A set is laid out once a job; batches are read in every epoch, the next one while a step runs.',
  ].join('\n');
}

/** Image folders beside Pillow. */
async function measurePhotos(): Promise<{ body: string; versions: string[] }> {
  const path = join(directory, 'photos.zip');
  writeFileSync(path, await imageFolders(Number(values.photos), 375, 500));
  return comparePhotos(path, { threads, rounds, python: values.python });
}

try {
  const photos = Number(values.photos) ? await measurePhotos() : { body: '', versions: [] };
  const body = [photos.body, count ? await measureSamples() : ''].filter(Boolean).join('\n\n');
  console.log(body);
  if (values.append) {
    const command = `npm run bench -- data --samples ${count} --size ${size} --photos ${values.photos} --network ${network} --batch ${batch} --threads ${threads} --rounds ${rounds}`;
    appendResults({ title: 'Loading data', command, machine: machine(), versions: photos.versions, body });
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
