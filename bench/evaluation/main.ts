/**
 * Samples a second through Octet's evaluation (dataset on disk, scaling, the model, scores collected) against a plain loop over
 * `session.run` on batches that lie in memory already; in turns.
 *
 *     npm run bench -- evaluation [--network resnet20,mobilenetv2,mlp,vit] [--samples 2048] [--batch 64] [--threads 2] [--rounds 5] [--append]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import type * as Ort from 'onnxruntime-node';
import { batches } from '../../packages/quant-core/src/data/batches.js';
import { openDataset } from '../../packages/quant-core/src/data/dataset.js';
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import { collectOutputs } from '../../packages/quant-core/src/evaluate/collect.js';
import { defaultLimits } from '../../packages/quant-core/src/events.js';
import { writeOnnx } from '../../packages/quant-core/src/formats/onnx/write.js';
import { describeOutputs } from '../../packages/quant-core/src/tasks/output.js';
import { median } from '../models/inputs.js';
import { networkNames, networkOf } from '../models/networks.js';
import { appendResults, machine, table } from '../results.js';
import { npzOf } from '../sets.js';

const { values } = parseArgs({
  options: {
    network: { type: 'string', default: 'all' },
    samples: { type: 'string', default: '2048' },
    batch: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    append: { type: 'boolean', default: false },
  },
});
const [count, batch, threads, rounds] = [values.samples, values.batch, values.threads, values.rounds].map(Number) as [
  number,
  number,
  number,
  number,
];
// The runtime that the product loads: it is a dependency of quant-core.
const ort = createRequire(new URL('../../packages/quant-core/package.json', import.meta.url))('onnxruntime-node') as typeof Ort;
const engine = new OrtEngine();

/** Samples a second of `run` over the whole set. */
async function rate(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return (1000 * count) / (performance.now() - started);
}

const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
const rows: string[][] = [];
try {
  for (const name of networkNames(values.network)) {
    const { title, sample, build } = networkOf(name);
    const [model, file] = [join(directory, `${name}.onnx`), join(directory, `${name}.npz`)];
    writeFileSync(model, writeOnnx(build()));
    writeFileSync(file, npzOf(count, sample));
    const dataset = await openDataset(
      file,
      {},
      { workDirectory: directory, limits: defaultLimits, fit: { shape: sample, dtype: 'float32' } },
    );
    const order = Uint32Array.from({ length: dataset.size }, (_, i) => i);
    const inMemory: Ort.Tensor[] = [];
    for await (const { x } of batches(dataset, order, { batchSize: batch }))
      inMemory.push(new ort.Tensor('float32', x.data as Float32Array, x.shape));
    const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 3 });
    const program = await engine.load(model, { threads, mode: 'infer' });
    const [logits] = describeOutputs(build());
    if (!logits) throw new Error(`${name} has no output`);
    const contenders = {
      plain: async () => {
        for (const x of inMemory) await session.run({ x });
      },
      octet: () =>
        collectOutputs(program, batches(dataset, order, { batchSize: batch }), {
          input: 'x',
          outputs: [{ output: logits, task: 'classification' }],
        }),
    };
    const rates: { plain: number; octet: number }[] = [];
    for (let round = -1; round < rounds; round++) {
      const measured = { plain: await rate(contenders.plain), octet: await rate(contenders.octet) };
      // The first round warms up.
      if (round >= 0) rates.push(measured);
    }
    rows.push([
      title,
      median(rates.map(({ plain }) => plain)).toFixed(0),
      median(rates.map(({ octet }) => octet)).toFixed(0),
      median(rates.map(({ plain, octet }) => octet / plain)).toFixed(2),
    ]);
    await program.dispose();
    await session.release();
    await dataset.close();
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const body = table([`Evaluation, batch ${batch}, ${threads} threads`, 'plain loop, samples/s', 'Octet, samples/s', 'Octet ÷ plain'], rows);
console.log(body);
if (values.append) {
  const command = `npm run bench -- evaluation --network ${values.network} --samples ${count} --batch ${batch} --threads ${threads} --rounds ${rounds}`;
  appendResults({ title: 'Evaluation', command, machine: machine(), versions: [`ONNX Runtime ${engine.version}`], body });
}
